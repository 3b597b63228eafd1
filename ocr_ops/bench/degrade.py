"""What happens to pages on their way: turned, blurred, squeezed, shrunk, faded, specked. Pure functions of the pixels.

Pages are uint8 (H, W, 3) RGB; the same page and strength give the same pixels on every machine with the same OpenCV.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

PAGE_DPI = 150.0
"""What a page's own resolution is taken for; so the born-digital pages are rendered, and receipts are near it."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """One way for a page to suffer, and the strengths it is measured at, from mild to strong."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[Image, float], Image]
    harmless: float | None
    """The strength that leaves the page as it is, one of `strengths`; None when every one changes it."""


def rotated(page: Image, degrees: float) -> Image:
    """Turned clockwise about its centre on a sheet that holds all its corners, paper filling what is new."""
    if degrees == 0:
        return page
    height, width = page.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
    size = int(np.ceil(width * cos + height * sin)), int(np.ceil(width * sin + height * cos))
    turn[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return np.asarray(cv2.warpAffine(page, turn, size, flags=cv2.INTER_CUBIC, borderValue=_paper(page)), np.uint8)


def turned(page: Image, degrees: float) -> Image:
    """Turned clockwise by quarters: 0, 90, 180 or 270 degrees, nothing resampled."""
    return np.ascontiguousarray(np.rot90(page, -round(degrees / 90) % 4))


def blurred(page: Image, sigma: float) -> Image:
    """Gaussian blur, sigma in pixels."""
    if sigma == 0:
        return page
    return np.asarray(cv2.GaussianBlur(page, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


def compressed(page: Image, quality: float) -> Image:
    """Through JPEG at a quality of 1 to 100 (libjpeg's scale, 4:2:0)."""
    data = cv2.imencode(".jpg", page[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1])


def resampled(page: Image, dpi: float) -> Image:
    """As if scanned at `dpi`, its own being `PAGE_DPI`: shrunk by area, enlarged by cubics."""
    if dpi == PAGE_DPI:
        return page
    height, width = page.shape[:2]
    scale = dpi / PAGE_DPI
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(page, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def faded(page: Image, share: float) -> Image:
    """With only `share` of its contrast, 0 to 1: every pixel moved towards the paper's colour."""
    if share == 1:
        return page
    paper = np.array(_paper(page), np.float32)
    return np.rint(paper + (page - paper) * np.float32(share)).clip(0, 255).astype(np.uint8)


def grainy(page: Image, sigma: float) -> Image:
    """With Gaussian noise, sigma in grey levels, the same in all channels: a dim sensor's grain."""
    if sigma == 0:
        return page
    noise = np.random.default_rng(0).normal(0, sigma, (*page.shape[:2], 1))
    return np.rint(page + noise).clip(0, 255).astype(np.uint8)


def specked(page: Image, share: float) -> Image:
    """With `share` of its pixels black or white at random: dust, bad transmission, coarse copies."""
    if share == 0:
        return page
    draw = np.random.default_rng(0).random((*page.shape[:2], 1))
    return np.where(draw < share / 2, 0, np.where(draw > 1 - share / 2, 255, page)).astype(np.uint8)


DEGRADATIONS = (
    Degradation("rotation", "degrees", (0, 1, 2, 3, 4, 5), rotated, 0),
    Degradation("blur", "sigma, pixels", (0, 0.5, 1, 1.5, 2, 3), blurred, 0),
    Degradation("JPEG", "quality", (90, 50, 30, 20, 10, 5), compressed, None),
    Degradation("resolution", "dpi", (300, 200, 150, 120, 100, 75), resampled, PAGE_DPI),
    Degradation("contrast", "share left", (1, 0.5, 0.3, 0.2, 0.1, 0.05), faded, 1),
    Degradation("grain", "sigma, grey levels", (0, 10, 20, 30, 40, 60), grainy, 0),
    Degradation("specks", "share of pixels", (0, 0.002, 0.005, 0.01, 0.02, 0.05), specked, 0),
    Degradation("orientation", "degrees", (0, 90, 180, 270), turned, 0),
)


def _paper(page: Image) -> tuple[float, float, float]:
    """The page's commonest brightness, as a colour: each channel's median over the lighter half of the page."""
    bright = page[::4, ::4].reshape(-1, page.shape[2])
    level = bright.mean(1)
    red, green, blue = np.median(bright[level >= np.median(level)], axis=0)
    return float(red), float(green), float(blue)
