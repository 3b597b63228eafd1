"""Recognition: crops of a page, read by a network. A crop's text never depends on its neighbours."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import CorruptBundle
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.ctc import Decoded, Steps, most_probable, spell
from ocr_ops.runtime.session import Session, padded, to_channels, to_tensor

MARGIN_X = 0.05
MARGIN_Y = 0.0
"""Added around a box before it is cut out, in heights of the box, which has a margin of its own."""
BUCKET = 32
"""Crops are padded to the next multiple, in pixels of width, unless the manifest has buckets."""
CALL_WIDTH = 2048
"""Crops of one call together, in pixels of width: what stays in a core's cache."""
GPU_CALL_WIDTH = 16384
"""The same where a GPU runs it, which takes 64 crops of 256 pixels in twice the time of one."""
MIN_WIDTH = 8
OVERSAMPLING = 4
"""A crop is cut out at no more than so many times its final height."""
ALIASED = 1.25
"""Times its final height from which on a crop is cut out larger at all."""
PARALLEL = 0.05
"""Pixels by which a box may miss being a parallelogram, and is still cut out as one."""

_SAMPLED = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def parts_of(polygons: NDArray[np.floating], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts (N, 4, 2) of polygons (N, 4, 2), or of one (4, 2), each between two shares (N, 2) of its crop's width:
    `Decoded.spans`.
    """
    width, height = (side[..., None] for side in _sides(polygons))
    margin = MARGIN_X * height
    inside = np.clip((shares * (width + 2 * margin) - margin) / np.maximum(width, 1e-6), 0, 1)[..., None]
    first, second, third, fourth = np.moveaxis(polygons, -2, 0)[..., None, :]
    top, bottom = first + inside * (second - first), fourth + inside * (third - fourth)
    return np.concatenate([top, bottom[:, ::-1]], axis=1)


def prepare_crop(page: NDArray[np.uint8], polygon: NDArray[np.float32], spec: InputSpec) -> NDArray[np.uint8]:
    """Cuts one polygon (4, 2) out of a page: as `prepare_crops`."""
    return prepare_crops(page, np.asarray(polygon, np.float32)[None], spec)[0]


def prepare_crops(page: NDArray[np.uint8], polygons: NDArray[np.float32], spec: InputSpec) -> list[NDArray[np.uint8]]:
    """Cuts polygons (N, 4, 2) out of a page as uint8 (spec.height, W) or (spec.height, W, 3): their first sides on top.

    W keeps the proportions, in whole strides, up to `spec.max_side`: what is longer is squeezed, or for a model of
    fixed width made smaller as a whole, and padded below. Give the page
    with the model's channels (`to_channels`), or each crop is converted for itself.
    """
    quads = np.asarray(polygons, np.float64)
    width, height = _sides(quads)
    first, second, third, fourth = (quads[:, i] for i in range(4))
    along = (second - first + third - fourth) / 2 / np.maximum(width, 1e-6)[:, None]
    down = (fourth - first + third - second) / 2 / np.maximum(height, 1e-6)[:, None]
    mx, my = along * (MARGIN_X * height)[:, None], down * (MARGIN_Y * height)[:, None]
    quads = quads + np.stack([-mx - my, mx - my, mx + my, my - mx], axis=1)
    width, height = width + 2 * MARGIN_X * height, height * (1 + 2 * MARGIN_Y)

    steps = np.rint(width * spec.height / np.maximum(height, 1.0) / spec.stride)
    columns = np.clip(steps * spec.stride, MIN_WIDTH, spec.max_side)
    rows = np.full_like(columns, spec.height)
    if spec.width:
        columns = np.minimum(columns, spec.width)
        rows = np.clip(np.rint(height * columns / np.maximum(width, 1.0)), 1, spec.height)
    # Much larger text is cut out at its own size first: sampling it at the final size would alias.
    zoom = np.clip(height / rows, 1.0, OVERSAMPLING)
    zoom[zoom < ALIASED] = 1.0
    sizes = np.rint(np.stack([columns, rows]) * zoom).T
    # Most boxes are parallelograms: their warp needs neither an equation solved nor a division a pixel.
    across, below = quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0]
    skewed = np.abs(quads[:, 0] + across + below - quads[:, 2]).max(axis=1) > PARALLEL
    # Corners lie on pixel edges, OpenCV samples at pixel centres.
    to_page = np.stack([across / sizes[:, :1], below / sizes[:, 1:], quads[:, 0] - 0.5], axis=2)
    to_page[:, :, 2] += to_page[:, :, :2].sum(axis=2) / 2

    crops = []
    for i, (size, final) in enumerate(
        zip(sizes.astype(int).tolist(), np.stack([columns, rows], axis=1).astype(int).tolist(), strict=True)
    ):
        if skewed[i]:
            crop = _perspective(page, quads[i], size)
        else:
            crop = cv2.warpAffine(page, to_page[i], size, flags=_SAMPLED, borderMode=cv2.BORDER_REPLICATE)
        if size != final:
            crop = cv2.resize(crop, final, interpolation=cv2.INTER_AREA)
        crops.append(to_channels(padded(np.asarray(crop, np.uint8), final[0], spec.height, spec), spec))
    return crops


def _perspective(page: NDArray[np.uint8], quad: NDArray[np.float64], size: list[int]) -> Any:
    """Any quadrilateral (4, 2) of a page as a picture of `size`, columns and rows."""
    corners = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32)
    to_page = cv2.getPerspectiveTransform(corners - 0.5, quad.astype(np.float32) - 0.5)
    return cv2.warpPerspective(page, to_page, size, flags=_SAMPLED, borderMode=cv2.BORDER_REPLICATE)


def whole_crop(image: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """A line crop, uint8 (h, w), as a recogniser is given it: read as a page that holds this line and no more."""
    height, width = image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    return prepare_crop(image, corners, spec)


class Recognizer:
    def __init__(self, bundle: ModelBundle, threads: int | None = None) -> None:
        """Loads a recognition bundle; errors as `Session`."""
        self.bundle = bundle
        self.session = Session(bundle, threads)

    def recognize(self, crops: Sequence[NDArray[np.uint8]]) -> list[Decoded]:
        """Reads prepared crops, uint8 (height, W) or (height, W, 3), in their order.

        Each is padded to its own bucket (or the model's fixed width), also when it comes alone: neighbours change
        nothing.
        """
        steps: dict[int, Steps] = {}
        groups: dict[int, list[int]] = defaultdict(list)
        for i, crop in enumerate(crops):
            groups[self.width_of(crop)].append(i)
        for width, members in sorted(groups.items()):
            step = self.call_size(width)
            for start in range(0, len(members), step):
                call = members[start : start + step]
                steps |= zip(call, self.steps_at([crops[i] for i in call], width), strict=True)
        return self.spell([steps[i] for i in range(len(crops))])

    def width_of(self, crop: NDArray[np.uint8]) -> int:
        """What a prepared crop, uint8 (height, W) or (height, W, 3), is padded to, in pixels."""
        manifest = self.bundle.manifest
        return manifest.input.width or bucket(crop.shape[1], manifest.buckets)

    def call_size(self, width: int) -> int:
        """The most crops padded to `width` that one call of the network takes."""
        return max(1, (GPU_CALL_WIDTH if self.session.on_gpu else CALL_WIDTH) // width)

    def read_at(self, crops: Sequence[NDArray[np.uint8]], width: int) -> list[Decoded]:
        """Reads prepared crops in one call of the network, each padded to `width`, a multiple of the stride."""
        return self.spell(self.steps_at(crops, width))

    def spell(self, steps: Sequence[Steps]) -> list[Decoded]:
        """The texts of crops from what the network said of them."""
        return spell(steps, self.bundle.manifest.charset, self.bundle.manifest.text)

    def steps_at(self, crops: Sequence[NDArray[np.uint8]], width: int) -> list[Steps]:
        """What the network says of crops padded to `width`, in one call.

        A crop is decoded over its own time steps only. Black padding is part of what a model learnt to read, and
        decoded with the rest.
        """
        spec = self.bundle.manifest.input
        with telemetry.stage("recognition"):
            telemetry.batch("recognition", len(crops))
            scores = self.session.run(to_tensor(crops, spec, width))
            self._check(scores, len(crops), width // spec.stride)
            labels, certainty = most_probable(scores, self.bundle.manifest.text)
        if spec.padding == "black":
            sizes = [labels.shape[1] * crop.shape[1] / width for crop in crops]
            return list(map(Steps, labels, certainty, sizes))
        own = [-(-crop.shape[1] // spec.stride) for crop in crops]
        return [Steps(labels[i, :size], certainty[i, :size], size) for i, size in enumerate(own)]

    def _check(self, scores: NDArray[np.float32], rows: int, steps: int) -> None:
        expected = (rows, steps, len(self.bundle.manifest.charset) + 1)
        if scores.shape != expected:
            raise CorruptBundle(
                self.bundle.graph, f"output {scores.shape}", f"scores {expected}", "export or import the model again"
            )


def bucket(width: int, buckets: Sequence[int] = ()) -> int:
    """The width a crop is padded to: the narrowest of rising `buckets` that holds it, or the next multiple of 32."""
    place = bisect_left(buckets, width)
    return buckets[place] if place < len(buckets) else -(-width // BUCKET) * BUCKET


def _sides(quads: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Mean lengths (...) of the sides along and across the text of quadrilaterals (..., 4, 2)."""
    edges = np.roll(quads, -1, axis=-2) - quads
    lengths = np.hypot(edges[..., 0], edges[..., 1])
    return (lengths[..., 0] + lengths[..., 2]) / 2, (lengths[..., 1] + lengths[..., 3]) / 2
