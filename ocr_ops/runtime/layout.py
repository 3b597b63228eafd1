"""Layout: pieces of text as they were found, put together as a page of lines in reading order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Line, Page, Polygon, Word
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.recognition import parts_of

MIN_CONFIDENCE = 0.7
"""Words below it are dropped: mostly logos, stamps and specks. On real receipts it costs 0.7 points of recall and
gains 6.5 of precision, on born-digital pages 0.3 and 3.0."""
ROW_OVERLAP = 0.5
"""Share of the lower one's height by which two neighbours of one row overlap."""
COLUMN_OVERLAP = 0.5
"""Share of the shorter one's width above which two segments stand over each other, not beside."""


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of text with its extent on the page turned level."""

    polygon: NDArray[np.float32]
    decoded: Decoded
    left: float
    right: float
    top: float
    bottom: float
    vertical: bool
    """Its text runs across the page's lines, not along them."""

    @classmethod
    def of(cls, polygon: NDArray[np.float32], decoded: Decoded, turn: NDArray[np.float64]) -> Self:
        level = polygon @ turn
        along = level[1] - level[0]
        # In order: left to right, and top to bottom, for either direction of the text.
        x, y = np.sort(level[:, 0]), np.sort(level[:, 1])
        return cls(
            polygon,
            decoded,
            left=float(x[:2].mean()),
            right=float(x[2:].mean()),
            top=float(y[:2].mean()),
            bottom=float(y[2:].mean()),
            vertical=bool(abs(along[1]) > abs(along[0])),
        )

    @property
    def height(self) -> float:
        return self.bottom - self.top


def assemble(width: int, height: int, polygons: Sequence[NDArray[np.float32]], decoded: Sequence[Decoded]) -> Page:
    """The page of `width` x `height` pixels that pieces of text make: polygons (4, 2) in its pixels.

    A line is a visual row, whatever gaps it has; rows go from top to bottom. The page's skew, the median of
    the pieces' own, is taken out first. Words below `MIN_CONFIDENCE` are dropped, and pieces without any other.
    """
    pieces = [(np.asarray(p, np.float32), d) for p, d in zip(polygons, decoded, strict=True) if _sure(d)]
    if not pieces:
        return Page(width=width, height=height, lines=())
    turn = _turn([polygon for polygon, _ in pieces])
    segments = [_Segment.of(polygon, text, turn) for polygon, text in pieces]
    lines = (_line(row, turn, width, height) for row in _rows(segments))
    return Page(width=width, height=height, lines=tuple(lines))


def _turn(polygons: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """The matrix that turns the page level: `points @ turn`. Its transpose turns back."""
    sides = np.array([(p[1] - p[0] + p[2] - p[3]) / 2 for p in polygons], np.float64)
    lengths = np.hypot(sides[:, 0], sides[:, 1])
    order = np.argsort(np.arctan2(sides[:, 1], sides[:, 0]))
    reached = np.cumsum(lengths[order])
    x, y = sides[order[np.searchsorted(reached, reached[-1] / 2)]]
    cos, sin = np.array([x, y]) / max(np.hypot(x, y), 1e-6)
    return np.array([[cos, -sin], [sin, cos]])


def _rows(segments: list[_Segment]) -> list[list[_Segment]]:
    """Segments grouped to rows, top to bottom, each from left to right."""
    rows: list[list[_Segment]] = []
    for segment in sorted(segments, key=lambda s: s.top + s.bottom):
        near = [] if segment.vertical else [row for row in rows if any(s.bottom > segment.top for s in row)]
        fits = [_fit(row, segment) for row in near]
        if fits and max(fits) >= ROW_OVERLAP:
            near[fits.index(max(fits))].append(segment)
        else:
            rows.append([segment])
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


def _line(row: list[_Segment], turn: NDArray[np.float64], width: int, height: int) -> Line:
    words = tuple(word for segment in row for word in _words(segment, width, height))
    corners = row[0].polygon.astype(np.float64)
    if len(row) > 1:
        level = np.concatenate([s.polygon for s in row]) @ turn
        (left, top), (right, bottom) = level.min(axis=0), level.max(axis=0)
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) @ turn.T
    marks = sum(len(word.text) for word in words)
    return Line(
        text=" ".join(word.text for word in words),
        confidence=sum(word.confidence * len(word.text) for word in words) / marks,
        polygon=_polygon(corners, width, height),
        words=words,
    )


def _words(segment: _Segment, width: int, height: int) -> Iterator[Word]:
    words = _sure(segment.decoded)
    shares = np.array([(word.spans[0][0], word.spans[-1][1]) for word in words])
    for word, corners in zip(words, parts_of(segment.polygon, shares), strict=True):
        yield Word(text=word.text, confidence=word.confidence, polygon=_polygon(corners, width, height))


def _sure(decoded: Decoded) -> list[Decoded]:
    return [word for word in decoded.words if word.confidence >= MIN_CONFIDENCE]


def _polygon(corners: NDArray[np.float64], width: int, height: int) -> Polygon:
    """Corners (4, 2) inside the page, to a tenth of a pixel."""
    return tuple((round(min(max(x, 0.0), width), 1), round(min(max(y, 0.0), height), 1)) for x, y in corners.tolist())
