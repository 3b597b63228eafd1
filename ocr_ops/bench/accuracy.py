"""Detection accuracy: polygons against polygons."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.scores import Match

IOU = 0.5
"""ICDAR's threshold: a found region is a hit when it covers a labelled one to this intersection over union."""


def iou(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    """Intersection over union of two convex polygons, float32 (N, 2), pixels."""
    shared, _ = cv2.intersectConvexConvex(left, right)
    union = cv2.contourArea(left) + cv2.contourArea(right) - shared
    return shared / union if union > 0 else 0.0


def match_regions(
    expected: Sequence[NDArray[np.float32]],
    found: Sequence[NDArray[np.float32]],
    ignored: Sequence[NDArray[np.float32]] = (),
) -> Match:
    """Greedy one-to-one match of regions by falling overlap; found ones that lie on an ignored region are dropped.

    Polygons are float32 (4, 2) in page pixels. Hits, found and expected are counted as ICDAR 2015 does.
    """
    right = [_hull(polygon) for polygon in found]
    skipped = [_hull(polygon) for polygon in ignored]
    taken = {j for _, j in matched(expected, found)}
    forgiven = sum(
        any(_near(have, skip) and _covered(have, skip) for skip in skipped)
        for j, have in enumerate(right)
        if j not in taken
    )
    return Match(hits=len(taken), found=len(right) - forgiven, expected=len(expected))


def matched(
    expected: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]
) -> tuple[tuple[int, int], ...]:
    """Which expected region each hit found: their indices, one-to-one, greedily by falling overlap."""
    left, right = [_hull(polygon) for polygon in expected], [_hull(polygon) for polygon in found]
    pairs = sorted(
        (
            (overlap, i, j)
            for i, want in enumerate(left)
            for j, have in enumerate(right)
            if _near(want, have) and (overlap := iou(want, have)) >= IOU
        ),
        reverse=True,
    )
    taken_left: set[int] = set()
    taken_right: set[int] = set()
    hits: list[tuple[int, int]] = []
    for _, i, j in pairs:
        if i not in taken_left and j not in taken_right:
            taken_left.add(i)
            taken_right.add(j)
            hits.append((i, j))
    return tuple(hits)


def _hull(polygon: NDArray[np.float32]) -> NDArray[np.float32]:
    # Labels of real data are now and then twisted; intersection needs convex corners in order.
    return np.asarray(cv2.convexHull(np.asarray(polygon, np.float32)), np.float32).reshape(-1, 2)


def _near(left: NDArray[np.float32], right: NDArray[np.float32]) -> bool:
    return bool((left.min(0) < right.max(0)).all() and (right.min(0) < left.max(0)).all())


def _covered(inner: NDArray[np.float32], outer: NDArray[np.float32]) -> bool:
    shared, _ = cv2.intersectConvexConvex(inner, outer)
    return shared > 0.5 * cv2.contourArea(inner)
