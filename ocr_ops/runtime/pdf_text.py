"""The text layer of a PDF page: its letters, where they stand, and the runs of words they make on a line."""

import ctypes
import math
import unicodedata
from dataclasses import dataclass

import pypdfium2
from pypdfium2 import raw

SAME_LINE = 0.4
"""Share of the lower one's height by which a letter overlaps the line it belongs to."""
FLAT = 0.4
"""Least height of a line's box in sizes of its font: a dash is cut as high as its line."""
SPLIT_GAP = 1.3
"""Words further apart than this, in heights of the line, are two segments."""
MARGIN = 0.11
"""Paper kept around the ink of a segment, in heights of it."""
_RAISED, _LOWERED = frozenset("\"'`´^*°“”‘’″′"), frozenset(",._…‚„")  # noqa: RUF001
_HALF = 0.35
"""Of the height of capitals, in sizes of the font: as far from their middle are marks that stand high or low."""
_ASKEW = 10.0
"""Degrees off the level, or off the plumb, beyond which text is neither."""
_WRITTEN_OUT = str.maketrans(
    {
        "\N{LATIN SMALL LIGATURE FF}": "ff",
        "\N{LATIN SMALL LIGATURE FI}": "fi",
        "\N{LATIN SMALL LIGATURE FL}": "fl",
        "\N{LATIN SMALL LIGATURE FFI}": "ffi",
        "\N{LATIN SMALL LIGATURE FFL}": "ffl",
        "\N{LATIN SMALL LIGATURE LONG S T}": "ft",
        "\N{LATIN SMALL LIGATURE ST}": "st",
        "\N{NO-BREAK SPACE}": " ",
        "\N{SOFT HYPHEN}": "-",
        "\N{HYPHEN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{MINUS SIGN}": "-",
        "\ufffe": "-",  # what pdfium makes of a hyphen at a line's end
    }
)
_LAM, _ALEFS = "\N{ARABIC LETTER LAM}", "\u0622\u0623\u0625\u0627"
"""They are written as one sign, the lam first, whatever stands on the alef."""
Extent = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(slots=True)
class Letter:
    char: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    """Of the font, pixels."""
    turn: int | None = 0
    """Quarter turns clockwise from upright; None for text askew."""
    font: int = 0
    """Which of the page's fonts."""
    hidden: bool = False
    """Not painted: the text that was recognized in a scan."""
    unknown: bool = False
    """The font does not tell which character it is."""


def letters_of(page: pypdfium2.PdfPage, layer: pypdfium2.PdfTextPage, width: int, height: int) -> list[Letter]:
    """A page's letters in reading order, in pixels of its picture of `width` x `height`; a space has no extent.

    Call it under PDFium's lock.
    """
    letters = []
    x, y = ctypes.c_int(), ctypes.c_int()

    def place(points: tuple[float, float]) -> tuple[float, float]:
        # Sixteen times finer than pixels, because pdfium answers in whole numbers.
        raw.FPDF_PageToDevice(page, 0, 0, width * 16, height * 16, 0, *points, x, y)
        return x.value / 16, y.value / 16

    objects, scale = _Objects(page, layer), width / page.get_width()
    for index in range(layer.count_chars()):
        code = raw.FPDFText_GetUnicode(layer, index)
        char = chr(code) if 0 < code < 0xD800 or 0xE000 <= code < 0x110000 else "\ufffd"
        if char in "\r\n":
            letters.append(Letter("\n", 0, 0, 0, 0, 0))
            continue
        if char.isspace() or char == "\N{NO-BREAK SPACE}":
            letters.append(Letter(" ", 0, 0, 0, 0, 0))
            continue
        a, b, c, d = layer.get_charbox(index)
        (x0, y0), (x1, y1) = place((a, b)), place((c, d))
        enlarged, turn, font, hidden = objects.of(index)
        size = float(raw.FPDFText_GetFontSize(layer, index)) * enlarged * scale
        unknown = char == "\ufffd" or raw.FPDFText_HasUnicodeMapError(layer, index) == 1
        sides = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        if char == _LAM and letters and letters[-1].char in _ALEFS and _sides(letters[-1]) == sides:
            letters[-1].char, char = char, letters[-1].char  # pdfium turns them round with the line they stand in
        letters.append(Letter(char, *sides, size, turn, font, hidden, unknown))
    return letters


