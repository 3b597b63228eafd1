"""Letters that are seen: the pages of a Word document as they were laid out, in a typeface every viewer has."""

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby

from ocr_ops.core.reading import Page
from ocr_ops.runtime.outputs.blocks import Box, box, clean, words
from ocr_ops.runtime.outputs.pdf_file import DESCENT, PdfFile, numbers, to_unicode, visual

_WIDTHS = (
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),
    *(556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556),
    *(1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556),
    *(333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556),
    *(556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584),
)
"""Of Helvetica's characters from the space on, in thousandths of an em."""
_PUNCTUATION = {"\u2018": 222, "\u2019": 222, "“": 333, "”": 333, "—": 1000, "…": 1000, "•": 350}
_HELVETICA = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica"
_LATIN = "cp1252"
_MARKS = {
    "\u0300": "grave", "\u0301": "acute", "\u0302": "circumflex", "\u0303": "tilde", "\u0304": "macron",
    "\u0306": "breve", "\u0307": "dotaccent", "\u0308": "dieresis", "\u030a": "ring", "\u030b": "hungarumlaut",
    "\u030c": "caron", "\u0327": "cedilla", "\u0328": "ogonek", "\u0326": "commaaccent",
}  # fmt: skip
_NAMES = {
    "ł": "lslash", "Ł": "Lslash", "đ": "dcroat", "Đ": "Dcroat", "\u0131": "dotlessi", "ħ": "hbar", "Ħ": "Hbar",
    "\u03c2": "sigma1", "\u2212": "minus", "≤": "lessequal", "≥": "greaterequal", "≠": "notequal", "Ё": "afii10023",
    "ё": "afii10071",
}  # fmt: skip


class Letters:
    """Helvetica, which no viewer is without: in Windows' Latin alphabet, and of what that lacks in as many encodings
    of a byte as `texts` need. Each viewer shows of these what its own Helvetica has.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        others = sorted({char for text in texts for char in text if not char.encode(_LATIN, "ignore")})
        self._others = [others[start : start + 255] for start in range(0, len(others), 255)]
        self._places = {
            char: (font, code) for font, some in enumerate(self._others, 1) for code, char in enumerate(some, 1)
        }

    def add_to(self, pdf: PdfFile) -> str:
        """The entries of a page's fonts, which are added to `pdf`."""
        latin = [bytes([code]).decode(_LATIN, "replace") for code in range(32, 256)]
        fonts = [pdf.add(f"{_HELVETICA}/Encoding/WinAnsiEncoding/FirstChar 32{_widths(latin)}>>")]
        fonts += [_other(pdf, characters) for characters in self._others]
        return "".join(f"/H{font} {number} 0 R" for font, number in enumerate(fonts))

    def content(self, page: Page, width: float, height: float) -> str:
        """The operators that show a page on paper of so many points: its words, and the sides of its tables' cells."""
        scale = (width / max(page.width, 1), height / max(page.height, 1))
        cells = [cell.polygon for block in page.blocks if block.table for cell in block.table.cells]
        sides = [_box(box(polygon), scale, height) for polygon in cells]
        drawn = "".join(f"{numbers(x, y, wide, high)} re " for x, y, wide, high in sides)
        shown = "\n".join(self._words(page, scale, height))
        return f"q 0.5 w 0.6 G {drawn}S Q\nq BT\n{shown}\nET Q\n"

    def _words(self, page: Page, scale: tuple[float, float], height: float) -> Iterator[str]:
        for line in page.lines:
            for word in words(line):
                text = visual(clean(word.text))
                pen = sum(map(_width, text)) / 1000
                x, y, wide, high = _box(box(word.polygon), scale, height)
                if pen and wide and high:
                    matrix = numbers(wide / pen, 0, 0, high, x, y - high * DESCENT / 1000)
                    yield f"{matrix} Tm {self._shown(text + ' ')}"

    def _shown(self, text: str) -> str:
        """The operators of a text in one font after the other."""
        placed = [self._places.get(char) or (0, char.encode(_LATIN)[0]) for char in text]
        runs = groupby(placed, lambda place: place[0])
        return " ".join(f"/H{font} 1 Tf <{''.join(f'{code:02X}' for _, code in run)}> Tj" for font, run in runs)


def _box(extent: Box, scale: tuple[float, float], height: float) -> tuple[float, float, float, float]:
    """Left, lower side, width and height in points, of pixels that count downwards."""
    across, down = scale
    return extent.left * across, height - extent.bottom * down, extent.width * across, extent.height * down


def _other(pdf: PdfFile, characters: list[str]) -> int:
    """The number of a font of these characters, in their order from code 1 on."""
    rows = [f"<{code:02X}> <{char.encode('utf-16-be').hex()}>" for code, char in enumerate(characters, 1)]
    names = "".join(map(_name, characters))
    told = pdf.stream(to_unicode(rows, "00", "FF"))
    return pdf.add(
        f"{_HELVETICA}/Encoding<</Type/Encoding/Differences[1{names}]>>/FirstChar 1{_widths(characters)}"
        f"/ToUnicode {told} 0 R>>"
    )


def _widths(characters: list[str]) -> str:
    first = 32 if characters[0] == " " else 1
    return f"/LastChar {first + len(characters) - 1}/Widths[{' '.join(str(_width(char)) for char in characters)}]"


def _width(char: str) -> int:
    base = unicodedata.normalize("NFD", char)[0]
    if char in _PUNCTUATION:
        return _PUNCTUATION[char]
    if unicodedata.combining(char):
        return 0
    if " " <= base <= "~":
        return _WIDTHS[ord(base) - 32]
    return 1000 if unicodedata.east_asian_width(char) in "WF" else 556


def _name(char: str) -> str:
    """A character's name as the Adobe Glyph List has it, by which viewers find it in their typeface."""
    code = ord(char)
    named = unicodedata.name(char, "").split()
    parts = unicodedata.normalize("NFD", char)
    if char in _NAMES:
        name = _NAMES[char]
    elif len(parts) == 2 and parts[0].isascii() and parts[1] in _MARKS:
        name = parts[0] + _MARKS[parts[1]]
    elif 0x410 <= code <= 0x44F:
        small = code >= 0x430
        place = code - (0x430 if small else 0x410)
        name = f"afii{(10065 if small else 10017) + place + (place > 5)}"
    elif named[:1] == ["GREEK"] and named[2:3] == ["LETTER"] and "FINAL" not in named:
        word = named[3].lower() if named[1] == "SMALL" else named[3].capitalize()
        name = word + "".join(part.lower() for part in named[5:])
    else:
        name = f"uni{code:04X}" if code < 0x10000 else f"u{code:X}"
    return f"/{name}"
