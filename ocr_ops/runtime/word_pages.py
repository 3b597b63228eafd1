"""A Word document set onto pages of its paper: where its words could stand, for want of Word to set them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from math import sqrt
from typing import Literal, NamedTuple

from ocr_ops.core.reading import Block, Cell, Line, Page, Polygon, Table, Word
from ocr_ops.runtime.word_items import Grid, GridCell, Picture, Text

LEADING = 1.3
"""From line to line, in sizes."""
CELL_SIZE = 10.0
LEAST_CELL_SIZE = 7.0
"""Of tables with words too wide for their columns: such a word is then drawn narrower."""
NOTE_SIZE = 9.0
"""Of footnotes, and the largest of headers and footers."""
_PAD = 3.0
"""Points around the text of a cell."""
_WIDTHS = dict.fromkeys("ijl|.,:;'!I", 0.28) | dict.fromkeys('ftr()[]-/"', 0.36) | dict.fromkeys("mwMW@%", 0.88)
_SPACE = 0.28
_LEAST, _MOST = 72.0, 5000.0
"""Points: a side of the paper."""

_UNBROKEN = re.compile("[\u2e80-\U0010ffff]|[^\\s\u2e80-\U0010ffff]+")
"""What is never parted between lines: words, and each character of scripts that part no words."""
_LEFTWARD = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
"""Letters of scripts that are written from right to left: Hebrew, Arabic and others."""


class Placed(NamedTuple):
    """A word, or a part of one, of a line."""

    text: str
    begin: float
    end: float
    """Points."""
    goes_on: bool = False
    """Whether it is the rest of the word before it."""


Row = list[Placed]
"""A line."""
Margins = tuple[Sequence[Text | Picture], Sequence[Text | Picture]]
"""Header and footer."""


@dataclass(frozen=True, slots=True)
class Paper:
    """Points."""

    width: float = 595.0
    height: float = 842.0
    left: float = 72.0
    right: float = 72.0
    top: float = 72.0
    bottom: float = 72.0

    @property
    def sane(self) -> "Paper":
        """The same within bounds, with room for text and for what stands above and below it."""
        width, height = (min(max(side, _LEAST), _MOST) for side in (self.width, self.height))
        left, right = (min(max(margin, 0.0), 0.35 * width) for margin in (self.left, self.right))
        top, bottom = (min(max(margin, 0.05 * height), 0.35 * height) for margin in (self.top, self.bottom))
        return Paper(width, height, left, right, top, bottom)


@dataclass(slots=True)
class Setter:
    """Sets texts and tables one under the other, and gives each page when it is full."""

    paper: Paper
    scale: float
    """Pixels a point."""
    margins: Margins = ((), ())
    first: Margins | None = None
    """Of the first page, where they are others."""
    even: Margins | None = None
    """Of pages of even numbers, where they are others."""
    number: int = 1
    """Of the first page."""
    count: int = 0
    """Pages given."""
    lines: list[Line] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    y: float = 0.0
    """Points from the top of the page to where the next line goes."""
    empty: bool = True
    """Whether the page has no more than a header."""
    notes: list[list[Row]] = field(default_factory=list)
    """The lines of each footnote that is still to be set."""
    pictures: list[bytes] = field(default_factory=list)
    """In the headers and footers of the pages given."""

    def __post_init__(self) -> None:
        self._begin()

    @property
    def _wide(self) -> float:
        return self.paper.width - self.paper.left - self.paper.right

    @property
    def _room(self) -> float:
        return self.paper.height - self.paper.bottom - self.y - self._noted

    @property
    def _noted(self) -> float:
        """Points that the foot of the page is given for footnotes: those beyond stand on the next."""
        most = (self.paper.height - self.paper.top - self.paper.bottom) / 2
        return min(sum((LEADING * len(rows) + 0.4) * NOTE_SIZE for rows in self.notes), most)

    @property
    def _margins(self) -> Margins:
        if self.first is not None and not self.count:
            return self.first
        return self.margins if self.even is None or (self.number + self.count) % 2 else self.even

    def text(self, item: Text) -> Iterator[Page]:
        """A paragraph; yields the pages that it fills."""
        self._note(item.notes)
        pitch = LEADING * item.size
        rows = wrapped(item.text, item.size, self._wide)
        while rows:
            fit = int(self._room / pitch)
            if fit < 1 and not self.empty:
                yield self.page()
                continue
            self._paragraph(rows[: max(fit, 1)], item)
            rows = rows[max(fit, 1) :]

    def table(self, grid: Grid) -> Iterator[Page]:
        """A table, with a part on each page; yields the pages that it fills."""
        if not grid.cells:
            return
        self._note(grid.notes)
        tall = self.paper.height - self.paper.top - self.paper.bottom
        edges = _edges(grid, self._wide)
        size = _size(grid, edges)
        rows = list(_rows(grid, edges, size, int((tall - 2 * _PAD) / (LEADING * size))))
        while rows:
            fit, used = 0, 0.0
            while fit < len(rows) and used + rows[fit].height <= self._room:
                used += rows[fit].height
                fit += 1
            if not fit and not self.empty:
                yield self.page()
                continue
            self._table(rows[: max(fit, 1)], edges, size, leftward=grid.leftward)
            rows = rows[max(fit, 1) :]

    def page(self) -> Page:
        """The page as it is, and another begun."""
        self._foot()
        self.y = self.paper.height - 0.6 * self.paper.bottom
        self._margin(self._margins[1], self.paper.bottom)
        self.pictures += (item.data for items in self._margins for item in items if isinstance(item, Picture))
        width, height = (max(1, round(side * self.scale)) for side in (self.paper.width, self.paper.height))
        page = Page(width=width, height=height, source="text-layer", lines=tuple(self.lines), blocks=tuple(self.blocks))
        self.lines, self.blocks, self.count = [], [], self.count + 1
        self._begin()
        self.empty = not self.notes
        return page

    def rest(self) -> Iterator[Page]:
        """What is not given yet."""
        while not self.empty:
            yield self.page()

    def _note(self, notes: Sequence[str]) -> None:
        self.notes += filter(None, (wrapped(note, NOTE_SIZE, self._wide) for note in notes))

    def _foot(self) -> None:
        """Sets as many footnotes as there is room for, down to the margin."""
        bottom = self.paper.height - self.paper.bottom
        self.y = max(self.y, bottom - self._noted)
        while self.notes and (fit := int((bottom - self.y) / (LEADING * NOTE_SIZE) + 1e-6)) > 0:
            rows = self.notes.pop(0)
            self._paragraph(rows[:fit], Text("", NOTE_SIZE))
            if rows[fit:]:
                self.notes.insert(0, rows[fit:])

    def _begin(self) -> None:
        self.y = 0.4 * self.paper.top
        self._margin(self._margins[0], self.paper.top)
        self.y, self.empty = self.paper.top, True

    def _margin(self, items: Sequence[Text | Picture], deep: float) -> None:
        """A header or footer, all of it, made small enough for the part of its margin that it has."""
        size, room = NOTE_SIZE, 0.6 * deep
        said = [item.text for item in items if isinstance(item, Text)]
        while True:
            texts = [rows for text in said if (rows := wrapped(text, size, self._wide))]
            need = size * (LEADING * sum(map(len, texts)) + 0.4 * max(0, len(texts) - 1))
            if need <= room:
                break
            size *= min(0.95, sqrt(room / need))  # smaller letters need fewer rows as well
        for rows in texts:
            self._paragraph(rows, Text("", size))

    def _paragraph(self, rows: Sequence[Row], item: Text) -> None:
        first, pitch = len(self.lines), LEADING * item.size
        for row in rows:
            self._line(row, self.paper.left, self.y, item.size)
            self.y += pitch
        self._block("heading" if item.heading else "text", first)
        self.y += 0.4 * item.size
        self.empty = False

    def _line(self, row: Row, left: float, top: float, size: float) -> None:
        words = tuple(
            Word(text=text, confidence=1.0, polygon=self._box(left + begin, top, left + end, top + size))
            for text, begin, end, _ in row
        )
        begin, end = min(placed.begin for placed in row), max(placed.end for placed in row)
        outline = self._box(left + begin, top, left + end, top + size)
        text = " ".join(word.text for word in words)
        self.lines.append(Line(text=text, confidence=1.0, polygon=outline, words=words))

    def _block(self, kind: Literal["text", "heading", "table"], first: int, table: Table | None = None) -> None:
        lines = self.lines[first:]
        if lines:
            x, y = zip(*(point for line in lines for point in line.polygon), strict=True)
            outline = ((min(x), min(y)), (max(x), min(y)), (max(x), max(y)), (min(x), max(y)))
            places = tuple(range(first, len(self.lines)))
            self.blocks.append(Block(kind=kind, confidence=1.0, polygon=outline, lines=places, table=table))

    def _table(self, rows: Sequence["_Row"], edges: Sequence[float], size: float, *, leftward: bool) -> None:
        first = len(self.lines)
        tops = list(accumulate((row.height for row in rows), initial=self.y))
        cells = []
        for index, row in enumerate(rows):
            for cell, lines in row.cells:
                span = min(cell.row_span, len(rows) - index)
                begin, end = _sides(cell, edges)
                if leftward:
                    begin, end = edges[-1] - end, edges[-1] - begin
                left = self.paper.left + begin
                outline = self._box(left, tops[index], self.paper.left + end, tops[index + span])
                words: list[tuple[int, int]] = []
                for number, line in enumerate(lines):
                    words += ((len(self.lines), word) for word in range(len(line)))
                    top = tops[index] + _PAD + number * LEADING * size
                    self._line(line, left + _pad(end - begin), top, size)
                cells.append(
                    Cell(
                        row=index,
                        column=cell.column,
                        row_span=span,
                        column_span=cell.column_span,
                        text=_said(lines),
                        polygon=outline,
                        words=tuple(words),
                    )
                )
        self._block("table", first, Table(rows=len(rows), columns=len(edges) - 1, cells=tuple(cells)))
        self.y = tops[-1] + 0.4 * size
        self.empty = False

    def _box(self, left: float, top: float, right: float, bottom: float) -> Polygon:
        """Pixels, on the page."""
        x0, x1 = (round(min(max(x, 0.0), self.paper.width) * self.scale, 1) for x in (left, right))
        y0, y1 = (round(min(max(y, 0.0), self.paper.height) * self.scale, 1) for y in (top, bottom))
        return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def wrapped(text: str, size: float, wide: float) -> list[Row]:
    """A text's lines, none wider than `wide` points: a word that is wider is drawn narrower, and stays one."""
    rows: list[Row] = []
    for line in text.split("\n"):
        first, row = len(rows), Row()
        x = 0.0
        for word in line.split():
            for number, (part, length) in enumerate(_parts(word, size, wide)):
                if row and x + length > wide:
                    rows.append(row)
                    row, x = [], 0.0
                row.append(Placed(part, x, x + length, goes_on=number > 0))
                x += length + _SPACE * size
        if row:
            rows.append(row)
        if _LEFTWARD.search(line):
            begun = next(map(_leftward, filter(_strong, line.split())), False)
            rows[first:] = [_turned(row, begun, wide, _SPACE * size) for row in rows[first:]]
    return rows


