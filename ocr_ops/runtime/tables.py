"""Tables: rows of cells that stand under each other, with or without rules."""

import re
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ocr_ops.runtime.rows import Segment
from ocr_ops.runtime.words import Words

GAP = 1.0
"""Heights of white between two cells of a row."""
LEAST_ROWS = 3
"""Rows of two cells or more that make a table without rules; with three columns one less."""
CONTINUED = 2
"""Rows of one cell, within a column, that a table may have between two others."""
FAR = 3.0
"""Heights of white between two rows that end a table."""
STEADY = 1.7
"""How many times as far apart as the others two rows are that end a table."""
CROSSING = 0.15
"""Share of a table's rows that may have a cell across several columns."""
FILLED = 0.5
"""Least share of the places that hold a cell."""
TIGHT = 0.45
"""Heights of white above a row below which what stands in it may go on in the cells above."""
_MARK = re.compile(r"[^\w\s]{1,2}|[(\[]?(\d{1,3}|[A-Za-z]|[ivxIVX]{1,5})[.):\]]?")
"""What stands before the items of a list, or counts lines."""


@dataclass(frozen=True, slots=True)
class Run:
    """Words of one row with no wide gap between them, on the page turned level."""

    left: float
    right: float
    text: str
    first: int
    end: int
    """Words `first` up to `end` of the line."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the page as runs, left to right."""

    top: float
    bottom: float
    height: float
    """Of its text."""
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands in a table."""

    row: int
    column: int
    columns: int


@dataclass(frozen=True, slots=True)
class Aligned:
    """A table without rules: rows `first` up to `end` of a region."""

    first: int
    end: int
    edges: tuple[float, ...]
    """Where its columns begin and end: one more than there are columns."""
    places: tuple[tuple[Place, ...], ...]
    """Of each run of each row."""


def runs(row: Sequence[Segment], words: Sequence[int], text: Words) -> tuple[Run, ...]:
    """The runs of a line, of these segments and words."""
    gap = GAP * median([segment.height for segment in row])
    made: list[Run] = []
    first, left, right = 0, 0.0, 0.0
    for place, (begin, end) in enumerate(text.level[words, :2].tolist()):
        if place == first:
            left, right = begin, end
        elif begin - right > gap:
            made.append(_run(text, words[first:place], first, (left, right)))
            first, left, right = place, begin, end
        else:
            left, right = min(left, begin), max(right, end)
    return (*made, _run(text, words[first:], first, (left, right)))


def _run(text: Words, words: Sequence[int], first: int, extent: tuple[float, float]) -> Run:
    return Run(*extent, " ".join([text.words[i].text for i in words]), first, first + len(words))


def aligned(rows: Sequence[Row]) -> list[Aligned]:
    """The tables among the rows of a region, top to bottom."""
    found = []
    first = 0
    while first < len(rows):
        end = _reach(rows, first)
        table = _table(rows, first, end, _columns(rows[first:end])) if end - first > 1 else None
        if table:
            found.append(table)
        first = end if table else first + 1
    return found


def _reach(rows: Sequence[Row], first: int) -> int:
    """How far a table could go that begins at `first`: the row after its last one with two cells or more."""
    if len(rows[first].runs) < 2:
        return first + 1
    end, alone = first + 1, 0
    pitches: list[float] = []
    for place in range(first + 1, len(rows)):
        row, above = rows[place], rows[place - 1]
        pitch = (row.top + row.bottom - above.top - above.bottom) / 2
        usual = median(pitches) if len(pitches) > 1 else FAR * row.height
        if row.top - above.bottom > FAR * row.height or pitch > STEADY * max(usual, row.height):
            break
        alone = alone + 1 if len(row.runs) == 1 else 0
        if alone > CONTINUED:
            break
        insort(pitches, pitch)
        if not alone:
            end = place + 1
    return end


def _columns(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Where the columns of a table of these rows begin and end: between them, most rows are white."""
    many = [row for row in rows if len(row.runs) > 1]
    height = median([row.height for row in many])
    edges = sorted((x, step) for row in many for run in row.runs for x, step in ((run.left, 1), (run.right, -1)))
    found: list[tuple[float, float]] = []
    covered, most = 0, int(CROSSING * len(many))
    for x, step in edges:
        before, covered = covered, covered + step
        if before <= most < covered:
            if found and x - found[-1][1] < GAP / 2 * height:
                found[-1] = found[-1][0], x
            else:
                found.append((x, x))
        elif covered <= most < before:
            found[-1] = found[-1][0], x
    return found


def _table(rows: Sequence[Row], first: int, end: int, columns: list[tuple[float, float]]) -> Aligned | None:
    """The table of these rows, if it is one."""
    many = [row for row in rows[first:end] if len(row.runs) > 1]
    if len(columns) < 2 or len(many) < LEAST_ROWS - (len(columns) > 2):
        return None
    if sum(len(row.runs) for row in many) < FILLED * len(columns) * len(many):
        return None
    if len(columns) == 2 and 2 * sum(bool(_MARK.fullmatch(row.runs[0].text)) for row in many) > len(many):
        return None
    edges = (columns[0][0], *((left[1] + right[0]) / 2 for left, right in pairwise(columns)), columns[-1][1])
    places: list[tuple[Place, ...]] = []
    number = -1
    for index in range(first, end):
        row = rows[index]
        spans = [_taken(run, edges) for run in row.runs]
        goes_on = index > first and row.top - rows[index - 1].bottom < TIGHT * row.height and len(row.runs) == 1
        number += not goes_on
        places.append(tuple(Place(number, a, b - a + 1) for a, b in spans))
    return Aligned(first, end, edges, tuple(places))


def _taken(run: Run, edges: Sequence[float]) -> tuple[int, int]:
    """The first and the last column that a run takes: those it fills by more than a little, or its middle's."""
    last = len(edges) - 2
    middle = (run.left + run.right) / 2
    slack = 0.1 * (run.right - run.left)
    first = next((i for i in range(last) if run.left + slack < edges[i + 1]), last)
    final = next((i for i in range(last, 0, -1) if run.right - slack > edges[i]), 0)
    own = next((i for i in range(last) if middle < edges[i + 1]), last)
    return min(first, own), max(final, own)
