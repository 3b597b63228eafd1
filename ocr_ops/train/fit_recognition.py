"""Trains the recogniser: rendered lines, and real crops whose labels lost their case."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.scores import edit_distance
from ocr_ops.core.spec import ModelSpec
from ocr_ops.data import render_augment as augment
from ocr_ops.data.render_lines import LineRenderer, line_digest, to_height
from ocr_ops.runtime.ctc import decode
from ocr_ops.train import loop
from ocr_ops.train.networks import build

Gray = NDArray[np.uint8]

BLANK_SHARE = 0.03
"""Crops without text, to be read as nothing: detectors find specks and strokes as well."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A line and its text; `folded` when the text is upper-cased whatever the image shows."""

    image: Gray
    text: str
    folded: bool


def read_crops(folder: Path, charset: str) -> tuple[list[Crop], list[Crop]]:
    """Training and held-out crops of a folder with `labels.tsv` (path, tab, upper-cased text).

    A tenth of the documents (file names up to the last underscore), by hash, is held out whole.
    Labels with characters outside `charset` are left out. Raises `BadInput` when nothing is left.
    """
    train: list[Crop] = []
    held: list[Crop] = []
    labels = folder / "labels.tsv"
    if not labels.is_file():
        raise BadInput(folder, "no labels.tsv", "lines of path, tab, text", "point --real at a folder of line crops")
    for row in labels.read_text(encoding="utf-8").splitlines():
        path, _, text = row.partition("\t")
        text = " ".join(text.split())
        image = cv2.imread(str(folder / path), cv2.IMREAD_GRAYSCALE)
        if image is not None and text and set(text) <= set(charset):
            document = Path(path).stem.rpartition("_")[0]
            part = held if hashlib.sha256(document.encode()).digest()[0] < 26 else train
            part.append(Crop(np.asarray(image, np.uint8), text, folded=True))
    if not train or not held:
        raise BadInput(
            labels, f"{len(train)} crops to train on, {len(held)} held out", "some of each", "check the labels"
        )
    return train, held


def feasible(text: str, steps: int) -> bool:
    """Whether CTC can write `text` in `steps`: equal neighbours need a blank between them."""
    return len(text) + sum(a == b for a, b in pairwise(text)) <= steps


