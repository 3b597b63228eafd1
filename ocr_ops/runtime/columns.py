"""Columns: a page's words parted into regions, in the order in which people read them.

A page is cut recursively. Where a strip of white runs down between two columns of text, the region is cut into what
stands above the strip, its two sides, and what stands below: so headings across all columns come before the columns
below them. White between the columns of a table or of a receipt is no such strip: there, rows are read across.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]

CELL = 0.25
"""Width of a cell of the grid in which white is looked for, in heights of the page's lines; it is twice as high."""
MOST_CELLS = 700
"""Each way: of larger grids the cells grow."""
STRIPS = ((0.45, 7.0), (0.7, 6.0), (1.3, 2.4))
"""Least widths and heights of white between columns, in heights of the page's lines; the height counts where text
stands on both sides.
"""
NARROW_STRIP = 0.7
"""Width in heights below which only dense long lines make columns: the words of a few lines also leave white."""
CLEAR = 1.5
"""Width in heights up to which wider strips are better."""
BAND = 0.7
"""Height in heights of white from margin to margin that parts columns from what is above or below them."""
TRIES = 6
"""Strips of a region that are looked at, best first."""
DEEPEST = 24
"""Cuts within cuts."""
RUN = 1.1
"""Heights of a line by which words of one run are apart at most."""
LONG, TIGHT, PROSE, NARROW = 11.0, 9.0, 6.0, 4.8
"""Median widths in heights of the runs beside a strip. From the first on they are too long for cells; from the second
on they are lines of text beside a narrow strip, from the third on beside another, if they are dense, though they stand
in rows; from the last on if they stand in none.
"""
DENSER, DENSE = 0.8, 0.66
"""Shares of the height of a column of text that its lines take, roughly, if they stand in rows with those of the next
column, and if not: cells have white between them.
"""
HOLE = 2.5
"""Heights of white that do not count in it."""
TOGETHER = 0.4
"""Share of the height of the emptier side's lines where the other has some too: articles and amounts may take turns."""
FEW = 4.5
"""Lines below which dense text in no rows must be long; less text in rows is never columns."""
MANY = 40
"""Words of either side that make long lines text, though they are apart."""
NEAR, AT_IT = 12.0, 2.5
"""Heights from a strip within which words tell whether its two sides make rows, and whether they are figures."""
SAME_ROW = 0.3
"""Heights by which the middles of words of one row differ at most."""
IN_ROWS = 0.6
"""Share of the shorter side's words that stand in one row with a word of the other, from which on both make rows."""
FIGURES = 0.5
"""Share of words that are mostly digits, from which on a side is a column of a table, if its lines are not long."""
FARTHEST = 3.0
"""Heights that columns are apart at most, if their lines stand in rows and are not long."""
APART, LONE, HIGH = 1.2, 2.4, 8.0
"""A strip ends before a part of it that is apart from the rest and low, if the strip is high: in heights."""


@dataclass(frozen=True, slots=True)
class Units:
    """Words, or what is to be read like one, on the page turned level, in pixels."""

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    top: NDArray[np.float64]
    bottom: NDArray[np.float64]
    figures: NDArray[np.bool_]
    """Which are mostly digits."""

    def __len__(self) -> int:
        return len(self.left)

    @property
    def middle(self) -> NDArray[np.float64]:
        return (self.top + self.bottom) / 2


@dataclass(frozen=True, slots=True)
class _Strip:
    """White between two columns."""

    x: float
    top: float
    bottom: float
    lines: float
    """Its height where text stands on both its sides, in lines."""
    width: float


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where in a region there is ink."""

    ink: NDArray[np.bool_]
    """(rows, columns)."""
    x: float
    y: float
    """Of its corner, pixels."""
    across: float
    down: float
    """Size of a cell, pixels."""


def regions(words: Units, line: float) -> list[Indices]:
    """Indices of the words of each region, in reading order. `line`: height of the page's lines, pixels."""
    return list(_cut(words, np.arange(len(words)), line, 0)) if len(words) else []


