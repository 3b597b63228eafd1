"""Distillation: beside its labels, a network learns from the answers of a better one.

The teacher reads the very pixels that the student sees, augmentation and all, outside the student's graph. What its
answers can say depends on what is known of both:

- `steps`: a recogniser whose time steps meet the student's, at least after averaging over a few of each, teaches
  its distribution over the characters both know;
- `text`: one whose steps do not teaches what it reads, where it is sure;
- `map`: a detector that shrinks text as the student does teaches its probability map;
- `boxes`: one that shrinks text otherwise teaches the boxes it finds, drawn the student's way.
"""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ocr_ops.core.bundle import MANIFEST_FILE, Manifest, ModelBundle
from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.record import digest_file
from ocr_ops.core.spec import SPEC_FILE, WEIGHTS_FILE, InputSpec, ModelSpec, Task
from ocr_ops.runtime.detection import polygons
from ocr_ops.runtime.recognition import BUCKET, Recognizer, whole_crop
from ocr_ops.runtime.session import Session
from ocr_ops.train import loop, targets
from ocr_ops.train.crops import feasible
from ocr_ops.train.networks import build, load

RECIPE = frozenset({"teaching", "temperature"})
"""Settings of a recipe that are read here: the weight of what the teacher says beside the labels (1), and how far
its distribution is flattened (1: not at all)."""
WIDEST = 8
"""Most time steps, of either, that are averaged before two recognisers are compared: two characters or so."""
SURE = 0.95
"""Confidence of a reading that stands for a label."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model that is asked: a bundle in the serving session, or a model folder's network on the student's device."""

    path: Path
    name: str
    digest: str
    """Of the bundle, or of the weights."""
    about: Manifest | ModelSpec
    network: Session | nn.Module

    def __call__(self, pixels: Tensor) -> Tensor:
        """The network's output, float32 on the device of `pixels`: grey 0 to 255, float32 (N, 1, H, W)."""
        shape = self.about.input
        mean, std = (torch.tensor(values, device=pixels.device).view(1, -1, 1, 1) for values in (shape.mean, shape.std))
        x = (pixels / 255 - mean) / std  # as many channels as the model reads, all of them grey
        if isinstance(self.network, Session):
            return torch.from_numpy(self.network.run(np.ascontiguousarray(x.cpu().numpy()))).to(pixels.device)
        network = self.network.to(pixels.device, memory_format=torch.channels_last)
        return torch.as_tensor(network(x.contiguous(memory_format=torch.channels_last))).float()


def open_teacher(path: Path, task: Task) -> Teacher:
    """A teacher for a student of `task` out of a bundle's folder, or out of a model folder with trained weights.

    Raises `BadInput` for another task, and for a folder that is neither.
    """
    if (path / MANIFEST_FILE).is_file():
        bundle = ModelBundle.open(path)
        about: Manifest | ModelSpec = bundle.manifest
        name, digest, network = bundle.manifest.model, bundle.digest, Session(bundle)
    elif (path / SPEC_FILE).is_file() and (path / WEIGHTS_FILE).is_file():
        about = ModelSpec.read(path)
        name, weights = about.name, path / WEIGHTS_FILE
        digest, network = digest_file(weights), load(about, loop.read_tensors(weights)[0], weights)
    else:
        expected = f"a bundle, or a model folder with {WEIGHTS_FILE}"
        raise BadInput(path, "no teacher", expected, "give another --teacher, or `ocr-ops export` it first")
    if about.task != task:
        raise BadInput(path, f"a {about.task} teacher", f"one for {task}", "give another --teacher")
    return Teacher(path, name, digest, about, network)


def living(network: nn.Module, spec: ModelSpec) -> Teacher:
    """A network that teaches while it learns itself (deep mutual learning, one way: Zhang et al., 2018, 1706.00384)."""
    return Teacher(Path(spec.name), spec.name, "learning along", spec, network)


class Pupil(Protocol):
    """A lesson, as far as another network can follow it."""

    spec: ModelSpec
    seed: int
    network: nn.Module


AnyPupil = TypeVar("AnyPupil", bound=Pupil)


