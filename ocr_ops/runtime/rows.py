"""Rows: pieces of text that stand beside each other, whatever the gaps between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROW_OVERLAP = 0.5
"""Share of the lower one's height by which two neighbours of one row overlap."""
COLUMN_OVERLAP = 0.5
"""Share of the shorter one's width above which two segments stand over each other, not beside."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text, or some of its words, with its extent on the page turned level."""

    place: int
    """Its index among the segments."""
    left: float
    right: float
    top: float
    bottom: float
    vertical: bool
    """Its text runs across the page's lines, not along them."""

    @property
    def height(self) -> float:
        return self.bottom - self.top


def segments(level: NDArray[np.float64]) -> list[Segment]:
    """Pieces (N, 4, 2) on the level page, each by its extent."""
    along = np.abs(level[:, 1] - level[:, 0])
    # In order: left to right, and top to bottom, for either direction of the text.
    ordered = np.sort(level, axis=1)
    (left, top), (right, bottom) = ordered[:, :2].mean(axis=1).T, ordered[:, 2:].mean(axis=1).T
    vertical = along[:, 1] > along[:, 0]
    fields = zip(*(side.tolist() for side in (left, right, top, bottom, vertical)), strict=True)
    return [Segment(i, *extent) for i, extent in enumerate(fields)]


def rows(found: list[Segment]) -> list[list[Segment]]:
    """Segments grouped to rows, top to bottom, each from left to right."""
    made: list[list[Segment]] = []
    ends: list[float] = []
    for segment in sorted(found, key=lambda s: s.top + s.bottom):
        near = [] if segment.vertical else [i for i, end in enumerate(ends) if end > segment.top]
        fits = [_fit(made[i], segment) for i in near]
        if fits and max(fits) >= ROW_OVERLAP:
            best = near[fits.index(max(fits))]
            made[best].append(segment)
            ends[best] = max(ends[best], segment.bottom)
        else:
            made.append([segment])
            ends.append(segment.bottom)
    made.sort(key=lambda row: sum(s.top + s.bottom for s in row) / len(row))
    return [sorted(row, key=lambda s: s.left) for row in made]


def _fit(row: list[Segment], segment: Segment) -> float:
    """How well a segment stands in a row, 0 to 1: its overlap in height with its nearest neighbour there.

    The nearest, because the ends of a curved row may not overlap at all.
    """
    if row[0].vertical:
        return 0.0
    near = min(row, key=lambda other: max(other.left - segment.right, segment.left - other.right))
    shared_width = min(near.right, segment.right) - max(near.left, segment.left)
    if shared_width > COLUMN_OVERLAP * min(near.right - near.left, segment.right - segment.left):
        return 0.0
    shared = min(near.bottom, segment.bottom) - max(near.top, segment.top)
    return shared / max(min(near.height, segment.height), 1e-6)
