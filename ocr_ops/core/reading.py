"""What a reading is: pages of lines of words, and how the lines hang together. The CLI and the service share these."""

from typing import Annotated, Literal

from pydantic import Field

from ocr_ops.core.record import Told

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in page pixels, origin top-left, clockwise from the text's top-left corner."""

Confidence = Annotated[float, Field(ge=0, le=1)]

Count = Annotated[int, Field(ge=0)]

Orientation = Literal[0, 90, 180, 270]
"""Degrees by which a page is turned clockwise from upright."""

Source = Literal["ocr", "text-layer", "mixed"]
"""Where a page's text is from: its pixels, the document's own text, or both."""


class Word(Told):
    text: str
    confidence: Confidence
    polygon: Polygon


class Line(Told):
    text: str
    confidence: Confidence
    polygon: Polygon
    words: tuple[Word, ...]


class Cell(Told):
    """A cell of a table; rows and columns count from 0."""

    row: Count
    column: Count
    row_span: Annotated[int, Field(ge=1)] = 1
    column_span: Annotated[int, Field(ge=1)] = 1
    text: str
    polygon: Polygon
    words: tuple[tuple[Count, Count], ...]
    """Index of the page's line and of the word in it, for each word of the cell."""


class Table(Told):
    rows: Count
    columns: Count
    cells: tuple[Cell, ...]
    """Row by row; places without a cell are empty."""


class Block(Told):
    """A paragraph, a heading or a table: lines that belong together."""

    kind: Literal["text", "heading", "table"]
    confidence: Confidence
    polygon: Polygon
    lines: tuple[Count, ...]
    """Indices of the page's lines, in reading order."""
    table: Table | None = None
    """Of a table only."""


class Page(Told):
    """Width and height in pixels, and orientation, of the page as it was given; so are all polygons."""

    number: Annotated[int, Field(ge=1)] = 1
    """In the document, counted from 1."""
    of: Annotated[int, Field(ge=1)] | None = None
    """How many pages were asked for, where that is known."""
    width: int
    height: int
    orientation: Orientation = 0
    source: Source = "ocr"
    lines: tuple[Line, ...]
    """In reading order."""
    blocks: tuple[Block, ...] = ()
    """In reading order. Every line is in exactly one of them."""

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


class Reading(Told):
    """The answer of `POST /v1/ocr`, and with `path` one line of `ocr-ops read --format json`."""

    pages: tuple[Page, ...]
    language: str | None = Field(default=None, exclude_if=lambda tag: tag is None)
    """BCP 47 tag, where the reader was told one."""

    @property
    def text(self) -> str:
        """The document as plain text; pages are parted by a form feed, as pdftotext does."""
        return "\f".join(page.text for page in self.pages)