def follower(lesson: AnyPupil, spec: ModelSpec, folder: Path) -> AnyPupil:
    """The same lesson with a network of `spec`. Raises `BadInput` when its batches would not fit that."""
    for name in ("task", "charset"):
        found, expected = getattr(spec, name), getattr(lesson.spec, name)
        if found != expected:
            raise BadInput(folder, f"{name} {found}", f"{expected}, as {lesson.spec.name}", "train it on its own")
    for name in ("channels", "height", "stride"):
        found, expected = getattr(spec.input, name), getattr(lesson.spec.input, name)
        if found != expected:
            raise BadInput(folder, f"[input] {name} {found}", f"{expected}, as {lesson.spec.name}", "train it alone")
    twin = copy.copy(lesson)
    vars(twin).pop("facts", None)  # they name a teacher
    torch.manual_seed(lesson.seed)
    twin.spec, twin.network = spec, build(spec)
    return twin


class Teaching:
    """What a teacher adds to a lesson, and what that costs."""

    def __init__(self, teacher: Teacher, spec: ModelSpec, way: str) -> None:
        self.teacher, self.way = teacher, way
        self.weight = loop.setting(spec, "teaching", 1.0)
        if self.weight <= 0:
            raise BadRecord(spec.name, f"[recipe] teaching is {self.weight:g}", "above 0", "correct model.toml")
        self._seconds, self._batches = 0.0, 0

    @property
    def facts(self) -> dict[str, Any]:
        """Who taught, and how: for the run's notes and `training.json`."""
        about = {"model": self.teacher.name, "digest": self.teacher.digest}
        return {**about, "way": self.way, "weight": self.weight}

    def cost(self) -> dict[str, float]:
        """Mean milliseconds a batch that the teacher took since this was last asked; empty when it was not asked."""
        figures = {"teacher_ms": 1000 * self._seconds / self._batches} if self._batches else {}
        self._seconds, self._batches = 0.0, 0
        return figures

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Counts the time inside, where nothing is differentiated."""
        started = time.perf_counter()
        with torch.no_grad():
            yield
        self._seconds += time.perf_counter() - started
        self._batches += 1


def windows(teacher: InputSpec, student: InputSpec) -> tuple[int, int] | None:
    """How many time steps of the teacher and of the student cover the same pixels: the least such numbers.

    None when they are more than `WIDEST`, or the teacher's canvas is fixed, where steps mean other lengths on every
    crop.
    """
    ratio = Fraction(teacher.height * student.stride, student.height * teacher.stride)
    most = max(ratio.numerator, ratio.denominator)
    return None if teacher.width or most > WIDEST else (ratio.numerator, ratio.denominator)


class LineTeaching(Teaching):
    """Lines: a distribution over characters for each short window of time steps, or else a text."""

    def __init__(self, teacher: Teacher, spec: ModelSpec) -> None:
        """Raises `BadInput` when the charsets share no character, or a model folder's steps do not meet the spec's."""
        about = teacher.about
        met = windows(about.input, spec.input)
        super().__init__(teacher, spec, "steps" if met else "text")
        self.spec = spec
        self.temperature = loop.setting(spec, "temperature", 1.0)
        if self.temperature <= 0:
            found = f"[recipe] temperature is {self.temperature:g}"
            raise BadRecord(spec.name, found, "above 0", "correct model.toml")
        self.shared = set(about.charset) & set(spec.charset)
        if not self.shared - {" "}:
            found = f"its {len(set(about.charset))} characters are none of {spec.name}'s {len(spec.charset)}"
            raise BadInput(teacher.path, found, "some in common", "give a teacher of the same script")
        if met is None:
            self._reader = _reader(teacher)
            return
        self._theirs, self._own = met
        self._index(about)
        # What the teacher gets is as wide as whole windows, and as whole buckets, as serving pads it.
        unit = math.lcm(self._theirs * about.input.stride, BUCKET)
        self._unit = unit // about.input.stride // self._theirs * self._own * spec.input.stride
        """Pixels of the student's crop."""

    def _index(self, about: Manifest | ModelSpec) -> None:
        """Matches classes by character; a character the teacher has twice counts as one."""
        own = {char: index for index, char in enumerate(self.spec.charset, 1) if char in self.shared}
        column = {char: place for place, char in enumerate(own, 1)}
        blank, first = (0, 1) if about.text.blank == "first" else (len(about.charset), 0)
        theirs = [(first + i, column[char]) for i, char in enumerate(about.charset) if char in column]
        self._classes, self._columns = torch.tensor([(blank, 0), *theirs]).unbind(1)
        self._mine = torch.tensor([0, *own.values()])
        self._known = torch.tensor([True, *(char in self.shared for char in self.spec.charset)])

    @property
    def facts(self) -> dict[str, Any]:
        facts = {**super().facts, "shared_characters": len(self.shared)}
        if self.way == "steps":
            facts |= {"temperature": self.temperature, "steps": f"{self._theirs}:{self._own}"}
        return facts

    def loss(self, batch: loop.Batch, logits: Tensor) -> Tensor:
        """How far the student's logits, float32 (N, T, C), are from what the teacher says: nats a character, a mean.

        `batch`: image uint8 (N, 1, H, W), steps (N), target and length, as `RecognitionLesson` draws it.
        """
        if self.way == "text":
            with self.asked():
                texts = self._texts(batch)
            return self._from_text(batch, logits, texts)
        with self.asked():
            answers = self._answers(batch["image"], batch["steps"])
        return self._divergence(batch, logits, answers)

    def _answers(self, image: Tensor, steps: Tensor) -> Tensor:
        """The teacher's probabilities at the temperature, float32 (N, windows, shared classes).

        Classes that the student lacks are left out, and a window counts as much as the teacher gives to the shared.
        """
        shape, (height, width) = self.teacher.about.input, image.shape[2:]
        wide = -(-width // self._unit) * self._unit
        pixels = functional.pad(image.float(), (0, wide - width, 0, 0), mode="replicate")
        if shape.padding == "black":
            ends = (steps * self.spec.input.stride).to(image.device)
            pixels = pixels * (torch.arange(wide, device=image.device) < ends[:, None])[:, None, None]
        if shape.height != height:
            size = (shape.height, wide * shape.height // height)
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        scores = self.teacher(pixels)
        expected = (len(image), pixels.shape[3] // shape.stride, len(self.teacher.about.charset) + 1)
        if scores.shape != expected:
            raise BadInput(self.teacher.path, f"output {tuple(scores.shape)}", f"{expected}", "export it again")
        if self.teacher.about.text.output == "logits":
            scores = scores.softmax(2)
        classes, columns = (index.to(image.device) for index in (self._classes, self._columns))
        shared = scores.new_zeros(*scores.shape[:2], len(self._mine)).index_add_(2, columns, scores[..., classes])
        # Flattened after the others have left: thousands of them would take what little is left of each.
        flat = shared.clamp(min=1e-9).log() / self.temperature
        shared = shared.sum(2, keepdim=True) * flat.softmax(2)
        return shared.unflatten(1, (-1, self._theirs)).mean(2)

    def _divergence(self, batch: loop.Batch, logits: Tensor, answers: Tensor) -> Tensor:
        """KL(teacher || student) times the squared temperature (Hinton, Vinyals and Dean, 2015, arXiv 1503.02531, 2).

        Of distributions averaged over the steps of a window (PaddleOCR's `KLCTCLogits` averages over a line's), and
        summed over a line's steps like CTC's own likelihood, so that at weight 1 neither drowns the other. Where on a
        character CTC fires is each network's own affair: of the shifts by up to half a window the best counts. Lines
        with a character that the teacher does not know are left to the label.
        """
        device, own = logits.device, self._own
        count, slack = logits.shape[1] // own, own // 2
        log = functional.log_softmax(logits / self.temperature, 2)[..., self._mine.to(device)]
        log = torch.cat([log[:, :1].expand(-1, slack, -1), log, log[:, -1:].expand(-1, slack, -1)], 1)
        share = answers[:, :count].sum(2)
        answers = answers[:, :count] / share.clamp(min=1e-6)[..., None]
        length, steps = batch["length"].to(device), batch["steps"].to(device)
        share = share * (torch.arange(count, device=device) < (steps // own)[:, None])
        lines = torch.repeat_interleave(torch.arange(len(length), device=device), length)
        strange = (~self._known.to(device)[batch["target"].to(device)]).float()
        known = share.new_zeros(len(length)).index_add_(0, lines, strange) == 0
        losses = []
        for shift in range(2 * slack + 1):
            mean = log[:, shift : shift + count * own].unflatten(1, (count, own)).logsumexp(2) - math.log(own)
            each = share * (torch.special.xlogy(answers, answers) - answers * mean).sum(2)
            losses.append((each.sum(1) / length.clamp(min=1) * known).mean())
        return own * self.temperature**2 * torch.stack(losses).min()

    def _texts(self, batch: loop.Batch) -> list[str]:
        """What the teacher reads in each crop; nothing where it is not sure, or the student could not write it."""
        stride = self.spec.input.stride
        widths = (batch["steps"] * stride).tolist()
        pixels = batch["image"][:, 0].cpu().numpy()
        crops = [
            whole_crop(image[:, :width], self.teacher.about.input) for image, width in zip(pixels, widths, strict=True)
        ]
        read = self._reader.recognize(crops)
        return [
            one.text
            if one.confidence >= SURE
            and set(one.text) <= set(self.spec.charset)
            and feasible(one.text, width // stride)
            else ""
            for one, width in zip(read, widths, strict=True)
        ]

    def _from_text(self, batch: loop.Batch, logits: Tensor, texts: list[str]) -> Tensor:
        """CTC on the teacher's texts: knowledge of whole sequences (Kim and Rush, EMNLP 2016, arXiv 1606.07947)."""
        rows = [i for i, text in enumerate(texts) if text]
        if not rows:
            return logits.new_zeros(())
        place = {char: index for index, char in enumerate(self.spec.charset, 1)}
        lengths = torch.tensor([len(texts[i]) for i in rows], device=logits.device)
        each = functional.ctc_loss(
            functional.log_softmax(logits[rows], 2).transpose(0, 1),
            torch.tensor([place[char] for char in chain.from_iterable(texts[i] for i in rows)], device=logits.device),
            batch["steps"].to(logits.device)[rows],
            lengths,
            reduction="none",
            zero_infinity=True,
        )
        return (each / lengths).sum() / len(texts)


def _reader(teacher: Teacher) -> Recognizer:
    """The teacher as serving runs it, for one whose steps do not meet the student's."""
    if isinstance(teacher.network, Session):
        return Recognizer(teacher.network.bundle)
    found, expected = "time steps that do not meet the student's", "its bundle, which can be asked for texts"
    raise BadInput(teacher.path, found, expected, "`ocr-ops export` it, and give the bundle")


class PageTeaching(Teaching):
    """Pages: a map of where text is."""

    def __init__(self, teacher: Teacher, spec: ModelSpec) -> None:
        """Raises `BadInput` when the teacher's canvas is fixed, and smaller than the recipe's `crop`."""
        about = teacher.about
        like = (about.boxes.growth, about.boxes.ratio) == (spec.boxes.growth, spec.boxes.ratio)
        super().__init__(teacher, spec, "map" if like else "boxes")
        side, fixed = int(loop.setting(spec, "crop")), (about.input.height, about.input.width)
        if all(fixed) and min(fixed) < side:
            found = f"reads {fixed[0]}x{fixed[1]} pixels"
            raise BadInput(
                teacher.path, found, f"{side}x{side}, the recipe's crop", "give another --teacher, or a smaller crop"
            )
        whole = -(-side // about.input.stride) * about.input.stride
        self._canvas = fixed if all(fixed) else (whole, whole)

    def target(self, image: Tensor) -> Tensor:
        """What the student's map should be, float32 (N, 1, H / 2, W / 2), 0 to 1, of views uint8 (N, 1, H, W).

        PP-OCRv2's student, too, learns from its teacher's map beside the labels (Du et al., 2021, arXiv 2109.03144).
        """
        with self.asked():
            return self._target(image)

    def _target(self, image: Tensor) -> Tensor:
        (height, width), (rows, columns) = image.shape[2:], self._canvas
        mode = "replicate" if self.teacher.about.input.padding == "edge" else "constant"
        pixels = functional.pad(image.float(), (0, columns - width, 0, rows - height), mode=mode)
        if isinstance(
            self.teacher.network, Session
        ):  # whose batch may be frozen to one, and which gains nothing of more
            maps = torch.cat([self.teacher(one[None]) for one in pixels])
        else:
            maps = self.teacher(pixels)
        if maps.ndim != 4 or maps.shape[:2] != (len(image), 1):
            raise BadInput(self.teacher.path, f"output {tuple(maps.shape)}", "a map (N, 1, h, w)", "export it again")
        if self.teacher.about.boxes.output == "logits":
            maps = maps.sigmoid()
        maps = maps[:, :, : round(maps.shape[2] * height / rows), : round(maps.shape[3] * width / columns)]
        if self.way == "map":
            return functional.interpolate(maps, (height // 2, width // 2), mode="bilinear", antialias=True).clamp(0, 1)
        drawn = [
            targets.maps(polygons(one, width, height, self.teacher.about.boxes), width)[0]
            for one in maps[:, 0].cpu().numpy()
        ]
        return torch.from_numpy(np.stack(drawn)[:, None]).to(image.device)
