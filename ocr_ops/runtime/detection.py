"""Detection: where the text of a page stands. A network's probability map, turned into boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import CorruptBundle
from ocr_ops.core.spec import BoxSpec, InputSpec
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.session import Session, padded, to_channels, to_tensor

PLAIN = BoxSpec()
"""Our own training's: regions are text boxes with each side moved in by a quarter of the box's height h, so a region
h / 2 thick gives back h. (DB's shrinkage leaves a long line a sixth of its height: any error would grow sixfold.)"""
RIM = 0.5
"""Pixels of the map that a region is too large by, all round: our training draws regions with their outlines."""
ORIGIN = 0.25
"""Where the map's first pixel lies, in pixels of the map: our training draws regions with pixel centres at whole
numbers of the page, two to a pixel of the map. Half a page pixel matters where a line is ten pixels high."""
MIN_AREA = 4
"""Pixels of the map."""
MIN_HEIGHT = 4.0
"""Pixels of the prepared page."""
ELONGATED = 6.0
"""Length / thickness above which a region tells its own direction; the rest take the page's."""
SAME_LINE = 0.35
"""How far apart, in heights, the centre lines of two overlapping boxes may be for them to be one line broken up."""
SAME_HEIGHT = 1.5
"""How much higher one of the two may be."""
VERTICAL = 2.0
"""Height over width, and over the height of the page's lines, above which a box holds text running downwards."""
MAX_ENLARGEMENT = 2.0
"""Word F1 of receipts at 75 dpi is 0.739 with 1.5, 0.756 with 2, 0.748 with 3; at 100 and 150 dpi it is the same."""
PAGE, NARROW = 2**0.5, 4.0
"""Times as long as wide: a page, and what is longer than it is a strip (receipts have up to 3.2)."""
LONGEST = 8.0
"""Times `max_side`: no strip is longer."""


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """A page as the detector reads it."""

    pixels: NDArray[np.uint8]
    """(H, W) or (H, W, 3), both sides multiples of the stride."""
    scale_x: float
    """Prepared pixels a page pixel."""
    scale_y: float

    def restore(self, polygons: NDArray[np.float32]) -> NDArray[np.float32]:
        """Polygons (N, 4, 2) in prepared pixels, in page pixels."""
        return np.asarray(polygons / np.array([self.scale_x, self.scale_y]), np.float32)


def prepare_page(page: NDArray[np.uint8], spec: InputSpec, max_enlargement: float = MAX_ENLARGEMENT) -> PreparedPage:
    """Resizes a page, uint8 (H, W) or (H, W, 3) RGB, so that its longer side is `spec.max_side` at most.

    By its longer side the print on a long strip would be shrunk away: one more than `NARROW` times as long as wide
    becomes as wide as one of that shape, as long as it has no more pixels than a page. A smaller page is enlarged, up
    to `max_enlargement` times, or as `spec.min_side` says. Both sides round to multiples of the stride. For a model of
    fixed size the page keeps its proportions and is padded.
    """
    height, width = page.shape[:2]
    fixed = (spec.height, spec.width)
    if all(fixed):
        factor = min(spec.height / height, spec.width / width)
        rows, columns = (max(round(side * factor), 1) for side in (height, width))
    else:
        enlargement = max(spec.min_side / min(height, width), 1.0) if spec.min_side else max_enlargement
        shorter, longer = sorted((height, width))
        ratio, longest = longer / shorter, float(spec.max_side)
        if ratio > NARROW and not spec.min_side:  # others' models are fed as they were trained to be
            longest *= min(ratio / NARROW, math.sqrt(ratio / PAGE), LONGEST)
        factor = min(longest / longer, enlargement)
        most = int(longest) // spec.stride
        rows, columns = (
            min(max(round(side * factor / spec.stride), 1), most) * spec.stride for side in (height, width)
        )
    page = to_channels(page, spec)
    if factor > 1:
        page = np.asarray(cv2.resize(page, (columns, rows), interpolation=cv2.INTER_CUBIC), np.uint8)
    elif (rows, columns) != (height, width):
        block = max(1, min(height // rows, width // columns))
        height, width = height - height % block, width - width % block
        page = _shrunk(page[:height, :width], rows, columns, block)
    if all(fixed):
        page = padded(page, spec.width, spec.height, spec)
    return PreparedPage(np.ascontiguousarray(page), columns / width, rows / height)


def _shrunk(page: NDArray[np.uint8], rows: int, columns: int, block: int) -> NDArray[np.uint8]:
    """A page of whole blocks at a smaller size: each block's mean, then less than half of what is left, between pixels.

    OpenCV's means over areas that are no whole pixels take five to ten times as long, and read no better: word F1 of
    the tiny pair 0.871 and 0.871 on receipts, 0.856 and 0.858 on born-digital pages.
    """
    height, width = page.shape[:2]
    if block > 1:
        page = np.asarray(cv2.resize(page, (width // block, height // block), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(page, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)


class Detector:
    def __init__(self, bundle: ModelBundle, threads: int | None = None) -> None:
        """Loads a detection bundle; errors as `Session`."""
        self.bundle = bundle
        self.session = Session(bundle, threads)

    def detect(self, pages: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Boxes of each prepared page, float32 (N, 4, 2) in its pixels: see `polygons`.

        Pages go through the network one by one: a CPU gains nothing from a stack, and memory stays flat.
        """
        with telemetry.stage("detection"):
            telemetry.batch("detection", len(pages))
            spec = self.bundle.manifest.boxes
            return [polygons(self._map(page), page.shape[1], page.shape[0], spec) for page in pages]

    def _map(self, page: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 (h, w)."""
        output = self.session.run(to_tensor([page], self.bundle.manifest.input))
        if output.ndim != 4 or output.shape[:2] != (1, 1):
            raise CorruptBundle(
                self.bundle.graph, f"output {output.shape}", "a map (N, 1, h, w)", "export or import the model again"
            )
        if self.bundle.manifest.boxes.output == "logits":
            return np.asarray(1 / (1 + np.exp(-np.clip(output[0, 0], -30, 30))), np.float32)
        return np.asarray(output[0, 0])


def polygons(probability: NDArray[np.float32], width: int, height: int, spec: BoxSpec = PLAIN) -> NDArray[np.float32]:
    """Boxes of a page of `width` x `height` pixels from its probability map, float32 (h, w) of any size.

    Each connected region above the threshold whose mean reaches the least score is taken for a shrunk rectangle and
    grown back as `spec` says. Returns float32 (N, 4, 2), inside the page: corners clockwise from the text's
    top-left, which is the box's own, or its top-right for text that runs down the page.
    """
    mask = probability > spec.threshold
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    inside = np.flatnonzero(mask)
    region = labels.ravel()[inside]
    area = np.maximum(np.bincount(region, minlength=count), 1)
    score = np.bincount(region, probability.ravel()[inside], count) / area
    wanted = (score >= spec.min_score) & (area >= MIN_AREA)
    wanted[0] = False  # the background
    if not wanted.any():
        return np.zeros((0, 4, 2), np.float32)
    # The narrowest type that holds the names and that OpenCV dilates.
    names = np.where(wanted, np.cumsum(wanted), 0).astype(np.uint16 if count < 2**16 else np.float32)
    regions = np.zeros(mask.shape, names.dtype)
    regions.ravel()[inside] = names[region]
    boxes = _joined(_in_reading_order(_corners(*_shrunk_rectangles(regions, probability, spec), spec=spec)))
    boxes *= [width / probability.shape[1], height / probability.shape[0]]
    legible = np.linalg.norm(boxes[:, 3] - boxes[:, 0], axis=1) >= MIN_HEIGHT
    return np.asarray(np.clip(boxes[legible], 0, [width, height]), np.float32)


def _shrunk_rectangles(
    labels: NDArray[Any], probability: NDArray[np.float32], spec: BoxSpec
) -> tuple[NDArray[np.float64], ...]:
    """The rectangle behind each region 1..N of `labels`, (h, w) of any type: angle
    (radians), centre x and y, width, height.

    Direction and thickness come from moments of the probabilities, the fuzzy rim included. Small text makes
    a region two pixels thick, and growing doubles any error of it: whole pixels are too coarse.
    """
    # Raster order within a region does not matter, only that each region's pixels stand together.
    rim = cv2.dilate(labels, np.ones((3, 3), np.uint8))
    place = np.flatnonzero(rim != 0)
    region = rim.ravel()[place]
    order = np.argsort(region, kind="stable")
    place, region = place[order], region[order].astype(np.intp) - 1
    starts = np.flatnonzero(np.diff(region, prepend=-1))
    y, x = np.divmod(place, rim.shape[1])
    weight = probability.ravel()[place].astype(np.float64)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(values, starts))

    mass = total(weight)
    centre_x, centre_y = total(weight * x) / mass, total(weight * y) / mass
    dx, dy = x - centre_x[region], y - centre_y[region]
    xx, yy, xy = (
        total(weight * dx * dx) / mass,
        total(weight * dy * dy) / mass,
        total(weight * dx * dy) / mass,
    )
    spread = np.hypot(xx - yy, 2 * xy)
    elongation = np.sqrt((xx + yy + spread) / np.maximum(xx + yy - spread, 1e-6))
    angle = np.arctan2(2 * xy, xx - yy) / 2
    angle -= np.pi / 2 * np.round(angle / (np.pi / 2))
    clear = elongation > ELONGATED
    angle = np.where(clear, angle, _weighted_median(angle[clear], mass[clear]))

    cos, sin = np.cos(angle), np.sin(angle)
    foot = np.abs(cos) + np.abs(sin)  # a pixel's own extent in a turned frame
    own = np.flatnonzero(labels.ravel()[place])  # without the rim
    begin, region, dx, dy = np.searchsorted(own, starts), region[own], dx[own], dy[own]
    along = dx * cos[region] + dy * sin[region]
    across = dy * cos[region] - dx * sin[region]
    first, last = np.minimum.reduceat(along, begin), np.maximum.reduceat(along, begin)
    top, bottom = np.minimum.reduceat(across, begin), np.maximum.reduceat(across, begin)
    width, height = last - first + foot, bottom - top + foot
    level = width >= height
    length, extent = np.maximum(width, height), np.minimum(width, height)
    thickness = np.maximum(np.minimum(mass / length, extent), extent - 1.5)  # a curved one keeps its extent
    rim_width, origin = (RIM, ORIGIN) if spec.growth == "height" else (0.0, 0.5)
    length, thickness = (np.maximum(side - 2 * rim_width, 0.5) for side in (length, thickness))
    # Mid-way along the text, at the centre of mass across it.
    shift_along = np.where(level, (first + last) / 2, 0)
    shift_across = np.where(level, 0, (top + bottom) / 2)
    return (
        angle,
        centre_x + origin + shift_along * cos - shift_across * sin,
        centre_y + origin + shift_along * sin + shift_across * cos,
        np.where(level, length, thickness),
        np.where(level, thickness, length),
    )


def _corners(
    angle: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    width: NDArray[np.float64],
    height: NDArray[np.float64],
    *,
    spec: BoxSpec,
) -> NDArray[np.float64]:
    """The corners (N, 4, 2) of shrunk rectangles, grown back: a rectangle's unclipping has a closed form."""
    unit = np.minimum(width, height) if spec.growth == "height" else width * height / (2 * (width + height))
    grown = 2 * spec.ratio * unit
    half_x, half_y = (width + grown)[:, None] / 2, (height + grown)[:, None] / 2
    u, v = half_x * [-1, 1, 1, -1], half_y * [-1, -1, 1, 1]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([x[:, None] + u * cos - v * sin, y[:, None] + u * sin + v * cos], axis=2)


def _in_reading_order(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (N, 4, 2) from their top-left, those of vertical text turned to begin at the top-right.

    Tall is not enough, or every lone 1 and I would lie on its side: vertical text is also far taller than the
    page's lines.
    """
    across = np.linalg.norm(boxes[:, 1] - boxes[:, 0], axis=1)
    down = np.linalg.norm(boxes[:, 3] - boxes[:, 0], axis=1)
    line = _weighted_median(np.minimum(across, down), np.maximum(across, down))
    vertical = (down > VERTICAL * across) & (down > VERTICAL * line)
    return np.where(vertical[:, None, None], np.roll(boxes, -1, axis=1), boxes)


def _joined(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (N, 4, 2) with those that overlap along one line made one.

    Boxes that belong apart keep a gap wider than a letter, so an overlap is a line the network broke up at a
    space. Read apart, the letters at the break would be read twice.
    """
    across, down = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 0]
    length, height = np.linalg.norm(across, axis=1), np.linalg.norm(down, axis=1)
    unit = across / np.maximum(length, 1e-6)[:, None]
    apart = boxes.mean(axis=1)[None] - boxes.mean(axis=1)[:, None]
    along = np.abs((apart * unit[:, None]).sum(axis=2))
    aside = np.abs(apart[..., 1] * unit[:, None, 0] - apart[..., 0] * unit[:, None, 1])
    low, high = np.minimum.outer(height, height), np.maximum.outer(height, height)
    one = (along < np.add.outer(length, length) / 2) & (aside < SAME_LINE * low) & (high < SAME_HEIGHT * low)
    group = np.arange(len(boxes))
    for i, j in np.argwhere(np.triu(one | one.T, 1)).tolist():
        group[group == group[j]] = group[i]

    _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    joined = [boxes[sizes[group] == 1]]
    for name in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(group == name)
        # From the middle of the first one's left side to that of the last one's right side, as high as the mean.
        order = members[np.argsort(boxes[members].mean(axis=1) @ unit[members[0]])]
        first, last = boxes[order[0]], boxes[order[-1]]
        start, end = (first[0] + first[3]) / 2, (last[1] + last[2]) / 2
        direction = (end - start) / max(float(np.linalg.norm(end - start)), 1e-6)
        half = np.array([-direction[1], direction[0]]) * np.average(height[members], weights=length[members]) / 2
        joined.append(np.array([[start - half, end - half, end + half, start + half]]))
    return np.concatenate(joined)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """The value at half the weight; 0 of none."""
    if not len(values):
        return 0.0
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
