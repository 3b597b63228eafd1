"""Born-digital PDFs as labelled pages: rendered by pdfium, labelled by their own text layer."""

import ctypes
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pypdfium2
from numpy.typing import NDArray
from pypdfium2 import raw

from ocr_ops.core.errors import BadInput
from ocr_ops.data.render_sheet import MARGIN, SPLIT_GAP, Segment
from ocr_ops.runtime.pdf import PDFIUM_LOCK

POINTS_AN_INCH = 72
SAME_LINE = 0.4
"""Share of the lower one's height by which a letter overlaps the line it belongs to."""
FLAT = 0.4
"""Least height of a line's box in sizes of its font: a dash is cut as high as its line."""
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


@dataclass(frozen=True, slots=True)
class PdfPage:
    image: NDArray[np.uint8]
    """(h, w, 3) RGB."""
    segments: tuple[Segment, ...]
    """Runs of words on one line, boxes in pixels; letters no character stands for are `U+FFFD`."""
    text: str
    """The text layer inside the CropBox, as pdfium orders it."""
    words: tuple[tuple[tuple[float, float], ...], ...]
    """For each segment its words' extents (first and last x, pixels), left to right."""


@dataclass(slots=True)
class _Letter:
    char: str
    left: float
    top: float
    right: float
    bottom: float
    size: float
    """Of the font, pixels."""


def page_count(path: Path) -> int:
    """Pages of a PDF. Raises `BadInput` when it cannot be opened."""
    with PDFIUM_LOCK, _opened(path) as document:
        return len(document)


def pdf_page(path: Path, number: int = 0, dpi: float = 150) -> PdfPage:
    """Page `number` (from 0) at `dpi`, with its level text lines as segments.

    A line is parted where a gap is wider than a segment has; upright letters only. Raises `BadInput` when the file
    cannot be opened or has no such page.
    """
    with PDFIUM_LOCK, _opened(path) as document:
        if number >= len(document):
            raise BadInput(path, f"{len(document)} pages", f"page {number + 1}", "name a page it has")
        page = document[number]
        scale = dpi / POINTS_AN_INCH
        image = np.asarray(page.render(scale=scale).to_pil().convert("RGB"), np.uint8)
        layer = page.get_textpage()
        left, bottom, right, top = page.get_cropbox()
        text = layer.get_text_bounded(left, bottom, right, top)
        letters = _letters(page, layer, image.shape[1], image.shape[0])
    lines = [line for line in _lines(letters) if _visible(line, image)]
    return PdfPage(
        image,
        tuple(Segment(_box(line), _text(line)) for line in lines),
        text,
        tuple(_words(line) for line in lines),
    )


def _opened(path: Path) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(path)
    except (pypdfium2.PdfiumError, OSError) as error:
        raise BadInput(path, str(error), "a PDF", "mend it, or take it away") from None


def _letters(page: pypdfium2.PdfPage, layer: pypdfium2.PdfTextPage, width: int, height: int) -> list[_Letter]:
    """The page's letters in reading order, in pixels; a space has no extent."""
    letters = []
    x, y = ctypes.c_int(), ctypes.c_int()

    def place(points: tuple[float, float]) -> tuple[float, float]:
        # Sixteen times finer than pixels, because pdfium answers in whole numbers.
        raw.FPDF_PageToDevice(page, 0, 0, width * 16, height * 16, 0, *points, x, y)
        return x.value / 16, y.value / 16

    for index in range(layer.count_chars()):
        code = raw.FPDFText_GetUnicode(layer, index)
        char = chr(code) if 0 < code < 0xD800 or 0xE000 <= code < 0x110000 else "\ufffd"
        if char in "\r\n":
            letters.append(_Letter("\n", 0, 0, 0, 0, 0))
            continue
        if char.isspace() or char == "\N{NO-BREAK SPACE}":
            letters.append(_Letter(" ", 0, 0, 0, 0, 0))
            continue
        a, b, c, d = layer.get_charbox(index)
        (x0, y0), (x1, y1) = place((a, b)), place((c, d))
        size = raw.FPDFText_GetFontSize(layer, index)
        letters.append(
            _Letter(char, min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1), float(size) * width / page.get_width())
        )
    return letters


def _lines(letters: list[_Letter]) -> list[list[_Letter]]:
    """Letters grouped into segments, left to right, spaces between words kept."""
    lines: list[list[_Letter]] = []
    line: list[_Letter] = []
    space = False

    def close() -> None:
        nonlocal line, space
        if line:
            lines.append(line)
        line, space = [], False

    for letter in letters:
        if letter.char == "\n":
            close()
        elif letter.char == " ":
            space = bool(line)
        elif letter.right > letter.left or letter.bottom > letter.top:
            if line and not _continues(line, letter):
                close()
            if space:
                line.append(_Letter(" ", 0, 0, 0, 0, 0))
                space = False
            line.append(letter)
    close()
    return lines


def _continues(line: list[_Letter], letter: _Letter) -> bool:
    """Whether `letter` follows on the line: beside its last letter, no further than a segment's gap."""
    solid = [other for other in line if other.char != " "]
    last = solid[-1]
    height = max(_extent(solid)[3] - _extent(solid)[1], FLAT * letter.size, 1.0)
    gap = letter.left - last.right
    centre, middle = (letter.top + letter.bottom) / 2, (last.top + last.bottom) / 2
    near = abs(centre - middle) < max(height, letter.bottom - letter.top) * (1 - SAME_LINE)
    if near and abs(letter.left - last.left) < 1:  # two characters of one ligature
        return True
    return near and -0.7 * height < gap < SPLIT_GAP * max(height, 0.7 * letter.size)


def _extent(line: list[_Letter]) -> tuple[float, float, float, float]:
    solid = [letter for letter in line if letter.char != " "]
    return (
        min(letter.left for letter in solid),
        min(letter.top for letter in solid),
        max(letter.right for letter in solid),
        max(letter.bottom for letter in solid),
    )


def _box(line: list[_Letter]) -> NDArray[np.float32]:
    """The segment's box with the margin all labelled segments of the toolkit have, float32 (4, 2)."""
    x0, y0, x1, y1 = _extent(line)
    least = FLAT * float(np.median([letter.size for letter in line if letter.char != " "]))
    pad = MARGIN * max(y1 - y0, least)
    y = pad + max(0.0, least - (y1 - y0)) / 2
    x0, y0, x1, y1 = x0 - pad, y0 - y, x1 + pad, y1 + y
    return np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), np.float32)


def _text(line: list[_Letter]) -> str:
    text = "".join(letter.char for letter in line).translate(_WRITTEN_OUT)
    text = "".join("\ufffd" if unicodedata.category(char) in {"Cc", "Co", "Cn"} else char for char in text)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _words(line: list[_Letter]) -> tuple[tuple[float, float], ...]:
    words: list[list[_Letter]] = [[]]
    for letter in line:
        if letter.char == " ":
            words.append([])
        else:
            words[-1].append(letter)
    return tuple((extent[0], extent[2]) for word in words if word for extent in [_extent(word)])


def _visible(line: list[_Letter], image: NDArray[np.uint8]) -> bool:
    """Whether the page shows something where the line should stand: text layers also hold what is not printed."""
    x0, y0, x1, y1 = (round(side) for side in _extent(line))
    part = image[max(0, y0) : max(0, y1) + 1, max(0, x0) : max(0, x1) + 1]
    return part.size > 0 and int(part.max()) - int(part.min()) > 40
