"""Trains the detector: crops of rendered pages, turned, scaled and worn."""

from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ocr_ops.core.spec import ModelSpec
from ocr_ops.data import render_augment as augment
from ocr_ops.data.render_pages import PageRenderer, RenderedPage, page_digest
from ocr_ops.data.render_text import CHARSET
from ocr_ops.runtime.detection import polygons
from ocr_ops.train import loop, targets
from ocr_ops.train.fit_recognition import read_crops
from ocr_ops.train.networks import Detector, build

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]


def view(rng: np.random.Generator, page: RenderedPage, side: int, strength: float) -> tuple[Gray, Floats]:
    """A square look at `page`: uint8 (side, side), scaled 0.65 to 1.7, turned by up to 5 degrees; and its segments."""
    height, width = page.image.shape
    quads = np.array([segment.polygon for segment in page.segments], np.float32).reshape(-1, 4, 2)
    scale = float(np.exp(rng.uniform(np.log(0.65), np.log(1.7))))
    if len(quads):  # nothing smaller than a scanner would keep
        scale = max(scale, 7.5 / float(np.median(targets.heights(quads))))
    angle = float(np.clip(rng.normal(0, 1.6), -5, 5)) if rng.random() < 0.6 else 0.0
    matrix = cv2.getRotationMatrix2D((0, 0), angle, scale)
    matrix[0, 1] += scale * rng.normal(0, 0.01)
    slack = side / scale / 2
    centre = [
        rng.uniform(min(slack * 0.8, length / 2), max(length - slack * 0.8, length / 2)) for length in (width, height)
    ]
    matrix[:, 2] = side / 2 - matrix[:, :2] @ np.array(centre)
    border = int(np.median(page.image[:, :4])) if rng.random() < 0.8 else int(rng.integers(256))
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.warpAffine(page.image, matrix, (side, side), flags=flags, borderValue=(border,)).astype(np.uint8)
    image = augment.camera(rng, image, strength)
    quads = (quads @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    inside = ((quads.max(1) > 0) & (quads.min(1) < side)).all(1)
    return image, quads[inside]


class DetectionLesson:
    """Views of freshly drawn pages, DB's losses, and an exam of held-out fonts.

    Recipe: `batch`, `crop` (side, px, a multiple of 32), `strength` of the augmentation, `seed`.
    """

    batches_per_pool = 8

    def __init__(self, spec: ModelSpec, real: Path | None = None, exam: int = 32) -> None:
        self.seed, self.batch, self.crop = (int(loop.setting(spec, key)) for key in ("seed", "batch", "crop"))
        self.strength = loop.setting(spec, "strength", 1.0)
        self.spec = spec
        torch.manual_seed(self.seed)
        self.network = cast(Detector, build(spec))
        crops, held = read_crops(real, CHARSET) if real else ([], [])
        self.renderer = PageRenderer(CHARSET, "train", [crop.image for crop in crops])
        examiner = PageRenderer(CHARSET, "validation", [crop.image for crop in held])
        self.exam = []
        for index in range(exam):
            rng = np.random.default_rng((self.seed, 1, index))
            self.exam.append(view(rng, examiner.page(rng), self.crop, self.strength))

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "fonts": sum(len(group) for group in self.renderer.fonts),
            "families": len(self.renderer.fonts),
            "dataset": {"synthetic": page_digest(self.renderer, self.seed)},
            "real_crops": len(self.renderer.crops),
        }

    def pool(self, index: int) -> list[loop.Batch]:
        views: list[tuple[Gray, Floats]] = []
        count = self.batch * self.batches_per_pool
        while len(views) < count:
            rng = np.random.default_rng((self.seed, 0, index, len(views)))
            page = self.renderer.page(rng)
            views += [view(rng, page, self.crop, self.strength) for _ in range(3)]
        order = np.random.default_rng((self.seed, 2, index)).permutation(count)
        return [
            self._collate([views[i] for i in order[start : start + self.batch]])
            for start in range(0, count, self.batch)
        ]

    def _collate(self, views: list[tuple[Gray, Floats]]) -> loop.Batch:
        return {
            "image": torch.from_numpy(np.stack([image for image, _ in views])[:, None]),
            "maps": torch.from_numpy(np.stack([targets.maps(quads, self.crop) for _, quads in views])),
        }

    def _input(self, image: Tensor) -> Tensor:
        x = (image.float() / 255 - self.spec.input.mean[0]) / self.spec.input.std[0]
        return x.contiguous(memory_format=torch.channels_last)

    def loss(self, batch: loop.Batch) -> Tensor:
        """Balanced cross-entropy and dice on the kernel, dice on DB's soft binarisation, L1 on its threshold."""
        logits, edge = (out.float() for out in self.network.forward_training(self._input(batch["image"])))
        kernel, mask, threshold, band = batch["maps"].split(1, 1)
        probability, level = torch.sigmoid(logits), torch.sigmoid(edge)
        binary = torch.sigmoid(50 * (probability - level))
        border = ((level - threshold).abs() * band).sum() / band.sum().clamp(min=1)
        return (
            balanced(logits, kernel, mask) + dice(probability, kernel, mask) + dice(binary, kernel, mask) + 5 * border
        )

    def _found(self, image: Gray) -> Floats:
        device = next(self.network.parameters()).device
        x = self._input(torch.from_numpy(image)[None, None].to(device))
        return polygons(self.network(x)[0, 0].float().cpu().numpy(), image.shape[1], image.shape[0])

    def evaluate(self) -> dict[str, float]:
        """Precision, recall and their harmonic mean at an IoU of 0.5, found by the serving code.

        Segments that leave the view or are lower than 6 px are neither scored nor missed.
        """
        hits = found_count = true_count = 0
        for image, quads in self.exam:
            found = self._found(image)
            whole = (quads >= 0).all((1, 2)) & (quads < self.crop).all((1, 2)) & (targets.heights(quads) >= 6)
            cut = np.asarray((found < 4).any((1, 2)) | (found > self.crop - 4).any((1, 2)))
            pairs = targets.matches(found, quads)
            good = sum(bool(whole[j]) for _, j in pairs)
            hits += good
            cut[[i for i, _ in pairs]] = False
            found_count += len(found) - (len(pairs) - good) - int(cut.sum())
            true_count += int(whole.sum())
        precision, recall = hits / max(1, found_count), hits / max(1, true_count)
        hmean = 2 * hits / max(1, found_count + true_count)
        return {"precision": precision, "recall": recall, "hmean": hmean, "score": hmean}

    def picture(self) -> Gray:
        tiles = []
        for image, _ in self.exam[:4]:
            tile = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            for quad in self._found(image):
                cv2.polylines(tile, [quad.astype(np.int32)], True, (0, 0, 255), 1)
            tiles.append(tile)
        return np.asarray(np.hstack(tiles), np.uint8)


def balanced(logits: Tensor, truth: Tensor, mask: Tensor, ratio: int = 3) -> Tensor:
    """Cross-entropy over the positives and the `ratio` times as many hardest negatives."""
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none") * mask
    positive = truth * mask
    negative = (1 - truth) * mask
    count = int(positive.sum())
    hard = min(int(negative.sum()), max(ratio * count, truth.numel() // 64))
    worst = (each * negative).flatten().topk(hard).values.sum()
    return ((each * positive).sum() + worst) / max(1, count + hard)


def dice(probability: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """1 - the dice overlap."""
    shared = (probability * truth * mask).sum()
    return 1 - 2 * shared / ((probability * mask).sum() + (truth * mask).sum() + 1e-3)