class _Objects:
    """What a page's letters have in common with the others of their text object."""

    def __init__(self, page: pypdfium2.PdfPage, layer: pypdfium2.PdfTextPage) -> None:
        self.layer = layer
        self.rotation = page.get_rotation()
        self.known: dict[int | None, tuple[float, int | None, int, bool]] = {None: (1, 0, 0, False)}
        self.matrix = raw.FS_MATRIX()

    def of(self, index: int) -> tuple[float, int | None, int, bool]:
        """By how much the page enlarges its font's size, and `Letter.turn`, `font` and `hidden`."""
        item = raw.FPDFText_GetTextObject(self.layer, index)
        address = ctypes.cast(item, ctypes.c_void_p).value
        if address not in self.known:
            raw.FPDFText_GetMatrix(self.layer, index, self.matrix)
            degrees = self.rotation - math.degrees(math.atan2(self.matrix.b, self.matrix.a))
            turn = round(degrees / 90)
            font = ctypes.cast(raw.FPDFTextObj_GetFont(item), ctypes.c_void_p).value or 0
            hidden = raw.FPDFTextObj_GetTextRenderMode(item) == raw.FPDF_TEXTRENDERMODE_INVISIBLE
            enlarged = math.hypot(self.matrix.c, self.matrix.d)
            self.known[address] = (enlarged, turn % 4 if abs(degrees - 90 * turn) < _ASKEW else None, font, hidden)
        return self.known[address]


def _sides(letter: Letter) -> Extent:
    return letter.left, letter.top, letter.right, letter.bottom


def lines_of(letters: list[Letter]) -> list[list[Letter]]:
    """Letters grouped into segments, left to right, spaces between words kept."""
    lines: list[list[Letter]] = []
    line: list[Letter] = []
    last, top, bottom = letters[0] if letters else Letter("", 0, 0, 0, 0, 0), 0.0, 0.0
    space = False
    for letter in letters:
        if letter.char == "\n":
            line, space = [], False
        elif letter.char == " ":
            space = bool(line)
        elif letter.right > letter.left or letter.bottom > letter.top:
            if not line or not _continues(last, bottom - top, letter):
                line, space = [], False
                lines.append(line)
                top, bottom = letter.top, letter.bottom
            if space:
                line.append(Letter(" ", 0, 0, 0, 0, 0))
                space = False
            line.append(letter)
            last, top, bottom = letter, min(top, letter.top), max(bottom, letter.bottom)
    return lines


def _continues(last: Letter, height: float, letter: Letter) -> bool:
    """Whether `letter` follows on a line of this height: beside its last letter, no further than a segment's gap."""
    height = max(height, FLAT * letter.size, 1.0)
    gap = letter.left - last.right
    apart = min(abs(_centre(letter) - _centre(last)), abs(_middle(letter) - _middle(last)))
    near = apart < max(height, letter.bottom - letter.top) * (1 - SAME_LINE)
    if near and abs(letter.left - last.left) < 1:  # two characters of one ligature
        return True
    return near and -0.7 * height < gap < SPLIT_GAP * max(height, 0.7 * letter.size)


def _centre(letter: Letter) -> float:
    return (letter.top + letter.bottom) / 2


def _middle(letter: Letter) -> float:
    """The centre of a letter, or of one that would stand upright where a mark stands high or low."""
    half = max(_HALF * letter.size, (letter.bottom - letter.top) / 2)
    if letter.char in _RAISED:
        return letter.top + half
    return letter.bottom - half if letter.char in _LOWERED else _centre(letter)


def extent(line: list[Letter]) -> Extent:
    """What the letters of a line take up."""
    solid = [letter for letter in line if letter.char != " "]
    return (
        min(letter.left for letter in solid),
        min(letter.top for letter in solid),
        max(letter.right for letter in solid),
        max(letter.bottom for letter in solid),
    )


def box(line: list[Letter]) -> Extent:
    """The segment with the margin that all labelled segments of the toolkit have."""
    x0, y0, x1, y1 = extent(line)
    sizes = sorted(letter.size for letter in line if letter.char != " ")
    least = FLAT * (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2
    pad = MARGIN * max(y1 - y0, least)
    y = pad + max(0.0, least - (y1 - y0)) / 2
    return x0 - pad, y0 - y, x1 + pad, y1 + y


def text_of(line: list[Letter]) -> str:
    """As it is read, single spaces between words; letters no character stands for are `U+FFFD`."""
    text = "".join(letter.char for letter in line).translate(_WRITTEN_OUT)
    text = "".join("\ufffd" if unicodedata.category(char) in {"Cc", "Co", "Cn"} else char for char in text)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def words_of(line: list[Letter]) -> list[list[Letter]]:
    """The letters of each word."""
    words: list[list[Letter]] = [[]]
    for letter in line:
        if letter.char == " ":
            words.append([])
        else:
            words[-1].append(letter)
    return [word for word in words if word]
