"""What a reading is: pages of lines of words. The CLI, the service and the scores share these."""

from typing import Annotated

from pydantic import Field

from ocr_ops.core.record import Value

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in page pixels, origin top-left, clockwise from the text's top-left corner."""

Confidence = Annotated[float, Field(ge=0, le=1)]


class Word(Value):
    text: str
    confidence: Confidence
    polygon: Polygon


class Line(Value):
    text: str
    confidence: Confidence
    polygon: Polygon
    words: tuple[Word, ...]


class Page(Value):
    """Width and height in pixels, as the page was read."""

    width: int
    height: int
    lines: tuple[Line, ...]

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


class Reading(Value):
    """The answer of `POST /v1/ocr`, and with `path` one line of `ocr-ops read --format json`."""

    pages: tuple[Page, ...]

    @property
    def text(self) -> str:
        """The document as plain text; pages are parted by a form feed, as pdftotext does."""
        return "\f".join(page.text for page in self.pages)