def _turned(row: Row, leftward: bool, wide: float, space: float) -> Row:
    """A line in whose text there is Hebrew or Arabic: its words in their order still, each where it stands.

    `leftward` is the way that its text begins.
    """
    told = [_leftward(placed.text) if _strong(placed.text) else None for placed in row]

    def nearest(way: bool, other: bool | None) -> bool:
        return way if other is None else other

    # Figures and marks go with the words around them, if those go one way.
    before = [*accumulate(told, nearest, initial=leftward)][1:]
    after = [*accumulate(reversed(told), nearest, initial=leftward)][:0:-1]
    ways = [one if one == other else leftward for one, other in zip(before, after, strict=True)]
    runs = [list(run) for _, run in groupby(range(len(row)), ways.__getitem__)]
    turned = list(row)
    x = wide - row[-1].end if leftward else 0.0
    for run in reversed(runs) if leftward else runs:
        for place in reversed(run) if ways[run[0]] else run:
            length = row[place].end - row[place].begin
            turned[place] = row[place]._replace(begin=x, end=x + length)
            x += length + space
    return turned


def _leftward(word: str) -> bool:
    return _LEFTWARD.search(word) is not None


def _strong(word: str) -> bool:
    return any(map(str.isalpha, word))


def width(word: str, size: float) -> float:
    """Points, in a type like any other."""
    return size * sum(_WIDTHS.get(char, 0.52 if ord(char) < 0x2E80 else 1.0) for char in word)


