"""What a reading is: pages of lines of words. The CLI, the service and the scores share these."""

from typing import Annotated, Literal

from pydantic import Field

from ocr_ops.core.record import Value

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in page pixels, origin top-left, clockwise from the text's top-left corner."""

Confidence = Annotated[float, Field(ge=0, le=1)]

Orientation = Literal[0, 90, 180, 270]
"""Degrees by which a page is turned clockwise from upright."""


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
    """Width and height in pixels, and orientation, of the page as it was given; so are all polygons."""

    width: int
    height: int
    orientation: Orientation = 0
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
