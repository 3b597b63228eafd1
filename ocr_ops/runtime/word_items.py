"""What a Word document is made of: paragraphs, tables, pictures, breaks."""

from dataclasses import dataclass

TEXT_SIZE = 11.0
HEADING_SIZES = (22.0, 18.0, 15.0, 13.0, 12.0)
"""Points, of titles and of headings from the first level on; smaller ones are as large as the last."""
MOST_COLUMNS = 256
"""Of one table: Word's own have 63. Outputs have a place for each in every row, whatever stands there."""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, with its number or bullet if it has one."""

    text: str
    """Lines as they are parted by hand."""
    size: float = TEXT_SIZE
    heading: bool = False
    notes: tuple[str, ...] = ()
    """Footnotes that it refers to, for the foot of its page."""


@dataclass(frozen=True, slots=True)
class GridCell:
    text: str
    row: int
    column: int
    row_span: int = 1
    column_span: int = 1


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. Tables within its cells are text of those."""

    columns: int
    cells: tuple[GridCell, ...]
    widths: tuple[float, ...] = ()
    """Of its columns, beside each other; it may tell none, or more or fewer than it has."""
    notes: tuple[str, ...] = ()
    leftward: bool = False
    """Whether its first column is the rightmost."""


@dataclass(frozen=True, slots=True)
class Picture:
    data: bytes


class PageBreak:
    """What follows stands on another page."""


@dataclass(frozen=True, slots=True)
class SectionEnd:
    """The section that ends here is the next one of the document."""


Item = Text | Grid | Picture | PageBreak | SectionEnd
