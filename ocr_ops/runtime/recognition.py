"""Recognition: crops of a page, read by a network. A crop's text never depends on its neighbours."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import CorruptBundle
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.ctc import Decoded, decode
from ocr_ops.runtime.session import Session, padded, to_channels, to_tensor

MARGIN_X = 0.05
MARGIN_Y = 0.0
"""Added around a box before it is cut out, in heights of the box, which has a margin of its own."""
BUCKET = 32
"""Crops are padded to the next multiple, in pixels of width."""
CALL_WIDTH = 2048
"""Crops of one call together, in pixels of width: what stays in a core's cache."""
MIN_WIDTH = 8
OVERSAMPLING = 4
"""A crop is cut out at no more than so many times its final height."""


def parts_of(polygon: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts (N, 4, 2) of a polygon (4, 2), each between two shares (N, 2) of its crop's width: `Decoded.spans`."""
    width, height = _sides(polygon)
    margin = MARGIN_X * height
    inside = np.clip((shares * (width + 2 * margin) - margin) / max(width, 1e-6), 0, 1)
    top = polygon[0] + inside[:, :, None] * (polygon[1] - polygon[0])
    bottom = polygon[3] + inside[:, :, None] * (polygon[2] - polygon[3])
    return np.concatenate([top, bottom[:, ::-1]], axis=1)


def prepare_crop(page: NDArray[np.uint8], polygon: NDArray[np.float32], spec: InputSpec) -> NDArray[np.uint8]:
    """Cuts a polygon (4, 2) out of a page as uint8 (spec.height, W) or (spec.height, W, 3): its first side on top.

    W keeps the proportions, in whole strides, up to `spec.max_side`: what is longer is squeezed, or for a model of
    fixed width made smaller as a whole, and padded below. Give the page
    with the model's channels (`to_channels`), or each crop is converted for itself.
    """
    quad = np.asarray(polygon, np.float32)
    width, height = _sides(quad)
    along = (quad[1] - quad[0] + quad[2] - quad[3]) / 2 / max(width, 1e-6)
    down = (quad[3] - quad[0] + quad[2] - quad[1]) / 2 / max(height, 1e-6)
    mx, my = along * MARGIN_X * height, down * MARGIN_Y * height
    quad = quad + np.array([-mx - my, mx - my, mx + my, my - mx])
    width, height = width + 2 * MARGIN_X * height, height * (1 + 2 * MARGIN_Y)

    steps = round(width * spec.height / max(height, 1.0) / spec.stride)
    columns = min(max(steps * spec.stride, MIN_WIDTH), spec.max_side)
    rows = spec.height
    if spec.width:
        columns = min(columns, spec.width)
        rows = min(max(round(height * columns / max(width, 1.0)), 1), spec.height)
    # Much larger text is cut out at its own size first: sampling it at the final size would alias.
    zoom = min(max(height / rows, 1.0), OVERSAMPLING)
    if zoom < 1.25:
        zoom = 1.0
    size = round(columns * zoom), round(rows * zoom)
    corners = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32)
    # Corners lie on pixel edges, OpenCV samples at pixel centres.
    warp = cv2.getPerspectiveTransform(quad.astype(np.float32) - 0.5, corners - 0.5)
    crop = cv2.warpPerspective(page, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if zoom > 1:
        crop = cv2.resize(crop, (columns, rows), interpolation=cv2.INTER_AREA)
    return to_channels(padded(np.asarray(crop, np.uint8), columns, spec.height, spec), spec)


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

        Each is padded to its own bucket (or the model's fixed width), also when it comes alone, and decoded over
        its own time steps only: neighbours change nothing. Black padding is part of what a model learnt to read,
        and decoded with the rest.
        """
        manifest = self.bundle.manifest
        spec, charset = manifest.input, manifest.charset
        read: dict[int, Decoded] = {}
        with telemetry.stage("recognition"):
            telemetry.batch("recognition", len(crops))
            for width, members in _calls([crop.shape[1] for crop in crops], spec.width):
                batch = [padded(crops[i], width, spec.height, spec) for i in members]
                scores = self.session.run(to_tensor(batch, spec))
                self._check(scores, len(members), width // spec.stride)
                for i, row in zip(members, scores, strict=True):
                    own = crops[i].shape[1]
                    if spec.padding == "black":
                        read[i] = decode(row, charset, manifest.text, own / width)
                    else:
                        read[i] = decode(row[: -(-own // spec.stride)], charset, manifest.text)
        return [read[i] for i in range(len(crops))]

    def _check(self, scores: NDArray[np.float32], rows: int, steps: int) -> None:
        expected = (rows, steps, len(self.bundle.manifest.charset) + 1)
        if scores.shape != expected:
            raise CorruptBundle(
                self.bundle.graph, f"output {scores.shape}", f"scores {expected}", "export or import the model again"
            )


def _calls(widths: Sequence[int], fixed: int = 0) -> Iterator[tuple[int, list[int]]]:
    """Groups crops, by their widths, into network calls: padded width, and the indices of its crops."""
    buckets: dict[int, list[int]] = defaultdict(list)
    for i, width in enumerate(widths):
        buckets[fixed or -(-width // BUCKET) * BUCKET].append(i)
    for width, members in sorted(buckets.items()):
        step = max(1, CALL_WIDTH // width)
        for start in range(0, len(members), step):
            yield width, members[start : start + step]


def _sides(quad: NDArray[np.float32]) -> tuple[float, float]:
    """Mean length of the sides along and across the text."""
    along = np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])
    across = np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])
    return float(along) / 2, float(across) / 2
