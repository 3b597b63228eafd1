"""Layout: pieces of text as they were found, put together as a page of lines in reading order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Block, Cell, Line, Page, Polygon, Word
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.recognition import parts_of

MIN_CONFIDENCE = 0.7
"""Words below it are dropped: mostly logos, stamps and specks. On real receipts it costs 0.7 points of recall and
gains 6.5 of precision, on born-digital pages 0.3 and 3.0."""
ROW_OVERLAP = 0.5
"""Share of the lower one's height by which two neighbours of one row overlap."""
COLUMN_OVERLAP = 0.5
"""Share of the shorter one's width above which two segments stand over each other, not beside."""
P = TypeVar("P", Line, Word, Block, Cell)


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of text with its extent on the page turned level."""

    place: int
    """Its index among the pieces."""
    left: float
    right: float
    top: float
    bottom: float
    vertical: bool
    """Its text runs across the page's lines, not along them."""

    @property
    def height(self) -> float:
        return self.bottom - self.top


def assemble(
    width: int, height: int, polygons: Sequence[NDArray[np.float32]] | NDArray[np.float32], decoded: Sequence[Decoded]
) -> Page:
    """The page of `width` x `height` pixels that pieces of text make: polygons (N, 4, 2) in its pixels.

    A line is a visual row, whatever gaps it has; rows go from top to bottom. The page's skew, the median of
    the pieces' own, is taken out first. Words below `MIN_CONFIDENCE` are dropped, and pieces without any other.
    """
    texts = [_sure(text) for text in decoded]
    kept = [i for i, words in enumerate(texts) if words]
    if not kept:
        return Page(width=width, height=height, lines=())
    corners = np.asarray([polygons[i] for i in kept], np.float64)
    turn = _turn(corners)
    level = corners @ turn
    words = _words([texts[i] for i in kept], corners, width, height)
    rows = [[segment.place for segment in row] for row in _rows(_segments(level))]
    outlines = _polygons(_outlines(rows, corners, level, turn), width, height)
    lines = [
        _line([word for place in row for word in words[place]], outline)
        for row, outline in zip(rows, outlines, strict=True)
    ]
    return Page(width=width, height=height, lines=tuple(lines))


def placed(page: Page, move: NDArray[np.float64], width: int, height: int) -> Page:
    """The page on a sheet of another size, every corner moved by an affine map (2, 3) of points (x, y, 1)."""
    outlines = [*(line.polygon for line in page.lines), *(word.polygon for line in page.lines for word in line.words)]
    outlines += [block.polygon for block in page.blocks]
    outlines += [cell.polygon for block in page.blocks if block.table for cell in block.table.cells]
    if not outlines:
        return page.model_copy(update={"width": width, "height": height})
    corners = np.asarray(outlines, np.float64) @ move[:, :2].T + move[:, 2]
    there = iter(_polygons(corners, width, height))

    def moved(part: P) -> P:
        return part.model_copy(update={"polygon": next(there)})

    lines = [moved(line) for line in page.lines]
    lines = [line.model_copy(update={"words": tuple(map(moved, line.words))}) for line in lines]
    blocks = [moved(block) for block in page.blocks]
    for place, block in enumerate(blocks):
        if block.table:
            table = block.table.model_copy(update={"cells": tuple(map(moved, block.table.cells))})
            blocks[place] = block.model_copy(update={"table": table})
    return page.model_copy(update={"width": width, "height": height, "lines": tuple(lines), "blocks": tuple(blocks)})


