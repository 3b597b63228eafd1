"""Plain text in reading order: blank lines between blocks, a form feed between pages, as pdftotext has them."""

from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime.outputs.blocks import blocks, clean, lines


def text(reading: Reading) -> str:
    """Every line of print is a line; the last one ends with a line feed, too."""
    return "\f".join(map(_page, reading.pages))


def _page(page: Page) -> str:
    paragraphs = ("".join(f"{clean(line.text)}\n" for line in lines(page, block)) for block in blocks(page))
    return "\n".join(paragraphs)
