"""Trains the detector: crops of rendered pages, turned, scaled and worn."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.spec import ModelSpec
from ocr_ops.data import render_augment as augment
from ocr_ops.data.lines import held_out
from ocr_ops.data.pages import LabelledPage, read_pages
from ocr_ops.data.render_material import load_backgrounds, load_corpus
from ocr_ops.data.render_pages import PageRenderer, RenderedPage, page_digest
from ocr_ops.data.render_sheet import Segment
from ocr_ops.data.render_text import CHARSET
from ocr_ops.runtime.detection import polygons
from ocr_ops.train import distil, loop, targets
from ocr_ops.train.artefacts import drawable, pages_png
from ocr_ops.train.crops import Crop, Quarantine, read_crops
from ocr_ops.train.judge import Counts
from ocr_ops.train.material import NOTHING, Material
from ocr_ops.train.networks import Detector, build

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]


LOOKS = 3
"""Fixed views of each page that judges a fine-tuning."""
MOST_UNREADABLE = 50
"""Pages drawn in a row that do not decode, after which the training gives up."""
TILTED = 0.2
"""Views in perspective, as a camera held askew sees a page."""
ON_ITS_SIDE = 0.12
"""Views turned by a quarter: pages come in sideways, and the boxes must tell."""


def view(rng: np.random.Generator, page: RenderedPage, side: int, strength: float) -> tuple[Gray, Floats]:
    """A square look at `page`: uint8 (side, side), scaled 0.65 to 1.7, turned by up to 5 degrees; and its segments."""
    height, width = page.image.shape
    quads = np.array([segment.polygon for segment in page.segments], np.float32).reshape(-1, 4, 2)
    scale = float(np.exp(rng.uniform(np.log(0.65), np.log(1.7))))
    if len(quads):  # nothing smaller than a scanner would keep
        scale = max(scale, 6.5 / float(np.median(targets.heights(quads))))
    angle = float(np.clip(rng.normal(0, 1.6), -5, 5)) if rng.random() < 0.6 else 0.0
    if rng.random() < ON_ITS_SIDE:
        angle += 90.0 if rng.random() < 0.5 else -90.0
    slack = side / scale / 2
    centre = [
        rng.uniform(min(slack * 0.8, length / 2), max(length - slack * 0.8, length / 2)) for length in (width, height)
    ]
    matrix = np.vstack((cv2.getRotationMatrix2D((0, 0), angle, scale), (0.0, 0.0, 1.0)))
    matrix[0, 1] += scale * rng.normal(0, 0.01)
    matrix[:2, 2] = -matrix[:2, :2] @ np.array(centre)
    if rng.random() < TILTED * strength:  # a photograph: the camera was not above the page
        matrix = np.vstack((np.eye(2, 3), (*rng.normal(0, 0.1, 2) / side, 1.0))) @ matrix
    matrix[:2] += side / 2 * matrix[2]
    border = int(np.median(page.image[:, :4])) if rng.random() < 0.8 else int(rng.integers(256))
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.warpPerspective(page.image, matrix, (side, side), flags=flags, borderValue=(border,)).astype(np.uint8)
    image = augment.camera(rng, image, strength)
    if len(quads):
        quads = np.asarray(cv2.perspectiveTransform(quads.reshape(1, -1, 2), matrix), np.float32).reshape(-1, 4, 2)
    inside = ((quads.max(1) > 0) & (quads.min(1) < side)).all(1)
    return image, quads[inside]


def document_of(image: str) -> str:
    """The document of a page: its file's name up to the last underscore."""
    stem = Path(image).stem
    return stem.rpartition("_")[0] or stem


