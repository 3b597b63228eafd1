"""Ruled tables: which of a page's words stand in which cell of a printed grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocr_ops.runtime.rules import Box, Grid, grids
from ocr_ops.runtime.words import Indices, Words

MOST_WORDS = 80
"""Words in one box of rules beyond which it frames text, and is no cell."""
LEAST_CELLS, FILLED = 4, 0.35
"""Cells with text that a table has, and their least share: forms to be filled in are read across."""
CROSSING = 0.1
"""Share of its texts that may run over a table's edge: rules within a form are none."""
ROWS, ALIKE = 3, 0.6
"""Cells of one row, and their least share, that hold as many lines as the row: then each line is a row of its own."""


@dataclass(frozen=True, slots=True)
class Ruled:
    """A ruled table, and which words stand in each of its boxes."""

    grid: Grid
    words: list[Indices]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, top, bottom."""
        x, y = self.grid.x, self.grid.y
        return float(x[0]), float(x[-1]), float(y[0]), float(y[-1])


def ruled_tables(text: Words, pixels: NDArray[np.uint8]) -> list[Ruled]:
    """The ruled tables of a page, none within another. Pages that hardly have two texts in a row have none."""
    level = text.pieces @ text.turn
    middles = np.sort(level[:, :, 1].mean(axis=1))
    if np.count_nonzero(np.diff(middles) < 0.3 * text.usual) < LEAST_CELLS // 2:
        return []
    free = np.ones(len(text.words), bool)
    found = []
    for grid in grids(pixels, text.turn, text.usual, text.level):
        if _run_over(level, grid, text.usual):
            continue
        words, inside = _held(text, grid, free)
        sizes = np.array([len(some) for some in words])
        if np.count_nonzero(sizes) < max(LEAST_CELLS, FILLED * len(sizes)) or sizes.max() > MOST_WORDS:
            continue
        finer = _finer(text, grid, words)
        found.append(Ruled(finer, _held(text, finer, free)[0]))
        free &= ~inside
    return found


def _run_over(level: NDArray[np.float64], grid: Grid, line: float) -> bool:
    """Whether texts (P, 4, 2) run over the sides of a grid."""
    (left, top), (right, bottom) = level.min(axis=1).T, level.max(axis=1).T
    middle = (top + bottom) / 2
    beside = (middle > grid.y[0]) & (middle < grid.y[-1])
    over = np.zeros(len(level), bool)
    for side in (grid.x[0], grid.x[-1]):
        over |= (left < side - line) & (right > side + line)
    inside = beside & (left < grid.x[-1]) & (right > grid.x[0])
    return bool(np.count_nonzero(over & beside) > CROSSING * np.count_nonzero(inside))


def _held(text: Words, grid: Grid, free: NDArray[np.bool_]) -> tuple[list[Indices], NDArray[np.bool_]]:
    """The free words in each box of a grid, and which words, (N,), those are."""
    x, y = text.level[:, :2].mean(axis=1), text.level[:, 2:].mean(axis=1)
    column, row = np.searchsorted(grid.x, x) - 1, np.searchsorted(grid.y, y) - 1
    inside = free & (column >= 0) & (column < len(grid.x) - 1) & (row >= 0) & (row < len(grid.y) - 1)
    name = np.zeros((len(grid.y) - 1, len(grid.x) - 1), np.intp)
    for number, box in enumerate(grid.boxes):
        name[box.row : box.row + box.rows, box.column : box.column + box.columns] = number
    held = np.flatnonzero(inside)
    own = name[row[held], column[held]]
    order = np.argsort(own, kind="stable")
    sizes = np.bincount(own, minlength=len(grid.boxes))
    return np.split(held[order], np.cumsum(sizes)[:-1]), inside


def _finer(text: Words, grid: Grid, words: list[Indices]) -> Grid:
    """The grid with rows parted that hold a row in each of their lines: rules often part only groups of rows."""
    cuts: list[list[float]] = []
    for row in range(len(grid.y) - 1):
        here = [
            some for box, some in zip(grid.boxes, words, strict=True) if (box.row, box.rows) == (row, 1) and len(some)
        ]
        cuts.append(_lines_between(text, here) if len(here) >= ROWS else [])
    if not any(cuts):
        return grid
    y = np.concatenate([[top, *parts] for top, parts in zip(grid.y, [*cuts, []], strict=True)])
    start = np.concatenate([[0], np.cumsum([1 + len(parts) for parts in cuts])])
    boxes = []
    for box, some in zip(grid.boxes, words, strict=True):
        first, end = int(start[box.row]), int(start[box.row + box.rows])
        middles = text.level[some, 2:].mean(axis=1)
        if box.rows == 1 and len(set(np.searchsorted(y[first + 1 : end], middles).tolist())) > 1:
            boxes += [Box(row, box.column, 1, box.columns) for row in range(first, end)]
        else:
            boxes.append(Box(first, box.column, end - first, box.columns))
    return Grid(grid.x, y, tuple(sorted(boxes, key=lambda box: (box.row, box.column))))


def _lines_between(text: Words, cells: list[Indices]) -> list[float]:
    """Where a row's cells are parted into rows, if they are."""
    extents = text.level[np.concatenate(cells)][:, 2:]
    extents = extents[np.argsort(extents.mean(axis=1))]
    middles = extents.mean(axis=1)
    places = np.flatnonzero(np.diff(middles) > 0.5 * text.usual) + 1
    if not len(places):
        return []
    cuts = [float(middles[i - 1] + middles[i]) / 2 for i in places]
    held = [len(set(np.searchsorted(cuts, text.level[some, 2:].mean(axis=1)).tolist())) for some in cells]
    alike = sum(count == len(cuts) + 1 for count in held)
    return cuts if alike >= max(ROWS, ALIKE * len(cells)) else []