def _cut(words: Units, here: Indices, line: float, depth: int) -> Iterator[Indices]:
    strip = _strip(words, here, line) if depth < DEEPEST else None
    if strip is None:
        yield here
        return
    middle = words.middle[here]
    above, below = middle < strip.top, middle > strip.bottom
    left = (words.left[here] + words.right[here]) / 2 < strip.x
    for part in (above, ~above & ~below & left, ~above & ~below & ~left, below):
        if part.any():
            yield from _cut(words, here[part], line, depth + 1)


def _strip(words: Units, here: Indices, line: float) -> _Strip | None:
    """The best strip of white that parts columns of text among these words."""
    if len(here) < 4:
        return None
    grid = _painted(words, here, line)
    # Text on both sides of each place.
    between = np.logical_or.accumulate(grid.ink, axis=1)
    between &= np.logical_or.accumulate(grid.ink[:, ::-1], axis=1)[:, ::-1]
    sums = np.zeros((grid.ink.shape[0], grid.ink.shape[1] + 1), np.int32)
    np.cumsum(grid.ink, axis=1, out=sums[:, 1:])
    found: list[_Strip] = []
    for least, tall in STRIPS:
        width = max(round(least * line / grid.across), 1)
        strips = _white(sums, between, width, tall * line / grid.down)
        for begin, end, first, last, height in islice(strips, TRIES):
            x0, x1 = (grid.x + grid.across * column for column in (first, last))
            y0, y1 = (grid.y + grid.down * row for row in (begin, end))
            found.append(_Strip((x0 + x1) / 2, y0, y1, height * grid.down / line, x1 - x0))
    found.sort(key=lambda strip: -strip.lines * min(strip.width, CLEAR * line))
    trimmed = (_trimmed(words, here, strip, line) for strip in found[:TRIES])
    good = [strip for strip in trimmed if _parts_columns(words, here, grid, strip, line)]
    longer = (_longer(words, here, grid, good[0], strip, line=line) for strip in good)
    best = max(longer, key=lambda strip: strip.lines, default=None)
    return best if best is None or _parts_columns(words, here, grid, best, line) else good[0]


def _longer(words: Units, here: Indices, grid: _Grid, best: _Strip, other: _Strip, *, line: float) -> _Strip:
    """The best strip, or as much of another one as goes on from it between the same columns.

    Beside the longest line of a ragged column the white is narrower. So it may be in a table above or below; but that
    is apart from the columns, or none itself.
    """
    beside = abs(other.x - best.x) < (other.width + best.width) / 2 + NARROW_STRIP * line
    if not beside or other.top > best.top or other.bottom < best.bottom:
        return best
    middle = words.middle[here]
    inside = here[(middle >= other.top) & (middle <= other.bottom)]
    inside = inside[np.argsort(words.top[inside])]
    tops, reached = words.top[inside][1:], np.maximum.accumulate(words.bottom[inside])[:-1]
    apart, between = tops - reached > BAND * line, (tops + reached) / 2
    top = float(tops[apart & (between < best.top)].max(initial=other.top))
    bottom = float(reached[apart & (between > best.bottom)].min(initial=other.bottom))
    for begin, end in ((top, best.top), (best.bottom, bottom)):
        lines = _lines(grid, other.x, begin, end) / line
        part = replace(other, top=begin, bottom=end, lines=lines, width=CELL * line)  # held to be as narrow as any
        if part.lines and _parts_columns(words, here, grid, part, line):
            extent = min(begin, best.top), max(end, best.bottom)
            best = replace(other, top=extent[0], bottom=extent[1], lines=best.lines + part.lines)
    return best


def _lines(grid: _Grid, x: float, top: float, bottom: float) -> float:
    """The height, pixels, of what has text on both sides of a place."""
    ink = grid.ink[round((top - grid.y) / grid.down) : round((bottom - grid.y) / grid.down)]
    column = int((x - grid.x) / grid.across)
    return np.count_nonzero(ink[:, :column].any(axis=1) & ink[:, column:].any(axis=1)) * grid.down