@dataclass(frozen=True, slots=True)
class RealPage:
    """A labelled page on disk."""

    path: Path
    labels: LabelledPage

    @property
    def document(self) -> str:
        """What a split must not part."""
        return document_of(self.labels.image)

    def load(self) -> RenderedPage:
        """The page in grey, with its regions; marks without a letter or figure are taken off it.

        A lone dot or dash may be text or dirt: who learns from typeset pages that it is text finds it everywhere.
        """
        image = cv2.imread(str(self.path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise BadInput(self.path, "unreadable", "an image", "restore it, or take its labels away")
        segments = []
        for region in self.labels.regions:
            corners = np.array(region.polygon, np.float32)
            if any(char.isalnum() for char in region.text):
                segments.append(Segment(corners, region.text))
                continue
            left, top, width, height = cv2.boundingRect(corners)
            rows, columns = (slice(max(0, start), start + size + 1) for start, size in ((top, height), (left, width)))
            if image[rows, columns].size:
                image[rows, columns] = np.median(image[rows, columns])
        return RenderedPage(np.asarray(image, np.uint8), tuple(segments))


def read_real(
    folders: Sequence[Path], quarantine: Quarantine, apart: Collection[str] = ()
) -> tuple[list[RealPage], list[RealPage]]:
    """Training and held-out pages of labelled folders; a tenth of the documents is held out whole, and never none.

    Pages of documents in `apart` are in neither. Bad rows go into quarantine. Raises `BadInput` when nothing is left
    to learn from or to hold out.
    """
    parts: tuple[list[RealPage], list[RealPage]] = ([], [])
    for folder in folders:
        pages = read_pages(folder, strict=False)
        for row in pages.rejected:
            quarantine.add(f"{folder}: {row.where}", row.cause)
        chosen = [RealPage(folder / page.image, page) for page in pages.pages if document_of(page.image) not in apart]
        held = {page.document for page in chosen if held_out(page.document)}
        if not held or len(held) == len({page.document for page in chosen}):
            held = {page.document for page in chosen[-1:]}
        for page in chosen:
            parts[page.document in held].append(page)
    if folders and not all(parts):
        found = f"{len(parts[0])} pages to train on, {len(parts[1])} held out"
        raise BadInput(folders[0], found, "some of each", "add labelled pages")
    return parts


class DetectionLesson:
    """Views of freshly drawn pages, DB's losses, and an exam of held-out fonts.

    Recipe: `batch`, `crop` (side, px, a multiple of 32), `strength` of the augmentation, `seed`; with a teacher
    `teaching`.
    """

    batches_per_pool = 8
    recipe = distil.RECIPE | {"batch", "crop", "real_share", "strength", "seed"}

    def __init__(
        self,
        spec: ModelSpec,
        material: Material = NOTHING,
        exam: int = 32,
        teacher: distil.Teacher | None = None,
    ) -> None:
        self.seed, self.batch, self.crop = (int(loop.setting(spec, key)) for key in ("seed", "batch", "crop"))
        self.strength = loop.setting(spec, "strength", 1.0)
        self.spec = spec
        self.teaching = distil.PageTeaching(teacher, spec) if teacher else None
        torch.manual_seed(self.seed)
        self.network = cast(Detector, build(spec))
        self.quarantine = Quarantine()
        crops: list[Crop] = []
        held: list[Crop] = []
        for folder in material.lines:
            learnt, kept = read_crops(folder, CHARSET, self.quarantine)
            crops += learnt
            held += kept
        words = load_corpus(material.corpus) if material.corpus else None
        papers = load_backgrounds(material.backgrounds) if material.backgrounds else ()
        ink = [crop.image for crop in crops]
        self.renderer = PageRenderer(CHARSET, "train", ink, corpus=words, backgrounds=papers)
        examiner = PageRenderer(CHARSET, "validation", [crop.image for crop in held])
        self.real, held_pages = read_real(material.pages, self.quarantine, material.apart)
        self.real_share = loop.setting(spec, "real_share", 0.5) if self.real else 0.0
        self.exam: dict[str, list[tuple[Gray, Floats]]] = {"synthetic": [], "real": []}
        for index in range(exam):
            rng = np.random.default_rng((self.seed, 1, index))
            self.exam["synthetic"].append(view(rng, examiner.page(rng), self.crop, self.strength))
            if held_pages:
                page = self._drawn(rng, held_pages)
                self.exam["real"].append(view(rng, page, self.crop, self.strength))

    def _drawn(self, rng: np.random.Generator, pages: Sequence[RealPage]) -> RenderedPage:
        """One of `pages`; those that do not decode are put into quarantine and passed over."""
        for _ in range(MOST_UNREADABLE):
            page = pages[int(rng.integers(len(pages)))]
            try:
                return page.load()
            except BadInput as error:
                self.quarantine.add(str(page.path), error.found)
        found = f"{MOST_UNREADABLE} unreadable images in a row"
        raise BadInput(pages[0].path.parent, found, "labelled pages", "restore the images")

    def follower(self, spec: ModelSpec, folder: Path) -> Self:
        """The same lesson for another network, taught by this one's as it learns. Raises `BadInput` if it can't be."""
        twin = distil.follower(self, spec, folder)
        twin.teaching = distil.PageTeaching(distil.living(self.network, self.spec), spec)
        return twin

    @cached_property
    def facts(self) -> dict[str, Any]:
        return {
            "fonts": sum(len(group) for group in self.renderer.fonts),
            "families": len(self.renderer.fonts),
            "dataset": {
                "synthetic": page_digest(self.renderer, self.seed),
                "real": digest_bytes("".join(page.labels.digest for page in self.real).encode()) if self.real else None,
            },
            "real_pages": len(self.real),
            "real_crops": len(self.renderer.crops),
            **({"teacher": self.teaching.facts} if self.teaching else {}),
        }

    def pool(self, index: int) -> list[loop.Batch]:
        views: list[tuple[Gray, Floats]] = []
        count = self.batch * self.batches_per_pool
        while len(views) < count:
            rng = np.random.default_rng((self.seed, 0, index, len(views)))
            real = rng.random() < self.real_share
            page = self._drawn(rng, self.real) if real else self.renderer.page(rng)
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
        """Balanced cross-entropy and dice on the kernel, dice on DB's soft binarisation, L1 on its threshold.

        With a teacher the balanced cross-entropy on its map besides.
        """
        logits, edge = (out.float() for out in self.network.forward_training(self._input(batch["image"])))
        kernel, mask, threshold, band = batch["maps"].split(1, 1)
        probability, level = torch.sigmoid(logits), torch.sigmoid(edge)
        binary = torch.sigmoid(50 * (probability - level))
        border = ((level - threshold).abs() * band).sum() / band.sum().clamp(min=1)
        labelled = (
            balanced(logits, kernel, mask) + dice(probability, kernel, mask) + dice(binary, kernel, mask) + 5 * border
        )
        if self.teaching is None:
            return labelled
        return labelled + self.teaching.weight * balanced(logits, self.teaching.target(batch["image"]), mask)

    def _found(self, image: Gray) -> Floats:
        device = next(self.network.parameters()).device
        x = self._input(torch.from_numpy(image)[None, None].to(device))
        return polygons(self.network(x)[0, 0].float().cpu().numpy(), image.shape[1], image.shape[0])

    def evaluate(self) -> dict[str, float]:
        """Precision, recall and their harmonic mean at an IoU of 0.5, found by the serving code.

        Segments that leave the view or are lower than 6 px are neither scored nor missed.
        """
        figures: dict[str, float] = {}
        for name, views in self.exam.items():
            if not views:
                continue
            counts = np.sum([self._count(image, quads) for image, quads in views], axis=0)
            hits, found, true = (int(count) for count in counts)
            figures[f"{name}_precision"], figures[f"{name}_recall"] = hits / max(1, found), hits / max(1, true)
            figures[f"{name}_hmean"] = 2 * hits / max(1, found + true)
        means = [value for name, value in figures.items() if name.endswith("hmean")]
        cost = self.teaching.cost() if self.teaching else {}
        return {**figures, **cost, "score": sum(means) / len(means)}

    def _count(self, image: Gray, quads: Floats) -> tuple[int, int, int]:
        """Hits, boxes found and segments there in one view."""
        found = self._found(image)
        whole = (quads >= 0).all((1, 2)) & (quads < self.crop).all((1, 2)) & (targets.heights(quads) >= 6)
        cut = np.asarray((found < 4).any((1, 2)) | (found > self.crop - 4).any((1, 2)))
        pairs = targets.matches(found, quads)
        good = sum(bool(whole[j]) for _, j in pairs)
        cut[[i for i, _ in pairs]] = False
        return good, len(found) - (len(pairs) - good) - int(cut.sum()), int(whole.sum())

    def picture(self) -> Gray:
        tiles = []
        for image, _ in [*self.exam["synthetic"][:2], *self.exam["real"][:2]]:
            tile = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            for quad in self._found(image):
                cv2.polylines(tile, [quad.astype(np.int32)], True, (0, 0, 255), 1)
            tiles.append(tile)
        return np.asarray(np.hstack(tiles), np.uint8)

    def artefacts(self) -> dict[str, bytes]:
        """The views that went worst: what was found in red, what is there in green."""
        views = [view for part in self.exam.values() for view in part]
        scored = [(self._count(image, quads), image, quads) for image, quads in views]
        scored.sort(key=lambda one: 2 * one[0][0] / max(1, one[0][1] + one[0][2]))
        cases = []
        for (hits, found, true), image, quads in scored[:6]:
            shown = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
            cv2.polylines(shown, [quad.astype(np.int32) for quad in quads], True, (0, 160, 0), 1)
            cv2.polylines(shown, [quad.astype(np.int32) for quad in self._found(image)], True, (220, 0, 0), 1)
            cases.append((np.asarray(shown, np.uint8), f"{hits} of {true} segments hit, {found} boxes"))
        return {"worst.png": pages_png(cases)} if drawable() else {}

    def unseen(self, data: Path, apart: Collection[str]) -> list[tuple[str, tuple[Gray, Floats]]]:
        """Fixed views of the pages set apart, each with its document. Raises `BadInput` when none can be used."""
        found = []
        for number, labels in enumerate(read_pages(data, strict=False).pages):
            page = RealPage(data / labels.image, labels)
            if page.document in apart:
                try:
                    whole = page.load()
                except BadInput as error:
                    self.quarantine.add(str(page.path), error.found)
                    continue
                rngs = (np.random.default_rng((self.seed, 5, number, look)) for look in range(LOOKS))
                found += [(page.document, view(rng, whole, self.crop, 0.0)) for rng in rngs]
        if not found:
            raise BadInput(data, "no usable page in the documents set apart", "some to judge by", "restore the images")
        return found

    def errors(self, network: nn.Module, _spec: ModelSpec, samples: Sequence[tuple[Gray, Floats]]) -> Counts:
        """Boxes missed or false, and boxes found or there, in each view as another network finds them."""
        mine, self.network = self.network, cast(Detector, network)
        try:
            counts = [self._count(image, quads) for image, quads in samples]
        finally:
            self.network = mine
        return np.array([(found + true - 2 * hits, found + true) for hits, found, true in counts], np.float64)


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
