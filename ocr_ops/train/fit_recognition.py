"""Trains the recogniser: rendered lines, and real crops whose labels lost their case."""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ocr_ops.core.record import digest_bytes
from ocr_ops.core.scores import edit_distance, normalise
from ocr_ops.core.spec import ModelSpec
from ocr_ops.data import render_augment as augment
from ocr_ops.data.render_lines import LineRenderer, line_digest, to_height
from ocr_ops.data.render_material import load_backgrounds, load_corpus
from ocr_ops.runtime.ctc import decode
from ocr_ops.train import distil, loop
from ocr_ops.train.artefacts import of_lines
from ocr_ops.train.crops import Crop, Quarantine, feasible, read_crops, unseen_crops
from ocr_ops.train.judge import Counts
from ocr_ops.train.material import NOTHING, Material
from ocr_ops.train.networks import build

Gray = NDArray[np.uint8]

BLANK_SHARE = 0.03
"""Crops without text, to be read as nothing: detectors find specks and strokes as well."""


class RecognitionLesson:
    """Batches of equal cost, CTC, and an exam of held-out fonts and held-out receipts.

    Recipe: `batch` (crops of mean width a batch), `longest` (px), `real_share`, `strength` of the augmentation, `seed`;
    with a teacher `teaching` and `temperature`.
    """

    batches_per_pool = 8
    recipe = distil.RECIPE | {"batch", "longest", "real_share", "strength", "seed"}

    def __init__(
        self,
        spec: ModelSpec,
        material: Material = NOTHING,
        exam: int = 400,
        teacher: distil.Teacher | None = None,
    ) -> None:
        self.spec = spec
        self.teaching = distil.LineTeaching(teacher, spec) if teacher else None
        self.seed, self.batch, self.longest = (int(loop.setting(spec, key)) for key in ("seed", "batch", "longest"))
        strength = loop.setting(spec, "strength", 1.0)
        torch.manual_seed(self.seed)
        self.network = build(spec)
        words = load_corpus(material.corpus) if material.corpus else None
        papers = load_backgrounds(material.backgrounds) if material.backgrounds else ()
        self.renderer = LineRenderer(spec.charset, "train", strength, corpus=words, backgrounds=papers)
        self.quarantine = Quarantine()
        sets = {
            folder.parent.name + "/" + folder.name: read_crops(
                folder, spec.charset, self.quarantine, spec.input, material.apart
            )
            for folder in material.lines
        }
        self.real = [train for train, _ in sets.values()]
        # A set ten times as large is drawn from twice as often: a few thousand receipts must not drown in the rest.
        sizes = np.cbrt([len(train) for train in self.real])
        self.odds = sizes / sizes.sum() if self.real else sizes
        self.real_share = loop.setting(spec, "real_share", 0.3) if self.real else 0.0
        examiner = LineRenderer(spec.charset, "validation", corpus=words)
        drawn = [examiner.line(np.random.default_rng((self.seed, 1, i)), self.longest) for i in range(exam)]
        self.exam = {"synthetic": [Crop(image, text, folded=False) for image, text in drawn]}
        for name, (_, held) in sets.items():
            chosen = np.random.default_rng((self.seed, 4)).permutation(len(held))[: 2 * exam]
            self.exam[name] = [held[i] for i in sorted(chosen)]
        blanks = (examiner.blank(np.random.default_rng((self.seed, 3, i))) for i in range(exam // 4))
        self.blanks = [Crop(image, "", folded=False) for image in blanks]
        # Classes of letters that have an upper-case twin in the charset.
        place = {char: index for index, char in enumerate(spec.charset, 1)}
        # One twin each: the dotless i and the long s would take the place of i and s.
        pairs = [
            (i, place[c.upper()])
            for c, i in place.items()
            if c.upper() in place and c.upper().lower() == c != c.upper()
        ]
        self.lower, self.upper = (torch.tensor([pair[side] for pair in pairs]) for side in (0, 1))
        self.place = place

    def follower(self, spec: ModelSpec, folder: Path) -> Self:
        """The same lesson for another network, taught by this one's as it learns. Raises `BadInput` if it can't be."""
        twin = distil.follower(self, spec, folder)
        twin.teaching = distil.LineTeaching(distil.living(self.network, self.spec), spec)
        return twin

    @cached_property
    def facts(self) -> dict[str, Any]:
        crops = b"".join(crop.image.tobytes() + crop.text.encode() for part in self.real for crop in part)
        return {
            "fonts": sum(len(group) for group in self.renderer.fonts),
            "families": len(self.renderer.fonts),
            "dataset": {
                "synthetic": line_digest(self.renderer, self.seed),
                "real": digest_bytes(crops) if crops else None,
            },
            "real_crops": sum(map(len, self.real)),
            "held_out_crops": sum(len(crops) for name, crops in self.exam.items() if name != "synthetic"),
            **({"teacher": self.teaching.facts} if self.teaching else {}),
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
        part = self.real[int(rng.choice(len(self.real), p=self.odds))]
        crop = part[int(rng.integers(len(part)))]
        image = crop.image
        stretch = rng.uniform(0.8, 1.2) if rng.random() < 0.8 else rng.uniform(0.55, 1.6)
        if rng.random() < 0.5:
            image = cv2.resize(image, (max(4, round(image.shape[1] * stretch)), image.shape[0])).astype(np.uint8)
        if rng.random() < 0.5:
            image = augment.reframe(rng, image, 0.12, 0.1)
        if rng.random() < 0.3:
            image = augment.warp(rng, image, int(np.median(image)))
        if rng.random() < 0.3:
            image = augment.tone(rng, image)
        if rng.random() < 0.6:
            image = augment.camera(rng, image, 0.8)
        return Crop(image, crop.text, crop.folded)

    def _collate(self, crops: Sequence[Crop]) -> loop.Batch:
        return {
            **_stack([crop.image for crop in crops], self.spec.input.stride),
            "target": torch.tensor([self.place[char] for crop in crops for char in crop.text]),
            "length": torch.tensor([len(crop.text) for crop in crops]),
            "folded": torch.tensor([crop.folded for crop in crops]),
        }

    def logits(self, image: Tensor) -> Tensor:
        """uint8 (N, 1, 32, W) -> float32 logits (N, W / 4, C)."""
        return logits(self.network, self.spec, image)

    def loss(self, batch: loop.Batch) -> Tensor:
        """CTC on the labels, a mean of nats a character; and the teacher's, if there is one."""
        found = self.logits(batch["image"])
        labelled = self._labelled(batch, functional.log_softmax(found, 2))
        return labelled + self.teaching.weight * self.teaching.loss(batch, found) if self.teaching else labelled

    def _labelled(self, batch: loop.Batch, scores: Tensor) -> Tensor:
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
        return read(self.network, self.spec, crops)

    def answers(self, crops: Sequence[Crop]) -> list[tuple[str, str]]:
        """What was expected and what is read of each crop, alike in case where the label tells none."""
        return [answer(crop, text) for crop, text in zip(crops, self.read(crops), strict=True)]

    def evaluate(self) -> dict[str, float]:
        figures = {}
        for name, crops in self.exam.items():
            if crops:
                pairs = self.answers(crops)
                figures[f"{name}_cer"] = sum(edit_distance(*pair) for pair in pairs) / sum(
                    len(text) for text, _ in pairs
                )
                figures[f"{name}_exact"] = sum(a == b for a, b in pairs) / len(pairs)
        errors = [value for name, value in figures.items() if name.endswith("_cer")]
        silent = sum(not text for text in self.read(self.blanks)) / max(1, len(self.blanks))
        cost = self.teaching.cost() if self.teaching else {}
        return {**figures, "blank_silent": silent, **cost, "score": 1 - sum(errors) / len(errors)}

    def picture(self) -> Gray:
        crops = [crop for part in self.exam.values() for crop in part[:20]]
        rows = []
        for crop, text in zip(crops, self.read(crops), strict=True):
            row = np.full((34, 900), 255, np.uint8)
            image = to_height(crop.image, 32, 4, 440)
            row[1:33, 1 : 1 + image.shape[1]] = image
            shown = text.encode("ascii", "replace").decode() + ("" if text.upper() == crop.text.upper() else "   <<<")
            cv2.putText(row, shown, (450, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0,))
            rows.append(row)
        return np.vstack(rows)

    def artefacts(self) -> dict[str, bytes]:
        """Files that show where the network stands: see `artefacts.of_lines`."""
        sets = [crops for crops in self.exam.values() if crops]
        return of_lines(
            [
                [(crop.image, *pair) for crop, pair in zip(crops, self.answers(crops), strict=True)]
                for crops in reversed(sets)
            ]
        )

    def unseen(self, data: Path, apart: Collection[str]) -> list[tuple[str, Crop]]:
        """The lines of documents set apart, each with its document. Raises `BadInput` when none can be used."""
        return unseen_crops(data, self.spec.charset, self.quarantine, apart)

    def errors(self, network: nn.Module, spec: ModelSpec, samples: Sequence[Crop]) -> Counts:
        """Edits and characters of each crop as another network reads it, texts normalised as for scores."""
        texts = read(network, spec, samples)
        pairs = [[normalise(part) for part in answer(*one)] for one in zip(samples, texts, strict=True)]
        return np.array([(edit_distance(expected, found), len(expected)) for expected, found in pairs], np.float64)


def answer(crop: Crop, text: str) -> tuple[str, str]:
    """What was expected of a crop and what was read, alike in case where the label tells none."""
    return crop.text, text.upper() if crop.folded else text


def logits(network: nn.Module, spec: ModelSpec, image: Tensor) -> Tensor:
    """uint8 (N, 1, 32, W) -> float32 logits (N, W / 4, C)."""
    x = (image.float() / 255 - spec.input.mean[0]) / spec.input.std[0]
    return torch.as_tensor(network(x.contiguous(memory_format=torch.channels_last))).float()


def read(network: nn.Module, spec: ModelSpec, crops: Sequence[Crop]) -> list[str]:
    """Texts that a network (in evaluation mode) reads in crops, in order, as wide as serving reads them."""
    texts = [""] * len(crops)
    device = next(network.parameters()).device
    shape = spec.input
    images = [to_height(crop.image, shape.height, shape.stride, shape.max_side) for crop in crops]
    order = sorted(range(len(crops)), key=lambda i: images[i].shape[1])
    for start in range(0, len(order), 32):
        chosen = order[start : start + 32]
        batch = _stack([images[i] for i in chosen], shape.stride)
        scores = logits(network, spec, batch["image"].to(device)).cpu().numpy()
        for i, row, steps in zip(chosen, scores, batch["steps"], strict=True):
            texts[i] = decode(row[: int(steps)], spec.charset).text
    return texts


def _stack(images: Sequence[Gray], stride: int) -> loop.Batch:
    """Images of one height, padded with their last column; and the steps each has without that."""
    widest = max(image.shape[1] for image in images)
    padded = [np.pad(image, ((0, 0), (0, widest - image.shape[1])), mode="edge") for image in images]
    return {
        "image": torch.from_numpy(np.stack(padded)[:, None]),
        "steps": torch.tensor([image.shape[1] // stride for image in images]),
    }