def _turn(polygons: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix that turns the page of polygons (N, 4, 2) level: `points @ turn`. Its transpose turns back."""
    sides = (polygons[:, 1] - polygons[:, 0] + polygons[:, 2] - polygons[:, 3]) / 2
    lengths = np.hypot(sides[:, 0], sides[:, 1])
    order = np.argsort(np.arctan2(sides[:, 1], sides[:, 0]))
    reached = np.cumsum(lengths[order])
    x, y = sides[order[np.searchsorted(reached, reached[-1] / 2)]]
    cos, sin = np.array([x, y]) / max(np.hypot(x, y), 1e-6)
    return np.array([[cos, -sin], [sin, cos]])


def _segments(level: NDArray[np.float64]) -> list[_Segment]:
    """Pieces (N, 4, 2) on the level page, each by its extent."""
    along = np.abs(level[:, 1] - level[:, 0])
    # In order: left to right, and top to bottom, for either direction of the text.
    ordered = np.sort(level, axis=1)
    (left, top), (right, bottom) = ordered[:, :2].mean(axis=1).T, ordered[:, 2:].mean(axis=1).T
    vertical = along[:, 1] > along[:, 0]
    fields = zip(*(side.tolist() for side in (left, right, top, bottom, vertical)), strict=True)
    return [_Segment(i, *extent) for i, extent in enumerate(fields)]


def _rows(segments: list[_Segment]) -> list[list[_Segment]]:
    """Segments grouped to rows, top to bottom, each from left to right."""
    rows: list[list[_Segment]] = []
    ends: list[float] = []
    for segment in sorted(segments, key=lambda s: s.top + s.bottom):
        near = [] if segment.vertical else [i for i, end in enumerate(ends) if end > segment.top]
        fits = [_fit(rows[i], segment) for i in near]
        if fits and max(fits) >= ROW_OVERLAP:
            best = near[fits.index(max(fits))]
            rows[best].append(segment)
            ends[best] = max(ends[best], segment.bottom)
        else:
            rows.append([segment])
            ends.append(segment.bottom)
    rows.sort(key=lambda row: sum(s.top + s.bottom for s in row) / len(row))
    return [sorted(row, key=lambda s: s.left) for row in rows]


def _fit(row: list[_Segment], segment: _Segment) -> float:
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


def _outlines(
    rows: list[list[int]], corners: NDArray[np.float64], level: NDArray[np.float64], turn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The corners (L, 4, 2) of rows of pieces: a lone one's own; of several, what holds them all on the level page."""
    order = [place for row in rows for place in row]
    starts = [0, *accumulate(map(len, rows[:-1]))]
    left, top = np.minimum.reduceat(level.min(axis=1)[order], starts).T
    right, bottom = np.maximum.reduceat(level.max(axis=1)[order], starts).T
    found = np.stack([left, top, right, top, right, bottom, left, bottom], axis=1).reshape(-1, 4, 2) @ turn.T
    alone = [i for i, row in enumerate(rows) if len(row) == 1]
    found[alone] = corners[[rows[i][0] for i in alone]]
    return np.asarray(found)


def _line(words: list[Word], polygon: Polygon) -> Line:
    marks = sum(len(word.text) for word in words)
    return Line(
        text=" ".join([word.text for word in words]),
        confidence=sum(word.confidence * len(word.text) for word in words) / marks,
        polygon=polygon,
        words=tuple(words),
    )


def _words(
    texts: list[list[tuple[Decoded, float]]], corners: NDArray[np.float64], width: int, height: int
) -> list[list[Word]]:
    """The words of each piece, of corners (N, 4, 2), where they stand on the page."""
    piece = [i for i, words in enumerate(texts) for _ in words]
    shares = np.array([(word.spans[0][0], word.spans[-1][1]) for words in texts for word, _ in words])
    polygons = iter(_polygons(parts_of(corners[piece], shares), width, height))
    return [[Word(text=word.text, confidence=sure, polygon=next(polygons)) for word, sure in words] for words in texts]


def _sure(decoded: Decoded) -> list[tuple[Decoded, float]]:
    """The words that are kept, with their confidences."""
    return [(word, sure) for word in decoded.words if (sure := word.confidence) >= MIN_CONFIDENCE]


def _polygons(corners: NDArray[np.float64], width: int, height: int) -> list[Polygon]:
    """Corners (N, 4, 2) inside the page, to a tenth of a pixel."""
    inside = np.clip(corners, 0.0, [width, height]).round(1)
    return [tuple(map(tuple, polygon)) for polygon in inside.tolist()]
