"""Which slices of a benchmark an item belongs to: its script, width, rotation, noise and contrast.

An average hides the lines a variant loses; a slice shows them. Each is a cheap function of pixels and labels, written
`kind: value`, so that the same item falls into the same slices in every run.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.data.labels import Region

SHORT, LONG = 4.0, 12.0
"""Widths of a line in its heights: what is narrower is short, what is wider long."""
NOISE = (1.5, 5.0)
"""Standard deviations in grey levels between which noise is medium."""
FAINT = 80
"""Grey levels between ink and paper, below which contrast is faint."""
TILTED, TURNED = 1.5, 15.0
"""Degrees off level from which on a line is tilted, and turned."""

Image = NDArray[np.uint8]

_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def line_slices(image: Image, text: str) -> tuple[str, ...]:
    """Slices of a line crop, uint8 (h, w) or (h, w, 3) RGB, and its labelled text."""
    grey = _grey(image)
    height, width = grey.shape
    return (f"script: {script(text)}", _width(width / height), _rotation(slope(grey)), *_surface(grey))


def region_slices(page: Image, polygon: NDArray[np.float32], text: str) -> tuple[str, ...]:
    """Slices of a region of a page, uint8 (H, W) or (H, W, 3) RGB; float32 (4, 2) its corners, the top-left first."""
    corners = np.asarray(polygon, np.float32)
    low = np.clip(np.floor(corners.min(0)), 0, None).astype(int)
    high = np.ceil(corners.max(0)).astype(int) + 1
    cut = _grey(page[low[1] : high[1], low[0] : high[0]])
    along, across = float(np.linalg.norm(corners[1] - corners[0])), float(np.linalg.norm(corners[3] - corners[0]))
    width = _width(along / max(across, 1e-6))
    return (f"script: {script(text)}", width, _rotation(_angle(corners)), *_surface(cut))


def page_slices(page: Image, regions: Sequence[Region]) -> tuple[str, ...]:
    """Slices of a whole page, uint8 (H, W, 3) RGB: its prevailing script and rotation, its surface, how full it is."""
    known = [region for region in regions if region.readable]
    angles = [_angle(np.asarray(region.polygon, np.float32)) for region in known if len(region.polygon) >= 2]
    words = sum(len(region.text.split()) for region in known)
    full = "few" if words < 50 else "some" if words < 200 else "many"
    return (
        f"script: {script(' '.join(region.text for region in known))}",
        f"words: {full}",
        _rotation(median(angles) if angles else 0.0),
        *_surface(_grey(page)),
    )


def script(text: str) -> str:
    """The script most letters are of, as Unicode names it (`latin`, `han`); without any, `digits` or `signs`."""
    letters = Counter(_scripts(text))
    if letters:
        return letters.most_common(1)[0][0]
    return "digits" if any(char.isdigit() for char in text) else "signs"


def noise(grey: Image) -> float:
    """Standard deviation of noise in grey levels, of uint8 (h, w).

    Immerkaer's difference of two Laplacians (1996), with the median in place of the mean: strokes are edges, and no
    more than half of a line.
    """
    if min(grey.shape) < 3:
        return 0.0
    response = cv2.convertScaleAbs(cv2.filter2D(grey, cv2.CV_16S, _LAPLACE)[1:-1, 1:-1])
    return _percentile(np.asarray(response, np.uint8), 0.5) / (6 * 0.6745)


def contrast(grey: Image) -> float:
    """Grey levels between ink and paper, of uint8 (h, w): the 2nd and 98th of a hundred."""
    return float(_percentile(grey, 0.98) - _percentile(grey, 0.02))


def slope(grey: Image) -> float:
    """Degrees by which a line falls to the right, of uint8 (h, w): a straight line through its ink, weighted by ink.

    Where the crop is too narrow to tell (less than `SHORT` heights), 0.
    """
    height, width = grey.shape
    if width < SHORT * height:
        return 0.0
    ink = np.abs(grey.astype(np.float32) - float(np.median(grey)))
    ink[ink < 0.3 * max(float(ink.max()), 1.0)] = 0
    weight = ink.sum(0)
    inked = weight > 0
    if inked.sum() < 2:
        return 0.0
    x = np.flatnonzero(inked).astype(np.float64)
    y = (ink * np.arange(height, dtype=np.float32)[:, None]).sum(0)[inked] / weight[inked]
    x -= np.average(x, weights=weight[inked])
    fall = np.average(x * y, weights=weight[inked]) / max(float(np.average(x * x, weights=weight[inked])), 1e-6)
    return float(np.degrees(np.arctan(fall)))


def _scripts(text: str) -> Iterator[str]:
    for char in text:
        if char.isalpha():
            name = unicodedata.name(char, "unknown").split(" ")[0].lower()
            yield "han" if name == "cjk" else name


def _angle(corners: NDArray[np.float32]) -> float:
    """Degrees by which the text runs downwards, -180 to 180."""
    across, down = corners[1] - corners[0]
    return float(np.degrees(np.arctan2(down, across)))


def _width(heights: float) -> str:
    return f"width: {'short' if heights < SHORT else 'long' if heights >= LONG else 'medium'}"


def _rotation(degrees: float) -> str:
    off = abs(degrees)
    return f"rotation: {'level' if off < TILTED else 'tilted' if off < TURNED else 'turned'}"


def _surface(grey: Image) -> tuple[str, str]:
    if not grey.size:  # a region off its page
        return "noise: low", "contrast: faint"
    sigma = noise(grey)
    level = "low" if sigma < NOISE[0] else "high" if sigma >= NOISE[1] else "medium"
    return f"noise: {level}", f"contrast: {'faint' if contrast(grey) < FAINT else 'strong'}"


def _percentile(values: Image, share: float) -> int:
    """The smallest value with at least this share at or below it."""
    counts = cv2.calcHist([values], [0], None, [256], [0, 256])
    return int(np.searchsorted(counts.cumsum(), share * values.size))


def _grey(image: Image) -> Image:
    return image if image.ndim == 2 or not image.size else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
