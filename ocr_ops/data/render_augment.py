"""What printers, cameras and scanners do to ink on paper. All functions take and give grey uint8 images."""

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.runtime.sharpness import deblurred

Gray = NDArray[np.uint8]
Rng = np.random.Generator

RAMP = np.linspace(0.0, 1.0, 256)
"""Every grey level as a share of the lightest."""
ROUGH = 0.25
"""Share of images that come over the worst of ways: see `rough`."""
A_LINE = 80
"""Pixels of height below which an image is a line and not a page."""


def paper(rng: Rng, ink: Gray) -> Gray:
    """`ink` (255 full) printed on paper: levels, contrast and grain drawn at random; white paper is the commonest."""
    draw = rng.random()
    ground = 255.0 if draw < 0.35 else rng.uniform(225, 255) if draw < 0.7 else rng.uniform(130, 230)
    draw = rng.random()
    if draw < 0.45:
        contrast = rng.uniform(0.75, 1.0)
    elif draw < 0.85:
        contrast = rng.uniform(0.35, 0.75)
    else:
        contrast = rng.uniform(0.15, 0.35)
    return _bytes(cv2.LUT(ink, (ground * (1.0 - contrast * RAMP)).astype(np.uint8)))


def tone(rng: Rng, image: Gray) -> Gray:
    """`image` with other ink and other paper: darkest 0 to 120, lightest 150 to 255."""
    dark, light = rng.uniform(0, 120), rng.uniform(150, 255)
    return _bytes(cv2.LUT(image, (dark + (light - dark) * RAMP).astype(np.uint8)))


