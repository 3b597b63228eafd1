"""Preprocessing: what may be done to a page's pixels before they are read, step by step, and the way back.

Each step looks at the page first and leaves it as it is where it has nothing to mend. docs/preprocessing.md tells
what each is worth; what is on by default says `ReadOptions`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.contrast import strong
from ocr_ops.runtime.sharpness import sharp

Picture = NDArray[np.uint8]
Affine = NDArray[np.float64]
"""(2, 3): maps points (x, y, 1)."""

AS_IT_IS: Affine = np.eye(2, 3)

SMALL = 800
"""Pixels of a page's longer side below which it is enlarged."""
SKEWED = 1.5
"""Degrees below which a page counts as level: boxes follow their text that far and farther."""
ANGLES = tuple(map(float, range(-15, 16)))
"""Degrees by which a page may be crooked."""
CLEAR = 1.8
"""Times as clearly as at most angles that a page's ink must fall into rows: text gives 2.2 and more, a map 1.3."""
BETTER = 1.3
"""The same beside the page as it is: a line or two of large letters fall into rows at many angles."""
LOOKED_AT = 700
"""Pixels of the longer side at which a page's skew is looked for."""
SMALLEST = 32
"""Pixels of the shorter side below which a page has no lines to tell."""
LITTLE = 1500
"""Points of ink below which it says too little: some forty letters."""
INK_POINTS = 8_000
"""Points of a page's ink that are looked at."""
SPECK = 40
"""Grey levels by which a speck differs from every pixel around it: no stroke does."""
SPECKED = 0.25
"""Share of the tiles of empty paper with specks on them, from which on a page is cleaned. Dots and colons of small
print are specks too, but stand beside strokes: of 141 real pages none has more than 0.10, and with one pixel in five
hundred made black or white none less than 0.47."""
CALM = 6
"""Grey levels by which pixels of paper differ from the median around them."""
GRAIN = 0.15
"""Share of a tile's pixels that differ more when they are grain (half of it is white on white), not specks. Networks
read grain better as it is: without its tallest pixels word F1 of small print fell from 0.90 to 0.84 (sigma 20)."""
STROKES = 60
"""Grey levels that a tile spans, specks aside, when there is more than paper on it."""
TILE = 32
"""Pixels of a side; a row of tiles is looked at of every four."""


@dataclass(frozen=True, slots=True)
class View:
    """A page as it is read."""

    pixels: Picture
    """(H, W) or (H, W, 3) RGB."""
    back: Affine
    """From its points to those of the page as given."""

    def then(self, step: "Step") -> "View":
        """What a step makes of it."""
        made = step(self.pixels)
        return View(made.pixels, after(self.back, made.back)) if isinstance(made, View) else View(made, self.back)


Step = Callable[[Picture], View | Picture]


def after(last: Affine, first: Affine) -> Affine:
    """The map that is `first` and then `last`."""
    return np.asarray(last @ np.vstack([first, [0, 0, 1]]))


def prepared(page: Picture, options: ReadOptions) -> View:
    """The page, uint8 (H, W, 3) RGB or (H, W), after the steps that `options` ask for."""
    view = View(page, AS_IT_IS)
    for name, step in STEPS.items():
        if getattr(options, name):
            view = view.then(step)
    return view


def clean(page: Picture) -> Picture:
    """Without specks: a pixel much darker or lighter than all around it becomes their median."""
    grey = _grey(page)
    if not _specked(grey):
        return page
    spots = _specks(grey)
    for _ in range(2):  # those beside each other need another look
        page = np.where(spots if page.ndim == 2 else spots[:, :, None], cv2.medianBlur(page, 3), page)
        spots = _specks(_grey(page))
    return page


def _specked(grey: Picture) -> bool:
    """Whether there are specks all over a page, (H, W), and not beside its strokes alone, nor out of its grain."""
    empty, dirty = 0, 0
    for top in range(0, len(grey) - TILE + 1, 4 * TILE):
        band = grey[top : top + TILE]
        smooth = np.asarray(cv2.medianBlur(band, 3), np.uint8)
        paper = np.ptp(_tiles(smooth), axis=(1, 2)) < STROKES
        rough = np.asarray(cv2.absdiff(band, smooth) > CALM).view(np.uint8)
        grain = _tiles(rough)[paper].mean(axis=(1, 2)) > GRAIN
        specks = _tiles(_specks(band).view(np.uint8))[paper].any(axis=(1, 2))
        empty, dirty = empty + len(specks), dirty + int((specks & ~grain).sum())
    return dirty > SPECKED * empty