def _painted(words: Units, here: Indices, line: float) -> _Grid:
    """The ink of words, each a little lower than it is."""
    x0, y0 = words.left[here].min(), words.top[here].min()
    wide, high = words.right[here].max() - x0, words.bottom[here].max() - y0
    across, down = max(CELL * line, wide / MOST_CELLS), max(2 * CELL * line, high / MOST_CELLS)
    rows, columns = int(high / down) + 1, int(wide / across) + 1
    inset = (words.bottom[here] - words.top[here]) * 0.2
    left = np.rint((words.left[here] - x0) / across).astype(np.intp)
    right = np.maximum(np.rint((words.right[here] - x0) / across).astype(np.intp), left + 1)
    top = np.floor((words.top[here] + inset - y0) / down).astype(np.intp)
    bottom = np.floor((words.bottom[here] - inset - y0) / down).astype(np.intp) + 1
    left, right = np.clip(left, 0, columns), np.clip(right, 0, columns)
    top, bottom = np.clip(top, 0, rows), np.clip(bottom, 0, rows)
    # Corners of each rectangle in a table of differences: its double sum counts the words over each cell.
    steps = np.zeros((rows + 1, columns + 1), np.int32)
    for y, x, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(steps, (y, x), sign)
    return _Grid(steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0, float(x0), float(y0), across, down)