def field(rng: Rng, shape: tuple[int, int], low: float, high: float, cells: int = 2) -> NDArray[np.float32]:
    """A smooth random field over `shape` between about `low` and `high`, from a grid with `cells` cells a side."""
    grid = rng.uniform(low, high, (cells, max(cells, cells * shape[1] // max(shape[0], 1) // 2))).astype(np.float32)
    return np.asarray(cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def desk(rng: Rng, shape: tuple[int, int]) -> Gray:
    """What a page lies on: even, patchy like wood or cloth, or coarse."""
    low, high = sorted(rng.uniform(0, 220, 2))
    ground = field(
        rng, shape, low, high if rng.random() < 0.6 else low, int(np.exp(rng.uniform(np.log(2), np.log(60))))
    )
    return _grain(rng, ground.clip(0, 255).astype(np.uint8), rng.uniform(0, 15))


def worn_ink(rng: Rng, ink: Gray) -> Gray:
    """Thermal heads and dry ribbons: fading patches, streaks, lost or swollen dots."""
    draw = rng.random()
    if draw < 0.30:  # patches
        ink = (ink * field(rng, ink.shape, 0.3, 1.3).clip(0, 1)).astype(np.uint8)
    elif draw < 0.42:  # rows or columns a dead head leaves out
        worn = ink.copy()
        if rng.random() < 0.7:
            worn[:: int(rng.integers(3, 7))] //= 2 + int(rng.integers(3))
        else:
            worn[:, :: int(rng.integers(3, 9))] //= 2
        ink = worn
    elif draw < 0.55:  # speckle
        lost = rng.random(ink.shape, dtype=np.float32) < rng.uniform(0.03, 0.25)
        ink = np.where(lost, ink // 3, ink)
    elif draw < 0.75:  # swollen
        ink = cv2.dilate(ink, np.ones((int(rng.integers(1, 3)), int(rng.integers(1, 3))), np.uint8)).astype(np.uint8)
    elif draw < 0.9 and ink.shape[0] > 18:  # thin
        ink = cv2.erode(ink, np.ones((1, 2) if rng.random() < 0.5 else (2, 1), np.uint8)).astype(np.uint8)
    return ink


def dots(rng: Rng, ink: Gray) -> Gray:
    """A dot matrix: `ink` sampled on a coarse grid, each sample a dot."""
    rows = int(rng.integers(11, 17))
    columns = max(4, int(ink.shape[1] * rows / ink.shape[0] * rng.uniform(0.7, 1.0)))
    coarse = cv2.resize(ink, (columns, rows), interpolation=cv2.INTER_AREA)
    coarse = np.where(coarse > rng.integers(70, 120), 255, 0).astype(np.uint8)
    step = 4
    fine = cv2.resize(coarse, (columns * step, rows * step), interpolation=cv2.INTER_NEAREST)
    down, across = (np.abs(np.arange(count * step) % step - 1.5) for count in (rows, columns))
    fine = np.where(down[:, None] + across < rng.uniform(1.6, 3.1), fine, fine // 4).astype(np.uint8)
    return _bytes(cv2.resize(fine, (ink.shape[1], ink.shape[0]), interpolation=cv2.INTER_AREA))


def camera(rng: Rng, image: Gray, strength: float = 1.0) -> Gray:
    """Blur, low resolution, uneven light, noise, JPEG, gamma, inversion; `strength` scales how often each strikes."""
    if rng.random() < ROUGH * strength:
        return rough(rng, image)
    if rng.random() < 0.25 * strength:
        image = _low_resolution(rng, image)
    if rng.random() < 0.25 * strength:
        image = _blur(rng, image)
    elif rng.random() < 0.06 * strength:
        kernel = np.zeros((3, 3), np.float32)
        kernel[(1, slice(None)) if rng.random() < 0.5 else (slice(None), 1)] = 1 / 3
        image = _bytes(cv2.filter2D(image, -1, kernel))
    if rng.random() < 0.25 * strength:
        image = np.clip(image * field(rng, image.shape, 0.65, 1.05), 0, 255).astype(np.uint8)
    if rng.random() < 0.25 * strength:
        image = _grain(rng, image, rng.uniform(2, 18))
    if rng.random() < 0.2 * strength:
        image = _bytes(cv2.LUT(image, _gamma(rng.uniform(0.6, 1.7))))
    if rng.random() < 0.06 * strength:  # a fax or a bad threshold
        low, high = float(image.min()), float(image.max())
        image = np.where(image > low + (high - low) * rng.uniform(0.35, 0.75), 255, 0).astype(np.uint8)
    if rng.random() < 0.25 * strength:
        image = _jpeg(image, int(rng.integers(20, 85)))
    return 255 - image if rng.random() < 0.04 * strength else image


def rough(rng: Rng, image: Gray) -> Gray:
    """What pages suffer at the worst, one way or two: the far end of the curves in docs/benchmark.md.

    Blur and specks are taken away again half of the time, as serving does (`runtime.preprocess`).
    """
    line = image.shape[0] < A_LINE
    for way in rng.permutation(5)[: 1 if rng.random() < 0.75 else 2]:
        if way == 0:
            image = _fewer_pixels(rng, image) if line else _low_resolution(rng, image, 0.5)
        elif way == 1:
            sigma = rng.uniform(0.06, 0.13) * max(image.shape[0], 12) if line else rng.uniform(1.2, 2.8)
            image = _bytes(cv2.GaussianBlur(image, (0, 0), sigma))
            image = deblurred(image, sigma * rng.uniform(0.6, 0.95)) if rng.random() < 0.5 else image
        elif way == 2:
            image = _grain(rng, image, rng.uniform(18, 70))
        elif way == 3:
            image = _jpeg(image, int(rng.integers(4, 20)))
        else:
            share = np.exp(rng.uniform(np.log(0.002), np.log(0.06)))
            draw = rng.random(image.shape, dtype=np.float32)
            image = np.where(draw < share / 2, 0, np.where(draw > 1 - share / 2, 255, image)).astype(np.uint8)
            image = _bytes(cv2.medianBlur(image, 3)) if rng.random() < 0.5 else image
    return image


def _fewer_pixels(rng: Rng, image: Gray) -> Gray:
    """A line of small print: 8 to 15 px high, and left so half of the time."""
    height, width = image.shape
    low = int(rng.integers(8, 16))
    if low >= height:
        return image
    small = _bytes(cv2.resize(image, (max(4, round(width * low / height)), low), interpolation=cv2.INTER_AREA))
    return small if rng.random() < 0.5 else _bytes(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def _jpeg(image: Gray, quality: int) -> Gray:
    return _bytes(
        cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    )


@cache
def _noise() -> NDArray[np.float32]:
    """A square of white noise, once: drawing it anew for each image costs more than all the rest."""
    return np.random.default_rng(0).standard_normal((512, 1024), np.float32)


def _grain(rng: Rng, image: Gray, sigma: float) -> Gray:
    """`image` under white noise of `sigma` grey levels."""
    noise = _noise()
    top, left = (int(rng.integers(side)) for side in noise.shape)
    rows, columns = (
        (np.arange(n) + start) % side for n, start, side in zip(image.shape, (top, left), noise.shape, strict=True)
    )
    return np.asarray(np.clip(image + sigma * noise[rows[:, None], columns], 0, 255), np.uint8)


def _low_resolution(rng: Rng, image: Gray, least: float = 0.4) -> Gray:
    """Scanned small and blown up."""
    height, width = image.shape
    scale = rng.uniform(least, 0.9)
    small = cv2.resize(image, (max(2, int(width * scale)), max(8, int(height * scale))), interpolation=cv2.INTER_AREA)
    way = cv2.INTER_LINEAR if rng.random() < 0.6 else cv2.INTER_CUBIC
    return _bytes(cv2.resize(small, (width, height), interpolation=way))


def _blur(rng: Rng, image: Gray) -> Gray:
    """Out of focus: on a line in proportion to its height, on a page by pixels."""
    height = image.shape[0]
    sigma = rng.uniform(0.3, 1.3) if rng.random() < 0.75 else rng.uniform(1.3, 3.0)
    sigma *= max(height, 24) / 40 if height < 80 else 0.9
    return _bytes(cv2.GaussianBlur(image, (0, 0), sigma))


def _bytes(image: Any) -> Gray:
    """OpenCV is untyped: what it returns for a grey image is one."""
    return np.asarray(image, np.uint8)


def _gamma(value: float) -> Gray:
    return ((np.arange(256) / 255.0) ** value * 255.0).astype(np.uint8)


def reframe(rng: Rng, image: Gray, inwards: float, outwards: float) -> Gray:
    """A crop taken badly: each side moved by up to these shares of the height, edges repeated outwards."""
    height = image.shape[0]
    moves = rng.uniform(-inwards, outwards, 4) * height
    top, bottom, left, right = (round(float(move)) for move in moves)
    left, right = max(left, -2), max(right, -2)  # cutting letters off would make the label a lie
    image = image[max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : image.shape[1] - max(-right, 0)]
    added = (max(top, 0), max(bottom, 0), max(left, 0), max(right, 0))
    return _bytes(cv2.copyMakeBorder(image, *added, cv2.BORDER_REPLICATE)) if any(added) else image


def warp(rng: Rng, image: Gray, border: int) -> Gray:
    """Rotation to 2.5 degrees, slant and perspective of a single line; `border` fills what comes in."""
    height, width = image.shape
    angle = np.deg2rad(rng.normal(0, 0.9)).clip(-0.045, 0.045) * min(1.0, 8 * height / width)
    slant, lift = rng.normal(0, 0.08), rng.normal(0, 0.02) * height
    source = np.array(((0, 0), (width, 0), (0, height)), np.float32)
    rise = np.tan(angle) * width / 2
    target = source + np.array(
        ((slant * height, rise + lift), (slant * height, -rise + lift), (0, rise + lift)), np.float32
    )
    target[:, 0] -= min(0.0, slant * height)
    size = (int(width + abs(slant) * height), height)
    matrix = cv2.getAffineTransform(source, target.astype(np.float32))
    return _bytes(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=(border,)))
