"""Born-digital PDFs as labelled pages: rendered by pdfium, labelled by their own text layer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pypdfium2
from numpy.typing import NDArray

from ocr_ops.core.errors import BadInput
from ocr_ops.data.render_sheet import Segment
from ocr_ops.runtime.pdf import PDFIUM_LOCK, POINTS_AN_INCH
from ocr_ops.runtime.pdf_text import Letter, box, extent, letters_of, lines_of, text_of, words_of


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
        letters = letters_of(page, layer, image.shape[1], image.shape[0])
    lines = [line for line in lines_of(letters) if _visible(line, image)]
    return PdfPage(
        image,
        tuple(_segment(line) for line in lines),
        text,
        tuple(_words(line) for line in lines),
    )


def _opened(path: Path) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(path)
    except (pypdfium2.PdfiumError, OSError) as error:
        raise BadInput(path, str(error), "a PDF", "mend it, or take it away") from None


def _segment(line: list[Letter]) -> Segment:
    x0, y0, x1, y1 = box(line)
    return Segment(np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), np.float32), text_of(line))


def _words(line: list[Letter]) -> tuple[tuple[float, float], ...]:
    return tuple((left, right) for left, _, right, _ in map(extent, words_of(line)))


def _visible(line: list[Letter], image: NDArray[np.uint8]) -> bool:
    """Whether the page shows something where the line should stand: text layers also hold what is not printed."""
    x0, y0, x1, y1 = (round(side) for side in extent(line))
    part = image[max(0, y0) : max(0, y1) + 1, max(0, x0) : max(0, x1) + 1]
    return part.size > 0 and int(part.max()) - int(part.min()) > 40