def _parts(word: str, size: float, wide: float) -> Iterator[tuple[str, float]]:
    """A word and its width, or the lines it fills where its script may be parted anywhere."""
    part, used = "", 0.0
    for piece in [word] if width(word, size) <= wide else _UNBROKEN.findall(word):
        length = min(width(piece, size), wide)
        if part and used + length > wide:
            yield part, used
            part, used = "", 0.0
        part, used = part + piece, used + length
    yield part, used


def _said(lines: Sequence[Row]) -> str:
    text = ""
    for placed in (placed for line in lines for placed in line):
        text += placed.text if placed.goes_on or not text else f" {placed.text}"
    return text


@dataclass(slots=True)
class _Row:
    """A row of a table, or the part of one that fits on a page."""

    height: float
    cells: list[tuple[GridCell, list[Row]]]


def _edges(grid: Grid, wide: float) -> list[float]:
    """Where columns begin, and the last one ends, in `wide` points: as the document has it, none next to nothing."""
    given = grid.widths[: grid.columns]
    shares: Sequence[float] = given if len(given) == grid.columns and any(given) else (1.0,) * grid.columns
    least = 0.2 * sum(shares) / grid.columns
    edges = list(accumulate((max(share, least) for share in shares), initial=0.0))
    return [wide * edge / edges[-1] for edge in edges]


