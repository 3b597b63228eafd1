"""Words: a page's text as it was found, in pieces, and the lines that some of it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Line, Polygon, Word
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.recognition import parts_of
from ocr_ops.runtime.rows import Segment, rows, segments

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


_CORNERS = [0, 2, 1, 2, 1, 3, 0, 3]
"""From left, right, top and bottom: x and y of the corners, clockwise from the top-left."""


@dataclass(frozen=True, slots=True)
class Words:
    """A page's words, N, in pieces, P."""

    words: list[Word]
    level: Floats
    """(N, 4): left, right, top and bottom on the page turned level."""
    piece: Indices
    """(N,): of each word; the words of a piece stand together, in their order."""
    pieces: Floats
    """(P, 4, 2): corners of the pieces."""
    shares: Floats
    """(N, 2): where in its piece's crop each word begins and ends."""
    turn: Floats
    """(2, 2): `points @ turn` is on the page turned level."""
    usual: float
    """Height of the page's lines, pixels."""
    size: tuple[int, int]
    """Width and height of the page."""

    @property
    def vertical(self) -> NDArray[np.bool_]:
        """(P,): whose text runs across the page's lines."""
        along = np.abs((self.pieces[:, 1] - self.pieces[:, 0]) @ self.turn)
        return np.asarray(along[:, 1] > along[:, 0])

    def outlines(self, extents: Floats) -> list[Polygon]:
        """Extents (K, 4) on the level page, on the page."""
        return polygons(extents[:, _CORNERS].reshape(-1, 4, 2) @ self.turn.T, *self.size)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that some of a page's words make, L, in order."""

    lines: list[Line]
    words: list[list[int]]
    """Of each line the indices of its words."""
    rows: list[list[Segment]]
    """Of each line its segments."""
    extents: Floats
    """(L, 4): of each line, left, right, top and bottom on the level page."""


def words_of(texts: Sequence[Sequence[tuple[Decoded, float]]], pieces: Floats, size: tuple[int, int]) -> Words:
    """The words, with their confidences, of pieces with these corners (P, 4, 2), where they stand on the page."""
    piece = np.array([i for i, words in enumerate(texts) for _ in words])
    shares = np.array([(word.spans[0][0], word.spans[-1][1]) for words in texts for word, _ in words])
    corners = parts_of(pieces[piece], shares)
    words = [
        Word(text=word.text, confidence=sure, polygon=polygon)
        for (word, sure), polygon in zip(chain.from_iterable(texts), polygons(corners, *size), strict=True)
    ]
    turn = _turn(pieces)
    heights = np.linalg.norm(pieces[:, 3] - pieces[:, 0], axis=1)[piece]
    order = np.argsort(heights)
    reached = np.cumsum([len(words[i].text) for i in order])
    usual = max(float(heights[order][np.searchsorted(reached, reached[-1] / 2)]), 1.0)
    return Words(words, _extents(corners @ turn), piece, pieces, shares, turn, usual, size)


def lines_of(text: Words, some: Indices) -> Lines:
    """The lines that words at these rising indices make: visual rows, whatever gaps they have."""
    starts = np.flatnonzero(np.diff(text.piece[some], prepend=-1) != 0)
    ends = np.append(starts[1:], len(some))
    first, last = some[starts], some[ends - 1]
    piece = text.piece[first]
    corners = text.pieces[piece]
    whole = (first == np.searchsorted(text.piece, piece)) & (
        last + 1 == np.searchsorted(text.piece, piece, side="right")
    )
    if not whole.all():
        shares = np.stack([text.shares[first, 0], text.shares[last, 1]], axis=1)
        corners = np.where(whole[:, None, None], corners, parts_of(corners, shares))
    level = corners @ text.turn
    made = rows(segments(level))
    order = [segment.place for row in made for segment in row]
    begins = [0, *accumulate(map(len, made[:-1]))]
    around = _extents(level)[order]
    left, top = np.minimum.reduceat(around[:, (0, 2)], begins).T
    right, bottom = np.maximum.reduceat(around[:, (1, 3)], begins).T
    extents = np.stack([left, right, top, bottom], axis=1)
    outlines = extents[:, _CORNERS].reshape(-1, 4, 2) @ text.turn.T
    alone = [i for i, row in enumerate(made) if len(row) == 1]
    outlines[alone] = corners[[made[i][0].place for i in alone]]
    members = [[int(i) for one in row for i in some[starts[one.place] : ends[one.place]]] for row in made]
    lines = [
        line_of([text.words[i] for i in words], outline)
        for words, outline in zip(members, polygons(outlines, *text.size), strict=True)
    ]
    return Lines(lines, members, made, extents)


def line_of(words: Sequence[Word], polygon: Polygon) -> Line:
    text = " ".join([word.text for word in words])
    return Line(text=text, confidence=confidence(words), polygon=polygon, words=tuple(words))


def confidence(parts: Sequence[Line] | Sequence[Word]) -> float:
    """The mean of the characters of lines or words."""
    marks = sum(len(part.text) for part in parts)
    return min(sum(part.confidence * len(part.text) for part in parts) / marks, 1.0)


def polygons(corners: Floats, width: int, height: int) -> list[Polygon]:
    """Corners (N, 4, 2) inside the page, to a tenth of a pixel."""
    inside = np.clip(corners, 0.0, [width, height]).round(1)
    return [tuple(map(tuple, polygon)) for polygon in inside.tolist()]


def _extents(level: Floats) -> Floats:
    """Left, right, top and bottom (N, 4) of corners (N, 4, 2)."""
    return np.stack([level.min(axis=1), level.max(axis=1)], axis=2).reshape(-1, 4)


def _turn(polygons: Floats) -> Floats:
    """The matrix that turns the page of polygons (N, 4, 2) level: `points @ turn`. Its transpose turns back."""
    sides = (polygons[:, 1] - polygons[:, 0] + polygons[:, 2] - polygons[:, 3]) / 2
    lengths = np.hypot(sides[:, 0], sides[:, 1])
    order = np.argsort(np.arctan2(sides[:, 1], sides[:, 0]))
    reached = np.cumsum(lengths[order])
    x, y = sides[order[np.searchsorted(reached, reached[-1] / 2)]]
    cos, sin = np.array([x, y]) / max(np.hypot(x, y), 1e-6)
    return np.array([[cos, -sin], [sin, cos]])