def _tiles(band: Picture) -> Picture:
    """(TILE, W) as (n, TILE, TILE), what is left at the right left out."""
    columns = band.shape[1] // TILE * TILE
    return band[:, :columns].reshape(TILE, -1, TILE).swapaxes(0, 1)


def _specks(grey: Picture) -> NDArray[np.bool_]:
    """Which pixels, (H, W), differ much from all their neighbours."""
    around = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    darker = cv2.subtract(cv2.erode(grey, around), grey)
    lighter = cv2.subtract(grey, cv2.dilate(grey, around))
    return np.asarray(cv2.max(darker, lighter) > SPECK)


def enlarged(page: Picture) -> View | Picture:
    """A page of few pixels at twice its size."""
    height, width = page.shape[:2]
    if max(height, width) >= SMALL:
        return page
    pixels = cv2.resize(page, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    return View(np.asarray(pixels, np.uint8), AS_IT_IS / 2)


def levelled(page: Picture) -> View | Picture:
    """A crooked page turned level, on a sheet that holds its corners."""
    degrees = skew(page)
    if abs(degrees) < SKEWED:
        return page
    height, width = page.shape[:2]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    size = int(np.ceil(width * cos + height * abs(sin))), int(np.ceil(width * abs(sin) + height * cos))
    back = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    back[:, 2] = np.array([width, height]) / 2 - back[:, :2] @ np.array(size) / 2
    # Corners lie on pixel edges, OpenCV samples at pixel centres.
    sampled = back.copy()
    sampled[:, 2] += back[:, :2].sum(axis=1) / 2 - 0.5
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    turned = cv2.warpAffine(page, sampled, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=_paper(page))
    return View(np.asarray(turned, np.uint8), back)


def skew(page: Picture) -> float:
    """Degrees by which a page's lines fall to the right, or to the left below 0; 0 of a page that does not tell.

    Seen along its lines, a page's ink falls into few rows. It is looked at along every angle, also of lines that run
    down the page.
    """
    grey = _grey(page)
    if min(grey.shape) < SMALLEST:
        return 0.0
    scale = LOOKED_AT / max(grey.shape)
    if scale < 1:
        grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    ground = cv2.medianBlur(cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), 21)
    ground = cv2.resize(ground, grey.shape[::-1])
    points = np.argwhere(cv2.absdiff(grey, ground) > 40)[:, ::-1].astype(np.float64)
    if len(points) < LITTLE:
        return 0.0
    if len(points) > INK_POINTS:  # at random: every n-th would see stripes of its own
        points = points[np.random.default_rng(0).integers(len(points), size=INK_POINTS)]
    rough = [(_clearness(way, x), x, way) for way in (points, points[:, ::-1] * [1, -1]) for x in ANGLES]
    clearest, best, way = max(rough, key=itemgetter(0))
    found = {degrees: clearness for clearness, degrees, other in rough if other is way}
    if clearest < max(CLEAR * median(found.values()), BETTER * found[0.0]):
        return 0.0
    for step in (0.25, 0.05):
        best = max((best + step * i for i in range(-4, 5)), key=partial(_clearness, way))
    return best


def _clearness(points: NDArray[np.float64], degrees: float) -> float:
    """How clearly points (N, 2) fall into rows at this angle."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = np.rint(points[:, 1] * cos - points[:, 0] * sin).astype(np.intp)
    counts = np.bincount(rows - rows.min()).astype(np.float64)
    return float(np.square(np.diff(counts)).sum())


def _grey(page: Picture) -> Picture:
    """(H, W): green is near enough to brightness."""
    return page if page.ndim == 2 else np.ascontiguousarray(page[:, :, 1])


def _paper(page: Picture) -> tuple[float, ...]:
    """The page's commonest colour, near enough: each channel's median."""
    return tuple(np.median(page[::8, ::8].reshape(-1, *page.shape[2:]), axis=0).reshape(-1).tolist())


STEPS: Mapping[str, Step] = {
    "denoise": clean,
    "contrast": strong,
    "sharpen": sharp,
    "upscale": enlarged,
}
"""In the order they are done, each by the name of its option. Whether a page is to be levelled (`deskew`) or turned
(`orientation`) shows only after it was read once: pages that need neither pay nothing.
"""
