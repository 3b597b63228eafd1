"""Sharpness: pages out of focus, as photographs and copies of copies are, brought back as far as that goes."""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

SOFT = 1.4
"""Softness from which on a page is sharpened. Real pages: as they are 0.5 to 1.3, blurred by a sigma of 1 pixel 1.0 to
2.1, of 1.5 pixels 1.4 to 2.6, of 2 pixels 1.8 to 3.3. What is less soft the networks read better as it is."""
SIGMA = 0.57
"""Of the blur that is undone, to softness: a part of what was there, since too much rings."""
NOISE = 0.03
"""Power of the noise to that of the page (Wiener's filter): along an axis, nothing is multiplied by more than 2.9."""
REACH = 8
"""Pixels of the filter to either side."""
STEP = 32
"""Every how many rows are looked at."""
EDGE = 8
"""Grey levels over two pixels below which there is no edge."""
EDGES = 50
"""Pixels of edges below which a page tells nothing."""


def sharp(page: Picture) -> Picture:
    """`page`, uint8 (H, W) or (H, W, 3) RGB, as if it had been in focus; as it is where it was."""
    found = softness(page)
    if found < SOFT:
        return page
    return deblurred(page, SIGMA * found)


def deblurred(page: Picture, sigma: float) -> Picture:
    """`page`, uint8 (H, W) or (H, W, 3), with a Gaussian blur of `sigma` pixels undone as far as noise lets it."""
    taps = _undoing(sigma)
    return np.asarray(cv2.sepFilter2D(page, -1, taps, taps, borderType=cv2.BORDER_REPLICATE), np.uint8)


def softness(page: Picture) -> float:
    """About the pixels that an edge takes from dark to light, whatever its contrast; 0 of a page without edges.

    Along rows or columns, whichever is sharper: strokes lie otherwise than they stand, and a page that lies on its side
    is no softer than an upright one.
    """
    plane = page if page.ndim == 2 else page[:, :, 1]
    return min(_softness(plane[::STEP]), _softness(plane[:, ::STEP].T))


def _softness(lines: Picture) -> float:
    """First differences to second ones, along lines (N, L), where the first are largest.

    The wider the edge, the smaller the second. Grain makes them larger, so that noise is never taken for a blur.
    """
    rows = lines.astype(np.int16)
    slope = np.abs(rows[:, 2:] - rows[:, :-2])
    steepest = np.searchsorted(np.bincount(slope.ravel(), minlength=1).cumsum(), 0.99 * slope.size)
    where = slope > max(float(steepest), EDGE) / 2
    if where.sum() < EDGES:
        return 0.0
    bend = (rows[:, 2:] - 2 * rows[:, 1:-1] + rows[:, :-2])[where].astype(np.float64)
    first, second = np.square(slope[where].astype(np.float64)).mean(), np.square(bend).mean()
    return float(np.sqrt(first / max(second, 1e-6)) / 2)


def _undoing(sigma: float) -> NDArray[np.float32]:
    """The filter along one axis, float32 (2 * REACH + 1,), that undoes a Gaussian blur; it adds up to one."""
    blur = np.exp(-0.5 * (sigma * 2 * np.pi * np.fft.fftfreq(256)) ** 2)
    response = np.fft.fftshift(np.fft.ifft(blur / (blur**2 + NOISE)).real)
    taps = response[128 - REACH : 128 + REACH + 1]
    return np.asarray(taps / taps.sum(), np.float32)