def _sides(cell: GridCell, edges: Sequence[float]) -> tuple[float, float]:
    return edges[cell.column], edges[cell.column + cell.column_span]


def _pad(wide: float) -> float:
    return min(_PAD, 0.1 * wide)


def _room(cell: GridCell, edges: Sequence[float]) -> float:
    """Points that a cell's lines may be wide."""
    begin, end = _sides(cell, edges)
    return end - begin - 2 * _pad(end - begin)


def _size(grid: Grid, edges: Sequence[float]) -> float:
    """Of a table's letters: small enough for its widest words, if that is not too small."""
    fit = (
        _room(cell, edges) / max(width(word, 1) for word in words)
        for cell in grid.cells
        if (words := _UNBROKEN.findall(cell.text))
    )
    return max(LEAST_CELL_SIZE, min((*fit, CELL_SIZE)))


def _rows(grid: Grid, edges: Sequence[float], size: float, most: int) -> Iterator[_Row]:
    """The rows of a table; of more than `most` lines, several."""
    last = max(cell.row + cell.row_span for cell in grid.cells)
    cells: list[list[tuple[GridCell, list[Row]]]] = [[] for _ in range(last)]
    for cell in grid.cells:
        cells[cell.row].append((cell, wrapped(cell.text, size, _room(cell, edges))))
    for row in cells:
        deepest = max((-(-len(lines) // cell.row_span) for cell, lines in row), default=1) or 1
        steps = [*range(0, deepest, max(most, 1)), deepest]
        for start, end in pairwise(steps):
            part = [(cell, lines[start : end if end < deepest else None]) for cell, lines in row]
            yield _Row((end - start) * LEADING * size + 2 * _PAD, part)