class RecognitionLesson:
    """Batches of equal cost, CTC, and an exam of held-out fonts and held-out receipts.

    Recipe: `batch` (crops of mean width a batch), `longest` (px), `real_share`, `strength` of the augmentation, `seed`.
    """

    batches_per_pool = 8

    def __init__(self, spec: ModelSpec, real: Path | None = None, exam: int = 400) -> None:
        self.spec = spec
        self.seed, self.batch, self.longest = (int(loop.setting(spec, key)) for key in ("seed", "batch", "longest"))
        strength = loop.setting(spec, "strength", 1.0)
        torch.manual_seed(self.seed)
        self.network = build(spec)
        self.renderer = LineRenderer(spec.charset, "train", strength)
        self.real, held = read_crops(real, spec.charset) if real else ([], [])
        self.real_share = loop.setting(spec, "real_share", 0.3) if real else 0.0
        examiner = LineRenderer(spec.charset, "validation")
        drawn = [examiner.line(np.random.default_rng((self.seed, 1, i)), self.longest) for i in range(exam)]
        self.exam = {"synthetic": [Crop(image, text, folded=False) for image, text in drawn], "real": held}
        blanks = (examiner.blank(np.random.default_rng((self.seed, 3, i))) for i in range(exam // 4))
        self.blanks = [Crop(image, "", folded=False) for image in blanks]
        # Classes of letters that have an upper-case twin in the charset.
        place = {char: index for index, char in enumerate(spec.charset, 1)}
        pairs = [(i, place[c.upper()]) for c, i in place.items() if c.upper() != c and c.upper() in place]
        self.lower, self.upper = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
        self.place = place

    @property
    def facts(self) -> dict[str, Any]:
        crops = b"".join(crop.image.tobytes() + crop.text.encode() for crop in self.real)
        return {
            "fonts": sum(len(group) for group in self.renderer.fonts),
            "families": len(self.renderer.fonts),
            "dataset": {
                "synthetic": line_digest(self.renderer, self.seed),
                "real": digest_bytes(crops) if crops else None,
            },
            "real_crops": len(self.real),
            "held_out_crops": len(self.exam["real"]),
        }

    def pool(self, index: int) -> list[loop.Batch]:
        crops = []
        for item in range(self.batch * self.batches_per_pool):
            crop = self._draw(np.random.default_rng((self.seed, 0, index, item)))
            image = to_height(crop.image, self.spec.input.height, self.spec.input.stride, self.longest)
            if feasible(crop.text, image.shape[1] // self.spec.input.stride):
                crops.append(Crop(image, crop.text, crop.folded))
        crops.sort(key=lambda crop: crop.image.shape[1])
        cost = np.cumsum([crop.image.shape[1] for crop in crops])
        cuts = np.searchsorted(cost, cost[-1] * np.arange(1, self.batches_per_pool) / self.batches_per_pool)
        groups = [crops[a:b] for a, b in zip([0, *cuts], [*cuts, len(crops)], strict=True)]
        order = np.random.default_rng((self.seed, 2, index)).permutation(len(groups))
        return [self._collate(groups[i]) for i in order]

    def _draw(self, rng: np.random.Generator) -> Crop:
        """One crop to learn from: a real one, a drawn one, or now and then one that says nothing."""
        draw = rng.random()
        if draw < self.real_share:
            return self._real(rng)
        if draw > 1 - BLANK_SHARE:
            return Crop(self.renderer.blank(rng), "", folded=False)
        return Crop(*self.renderer.line(rng, self.longest), folded=False)

    def _real(self, rng: np.random.Generator) -> Crop:
        crop = self.real[int(rng.integers(len(self.real)))]
        image = crop.image
        stretch = rng.uniform(0.8, 1.2) if rng.random() < 0.8 else rng.uniform(0.55, 1.6)
        if rng.random() < 0.5:
            image = cv2.resize(image, (max(4, round(image.shape[1] * stretch)), image.shape[0])).astype(np.uint8)
        if rng.random() < 0.5:
            image = augment.reframe(rng, image, 0.12, 0.1)
        if rng.random() < 0.3:
            image = augment.warp(rng, image, int(np.median(image)))
        if rng.random() < 0.6:
            image = augment.camera(rng, image, 0.6)
        return Crop(image, crop.text, folded=True)

    def _collate(self, crops: Sequence[Crop]) -> loop.Batch:
        widest = max(crop.image.shape[1] for crop in crops)
        padded = [np.pad(c.image, ((0, 0), (0, widest - c.image.shape[1])), mode="edge") for c in crops]
        return {
            "image": torch.from_numpy(np.stack(padded)[:, None]),
            "steps": torch.tensor([crop.image.shape[1] // self.spec.input.stride for crop in crops]),
            "target": torch.tensor([self.place[char] for crop in crops for char in crop.text]),
            "length": torch.tensor([len(crop.text) for crop in crops]),
            "folded": torch.tensor([crop.folded for crop in crops]),
        }

    def logits(self, image: Tensor) -> Tensor:
        """uint8 (N, 1, 32, W) -> float32 logits (N, W / 4, C)."""
        x = (image.float() / 255 - self.spec.input.mean[0]) / self.spec.input.std[0]
        return torch.as_tensor(self.network(x.contiguous(memory_format=torch.channels_last))).float()

    def loss(self, batch: loop.Batch) -> Tensor:
        scores = functional.log_softmax(self.logits(batch["image"]), 2)
        folded = batch["folded"]
        if folded.any():
            # The label does not know the case: either letter will do, so their probabilities add up.
            either = torch.logaddexp(scores[..., self.upper], scores[..., self.lower])
            blind = scores.index_copy(2, self.upper.to(scores.device), either)
            scores = torch.where(folded[:, None, None], blind, scores)
        each = functional.ctc_loss(
            scores.transpose(0, 1),
            batch["target"],
            batch["steps"],
            batch["length"],
            reduction="none",
            zero_infinity=True,
        )
        return (each / batch["length"].clamp(min=1)).mean()

    def read(self, crops: Sequence[Crop]) -> list[str]:
        """Texts of crops, in order."""
        texts = [""] * len(crops)
        device = next(self.network.parameters()).device
        shape = self.spec.input
        images = [to_height(crop.image, shape.height, shape.stride, self.longest) for crop in crops]
        order = sorted(range(len(crops)), key=lambda i: images[i].shape[1])
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            batch = self._collate([Crop(images[i], "", folded=False) for i in chosen])
            for i, logits, steps in zip(
                chosen, self.logits(batch["image"].to(device)).cpu().numpy(), batch["steps"], strict=True
            ):
                texts[i] = decode(logits[: int(steps)], self.spec.charset).text
        return texts

    def evaluate(self) -> dict[str, float]:
        figures = {}
        for name, crops in self.exam.items():
            if crops:
                pairs = [(t.upper() if c.folded else t, c.text) for t, c in zip(self.read(crops), crops, strict=True)]
                figures[f"{name}_cer"] = sum(edit_distance(*pair) for pair in pairs) / sum(
                    len(text) for _, text in pairs
                )
                figures[f"{name}_exact"] = sum(a == b for a, b in pairs) / len(pairs)
        errors = [value for name, value in figures.items() if name.endswith("_cer")]
        silent = sum(not text for text in self.read(self.blanks)) / max(1, len(self.blanks))
        return {**figures, "blank_silent": silent, "score": 1 - sum(errors) / len(errors)}

    def picture(self) -> Gray:
        crops = [*self.exam["synthetic"][:20], *self.exam["real"][:20]]
        rows = []
        for crop, text in zip(crops, self.read(crops), strict=True):
            row = np.full((34, 900), 255, np.uint8)
            image = to_height(crop.image, 32, 4, 440)
            row[1:33, 1 : 1 + image.shape[1]] = image
            shown = text.encode("ascii", "replace").decode() + ("" if text.upper() == crop.text.upper() else "   <<<")
            cv2.putText(row, shown, (450, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0,))
            rows.append(row)
        return np.vstack(rows)