def _white(
    sums: NDArray[np.int32], between: NDArray[np.bool_], width: int, least: float
) -> Iterator[tuple[int, int, int, int, float]]:
    """Strips of white, `width` cells wide or wider: first row, row after the last, the same of columns, and in how many
    rows text stands on both its sides, at least `least`. Of strips beside each other only the tallest.

    `sums` (rows, columns + 1) counts the ink left of each column; `between` (rows, columns) has text on both sides.
    """
    rows, columns = between.shape
    if columns <= width:
        return
    # Column after column, each between two rows that are not white.
    white = np.zeros((columns - width + 1, rows + 2), bool)
    white[:, 1:-1] = (sums[:, width:] == sums[:, :-width]).T
    held = white.copy()
    held[:, 1:-1] &= between[:, width // 2 : columns - width + 1 + width // 2].T
    flat = white.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    totals = np.zeros(flat.size + 1, np.intp)
    np.cumsum(held, out=totals[1:])
    height = (totals[ends] - totals[starts]).astype(np.float64)
    good = np.flatnonzero(height >= least)
    place, begin = np.divmod(starts[good], rows + 2)
    end = ends[good] - place * (rows + 2)
    height = height[good]
    while len(height):
        best = height.argmax()
        same = (np.abs(height - height[best]) < 0.5) & (begin == begin[best]) & (end == end[best])
        # The widest white of that height: the middle of the places beside each other.
        row = np.sort(place[same])
        row = max(np.split(row, np.flatnonzero(np.diff(row) > 1) + 1), key=len)
        yield int(begin[best] - 1), int(end[best] - 1), int(row[0]), int(row[-1]) + width, float(height[best])
        near = (place >= row[0] - width) & (place <= row[-1] + width) & (begin < end[best]) & (end > begin[best])
        near[best] = True
        place, begin, end, height = place[~near], begin[~near], end[~near], height[~near]


def _trimmed(words: Units, here: Indices, strip: _Strip, line: float) -> _Strip:
    """Without a line or two at the strip's ends that stand apart from all columns: page numbers, running heads."""
    middle = words.middle[here]
    inside = here[(middle >= strip.top) & (middle <= strip.bottom)]
    inside = inside[np.argsort(words.top[inside])]
    tops, reached = words.top[inside], np.maximum.accumulate(words.bottom[inside])
    gaps = np.flatnonzero(tops[1:] - reached[:-1] > APART * line)
    if not len(gaps) or reached[-1] - tops[0] < HIGH * line:
        return strip
    top, bottom = strip.top, strip.bottom
    if reached[gaps[0]] - tops[0] < LONE * line:
        top = float(tops[gaps[0] + 1])
    if reached[-1] - tops[gaps[-1] + 1] < LONE * line:
        bottom = float(reached[gaps[-1]])
    return replace(strip, top=top, bottom=bottom)


def _parts_columns(words: Units, here: Indices, grid: _Grid, strip: _Strip, line: float) -> bool:
    """Whether what stands beside the strip are columns of text, not of a table or a receipt.

    Text is long lines, close to each other, that need not stand in rows with those of the next column; cells are short,
    often figures, and in rows with white between them.
    """
    begin, end = (round((y - grid.y) / grid.down) for y in (strip.top, strip.bottom))
    ink, half = grid.ink[begin:end], strip.width / 2 - grid.across / 2
    first, last = (int((x - grid.x) / grid.across) for x in (strip.x - half, strip.x + half))
    least, density, rows = np.inf, 1.0, []
    for part in (ink[:, : first + 1][:, ::-1], ink[:, last:]):
        beside = np.asarray(part[:, : round(NEAR * line / grid.across)].any(axis=1))
        least = min(least, _run(part[beside], RUN * line / grid.across) * grid.across / line)
        density = min(density, _density(beside, HOLE * line / grid.down))
        rows.append(beside)
        if least < NARROW or (strip.width < NARROW_STRIP * line and (least < TIGHT or density < DENSER)):
            return False
    middle, centre = words.middle[here], (words.left[here] + words.right[here]) / 2
    inside = (middle >= strip.top) & (middle <= strip.bottom)
    left, right = here[inside & (centre < strip.x)], here[inside & (centre >= strip.x)]
    away = strip.x - words.right[left] - strip.width / 2, words.left[right] - strip.x - strip.width / 2
    sides = tuple(zip((left, right), away, strict=True))
    if least < LONG and any(_share(words.figures[side[far < AT_IT * line]]) >= FIGURES for side, far in sides):
        return False
    one, other = (words.middle[side[far < NEAR * line]] for side, far in sides)
    if _in_rows(one, other, line) < IN_ROWS:
        together = np.count_nonzero(rows[0] & rows[1]) >= TOGETHER * min(map(np.count_nonzero, rows))
        return bool(together and density >= DENSE and (strip.lines >= FEW or least >= LONG))
    if strip.lines < FEW:
        return False
    many = min(len(left), len(right)) >= MANY
    return least >= LONG and many if strip.width > FARTHEST * line or density < DENSER else least >= PROSE


def _density(beside: NDArray[np.bool_], hole: float) -> float:
    """The share of rows that have ink, (rows,), but for white higher than `hole`: figures, the ends of sections."""
    places = np.flatnonzero(beside)
    if len(places) < 2:
        return 0.0
    white = np.diff(places) - 1
    return float(len(places) / (len(places) + white[white <= hole].sum()))


def _share(marks: NDArray[np.bool_]) -> float:
    return float(marks.mean()) if len(marks) else 0.0


def _run(ink: NDArray[np.bool_], gap: float) -> float:
    """The median width of what comes first in each row of ink (rows, columns), as far as the next wider gap."""
    columns = ink.shape[1]
    if not ink.any():
        return 0.0
    ink = ink[ink.any(axis=1)]
    place = np.arange(columns)
    first = ink.argmax(axis=1)
    last = np.maximum.accumulate(np.where(ink, place, -1), axis=1)  # the nearest ink, looking back
    apart = (place - last > gap) & (place > first[:, None])
    end = np.where(apart.any(axis=1), apart.argmax(axis=1), columns - 1)
    return float(np.median(last[np.arange(len(ink)), end] + 1 - first))


def _in_rows(left: NDArray[np.float64], right: NDArray[np.float64], line: float) -> float:
    """The share of the fewer words' middles that are those of another side's word too."""
    few, many = sorted((left, right), key=len)
    if not len(few):
        return 1.0
    many = np.concatenate([[-np.inf], np.sort(many), [np.inf]])
    near = np.searchsorted(many, few)
    return float(np.mean(np.minimum(many[near] - few, few - many[near - 1]) < SAME_ROW * line))
