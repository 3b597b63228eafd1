"""What the detector learns: DB's kernel and threshold maps, and how well found segments meet the true ones."""

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SHRINK = 0.25
"""Every side of a segment moves inwards by this share of its height: a kernel keeps half of the height.

DB's own offset, area (1 - 0.4^2) / perimeter, leaves 16 % of the height of a long line: one map pixel for text of
12 px, and an unclip that multiplies every error by six. Here `unclip` multiplies it by two.
"""


def offset(quads: Floats, share: float) -> Floats:
    """Moves the sides of rectangles (N, 4, 2) outwards by `share` of the shorter side (inwards when negative)."""
    across, down = quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]
    width, height = np.linalg.norm(across, axis=1), np.linalg.norm(down, axis=1)
    by = (share * np.minimum(width, height))[:, None]
    x = by * across / np.maximum(width, 1e-3)[:, None]
    y = by * down / np.maximum(height, 1e-3)[:, None]
    return np.asarray(quads + np.stack((-x - y, x - y, x + y, -x + y), axis=1), np.float32)


def heights(quads: Floats) -> Floats:
    """The shorter side of each rectangle (N, 4, 2) -> (N,)."""
    return np.asarray(np.linalg.norm(quads[:, (1, 3)] - quads[:, :1], axis=2).min(axis=1), np.float32)


def maps(quads: Floats, side: int, least: float = 5.0) -> Floats:
    """Targets of a square crop of `side` px with segments `quads` (N, 4, 2): float32 (4, side / 2, side / 2).

    Kernel (0 or 1), its mask (0 on segments lower than `least` px, which nobody can read), threshold (0.3 to 0.7
    at the border), and the threshold's mask. A map pixel (i, j) lies at (2 i + 0.5, 2 j + 0.5) of the crop.
    """
    size = side // 2
    result = np.zeros((4, size, size), np.float32)
    kernel, mask, threshold, band = result
    mask[:] = 1
    if not len(quads):
        return result
    tall = heights(quads)
    inner, border, outer = (((offset(quads, share) - 0.5) * 8).astype(np.int32) for share in (-SHRINK, 0.0, SHRINK))
    edges = np.ones((size, size), np.uint8)
    for index, height in enumerate(tall):
        if height < least:
            cv2.fillPoly(mask, [border[index]], (0,), shift=4)
        else:
            cv2.fillPoly(kernel, [inner[index]], (1,), shift=4)
            cv2.fillPoly(band, [outer[index]], (float(height) * SHRINK / 2,), shift=4)
            cv2.polylines(edges, [border[index]], True, (0,), shift=4)
    mask[kernel > 0] = 1
    distance = np.minimum(cv2.distanceTransform(edges, cv2.DIST_L2, 3), side)  # without an edge in sight: endless
    threshold[:] = 0.3 + 0.4 * np.clip(1 - distance / np.maximum(band, 1e-3), 0, 1)
    band[:] = band > 0
    return result


def matches(found: Floats, true: Floats, least: float = 0.5) -> list[tuple[int, int]]:
    """Pairs (i, j) of quads `found` (N, 4, 2) and `true` (M, 4, 2), one to one, best first, at an IoU >= `least`."""
    low = np.maximum(found[:, None].min(2), true[None].min(2))
    high = np.minimum(found[:, None].max(2), true[None].max(2))
    overlaps = []
    for i, j in np.argwhere((high > low).all(axis=2)):
        shared, _ = cv2.intersectConvexConvex(found[i], true[j])
        union = cv2.contourArea(found[i]) + cv2.contourArea(true[j]) - shared
        if shared >= least * union > 0:
            overlaps.append((shared / union, int(i), int(j)))
    pairs: list[tuple[int, int]] = []
    for _, i, j in sorted(overlaps, reverse=True):
        if all(i != a and j != b for a, b in pairs):
            pairs.append((i, j))
    return pairs
