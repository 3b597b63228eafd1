"""Reading order and tables, scored: words against labelled segments, by where they stand. What was misread counts not.

Segments are runs of words on one line, polygons float32 (4, 2), listed in the order in which people read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Page, Table
from ocr_ops.core.scores import Match

Polygon = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Order:
    """How a page's segments were read; add it up over pages."""

    swapped: int = 0
    """Pairs of segments that were read the wrong way round."""
    pairs: int = 0
    broken: int = 0
    """Segments that were not followed by the one that follows, though both were read."""
    steps: int = 0

    def __add__(self, other: "Order") -> "Order":
        return Order(
            self.swapped + other.swapped,
            self.pairs + other.pairs,
            self.broken + other.broken,
            self.steps + other.steps,
        )

    @property
    def error(self) -> float | None:
        """The share of pairs that were swapped: Kendall's distance, 0 to 1. None of no pair."""
        return self.swapped / self.pairs if self.pairs else None

    @property
    def breaks(self) -> float | None:
        """The share of steps that were not taken, 0 to 1. None of no step."""
        return self.broken / self.steps if self.steps else None


def order_of(page: Page, segments: Sequence[Polygon]) -> Order:
    """How well `page` keeps to the order of these segments, in pixels of the page."""
    read = segments_of([word.polygon for line in page.lines for word in line.words], segments)
    first = list(dict.fromkeys(place for place in read if place >= 0))
    ranks = np.array(first, np.intp)
    swapped = sum(int(np.count_nonzero(ranks[i + 1 :] < rank)) for i, rank in enumerate(ranks))
    count = len(first)
    wanted = sorted(first)
    taken = set(pairwise(first))
    broken = sum(step not in taken for step in pairwise(wanted))
    return Order(swapped, count * (count - 1) // 2, broken, max(count - 1, 0))


def segments_of(words: Sequence[Sequence[tuple[float, float]]], segments: Sequence[Polygon]) -> list[int]:
    """The segment that each word's middle lies in, by their upright extents; -1 of none."""
    if not words or not len(segments):
        return [-1] * len(words)
    middles = np.array([np.mean(word, axis=0) for word in words])
    corners = np.asarray(segments, np.float64)
    low, high = corners.min(axis=1), corners.max(axis=1)
    inside = ((middles[:, None] >= low) & (middles[:, None] <= high)).all(axis=2)
    return [int(row.argmax()) if row.any() else -1 for row in inside]


Cells = dict[tuple[int, int], frozenset[int]]
"""The segments that stand in each place of a table, by row and column."""


def cells_of(page: Page, table: Table, segments: Sequence[Polygon]) -> Cells:
    """A table as it was read; cells with nothing that is labelled are left out."""
    cells: Cells = {}
    for cell in table.cells:
        words = [page.lines[line].words[word].polygon for line, word in cell.words]
        held = frozenset(place for place in segments_of(words, segments) if place >= 0)
        if held:
            cells[cell.row, cell.column] = held
    return cells


def match_tables(expected: Sequence[Cells], found: Sequence[Cells]) -> Match:
    """Neighbours of cells, found and expected: as the ICDAR 2013 table competition counts.

    A neighbour is the next cell that holds something, to the right or below; both must hold the same segments.
    """
    wanted = {pair for cells in expected for pair in _neighbours(cells)}
    have = {pair for cells in found for pair in _neighbours(cells)}
    return Match(len(wanted & have), len(have), len(wanted))


def _neighbours(cells: Cells) -> set[tuple[frozenset[int], frozenset[int], str]]:
    across = sorted(cells)
    down = sorted(cells, key=lambda place: (place[1], place[0]))
    pairs = {(cells[a], cells[b], "right") for a, b in pairwise(across) if a[0] == b[0]}
    return pairs | {(cells[a], cells[b], "below") for a, b in pairwise(down) if a[1] == b[1]}
