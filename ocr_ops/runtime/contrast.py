"""Contrast: faint pages, as photocopies and till rolls are, printed anew in black."""

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

FAINT = 100
"""Grey levels between ink and paper below which a page is stretched; readable print has 120 and more."""
EMPTY = 6
"""Grey levels below which there is nothing but noise to stretch."""
DARKEST = 0.0001
"""Share of the pixels that may be darker than the ink: a page of one word has little of it."""
STEP = 4
"""Every how many pixels are looked at, each way."""


def strong(page: Picture) -> Picture:
    """`page`, uint8 (H, W) or (H, W, 3) RGB, with its ink black and its paper white if it is faint; else as it is.

    One straight line maps all levels of all channels, so that nothing is lost and colours keep their order.
    """
    sample = page[::STEP, ::STEP] if page.ndim == 2 else page[::STEP, ::STEP, 1]
    counts = cv2.calcHist([np.ascontiguousarray(sample)], [0], None, [256], [0, 256]).ravel().cumsum(dtype=np.float64)
    dark, light = (int(np.searchsorted(counts, share * counts[-1])) for share in (DARKEST, 1 - DARKEST))
    if not EMPTY <= light - dark < FAINT:
        return page
    levels = (np.arange(256) - dark) * (255.0 / (light - dark))
    return np.asarray(cv2.LUT(page, np.clip(np.rint(levels), 0, 255).astype(np.uint8)), np.uint8)
