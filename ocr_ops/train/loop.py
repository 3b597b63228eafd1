"""One training loop for every task: legs that resume exactly, averaged weights, checkpoints that survive a kill."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ocr_ops.core.errors import BadInput, BadRecord, NotProven
from ocr_ops.core.record import write_atomic
from ocr_ops.core.spec import ModelSpec
from ocr_ops.train.devices import Ranks, pick_precision, pick_workers, together

Batch = dict[str, Tensor]

RECIPE = frozenset({"steps", "learning_rate", "weight_decay", "ema", "accumulate", "patience"})
"""Settings of a recipe that are read here; a lesson has its own besides."""
CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
PICTURE = "samples.png"
LOG_EVERY = 20
"""Steps."""
MOST_BAD = 10
"""Steps in a row without a finite loss, after which the training gives up."""


class Lesson(Protocol):
    """What is learnt: the network, an endless supply of batches, a loss, an exam."""

    network: nn.Module
    batches_per_pool: int

    def pool(self, index: int) -> list[Batch]:
        """The batches of one pool: a pure function of the recipe's seed and `index`."""

    def loss(self, batch: Batch) -> Tensor:
        """The loss of a batch on the network's device, a scalar."""

    def evaluate(self) -> dict[str, float]:
        """Figures of the network as it stands on held-out data; `score`, higher is better, picks the best."""

    def picture(self) -> NDArray[np.uint8]:
        """Some samples with the network's answers, for a person to look at."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the data is: digests under `dataset`, counts."""


@dataclass(frozen=True, slots=True)
class Leg:
    """How long to go. The schedule ends after `horizon_minutes` of training if given, else after the recipe's steps.

    This leg stops earlier after `minutes` of its own, or when all legs together have trained `until` minutes; the
    next one resumes. What the clock decides comes out otherwise on another day: with the recipe's steps and
    `evaluate_steps` the same seed gives the same run.
    """

    folder: Path
    horizon_minutes: float | None = None
    minutes: float | None = None
    until: float | None = None
    evaluate_every: float = 240.0
    """Seconds between evaluations, each followed by a checkpoint."""
    evaluate_steps: int | None = None
    """Steps between evaluations, instead of seconds."""
    workers: int | None = None
    """Processes that draw batches; unset, none beside a CPU, which they would slow, and all cores beside a GPU."""
    device: str = "auto"
    fresh: bool = False
    """Start over: what the folder holds is not resumed but written anew."""


class _Pools(Dataset):  # type: ignore[misc]
    """The lesson's pools by number, as torch's loader wants them."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson

    def __getitem__(self, index: int) -> list[Batch]:
        cv2.setNumThreads(1)
        return self.lesson.pool(index)


def batches(lesson: Lesson, start: int, workers: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """A rank's batches from number `start` on, drawn by `workers` processes (0: in this one).

    Pools are dealt to the ranks in turn.
    """
    first, skip = divmod(start, lesson.batches_per_pool)
    mine = range(first * world + rank, 2**31, world)
    for pool in DataLoader(_Pools(lesson), batch_size=None, sampler=mine, num_workers=workers):
        yield from pool[skip:]
        skip = 0


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate at `progress` 0..1: 4 % linear warm-up, cosine to 0.5 %."""
    if progress < 0.04:
        return 0.04 + 0.96 * progress / 0.04
    return 0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.04) / 0.96)))


def setting(spec: ModelSpec, name: str, default: float | None = None) -> float:
    """A number of the recipe. Raises `BadRecord` when it is missing or no number."""
    value = spec.recipe.get(name, default)
    if isinstance(value, (int, float)):
        return float(value)
    raise BadRecord(spec.name, f"[recipe] {name} is {value!r}", "a number", "correct model.toml")


def fit(
    lesson: Lesson, spec: ModelSpec, leg: Leg, along: Sequence[tuple[Lesson, ModelSpec, Leg]] = ()
) -> dict[str, float]:
    """Trains one leg in `leg.folder`, resuming what is there; returns the last evaluation's figures.

    Those `along` learn from the same batches, each into a folder of its own, as long as the first does.

    The folder gets `metrics.jsonl`, `checkpoint.safetensors` (all a next leg needs), `best.safetensors` (averaged
    weights of the best score) and `samples.png`. Recipe: steps, learning_rate, weight_decay, ema; accumulate
    (batches a step), patience (evaluations without a gain after which the training ends).

    Under `torchrun` the ranks train one network; only the first evaluates, writes and returns figures. Raises
    `NotProven` when there is nothing left to do, or when the loss was no number for `MOST_BAD` steps in a row.
    """
    with together(leg.device) as ranks:
        return _fit(_Course(lesson, spec, leg, ranks), [_Course(*one, ranks) for one in along])


def _fit(course: "_Course", along: Sequence["_Course"]) -> dict[str, float]:
    leg, ranks = course.leg, course.ranks
    course.require_work()
    workers = pick_workers(leg.workers, ranks.device)
    stream = batches(course.lesson, course.step * course.accumulate, workers, ranks.rank, ranks.world)
    if ranks.first:
        many = f", {ranks.world} ranks" if ranks.world > 1 else ""
        tqdm.write(f"{course.name}: {ranks.device}{many}, {course.precision}, from step {course.step}", file=sys.stderr)
    started = examined = time.monotonic()
    figures: dict[str, float] = {}
    pace = 1 if sys.stderr.isatty() else 30
    begun = round(100 * course.progress, 2)
    style = "{desc} {percentage:5.1f}% |{bar:20}| {postfix}"
    with tqdm(
        total=100, initial=begun, desc=course.name, mininterval=pace, bar_format=style, disable=not ranks.first
    ) as bar:
        while True:
            parts = list(islice(stream, course.accumulate))
            for one in (course, *along):
                one.learn(parts)
            now = time.monotonic()
            over = course.over or (leg.minutes is not None and now - started >= 60 * leg.minutes)
            by_step = leg.evaluate_steps and course.step % leg.evaluate_steps == 0
            due = over or (by_step if leg.evaluate_steps else now - examined >= leg.evaluate_every)
            over, due = (bool(said) for said in ranks.agree(over, bool(due)))
            if due or course.step % LOG_EVERY == 0:
                bar.set_postfix_str("; ".join(one.note() for one in (course, *along)), refresh=False)
                bar.update(round(min(100.0, 100 * course.progress), 2) - bar.n)
            if due:
                figures, *_ = [one.examine() for one in (course, *along)]
                for one in (course, *along):
                    one.save()
                examined = time.monotonic()
            if over or course.stalled:
                break
    if course.stalled and ranks.first:
        tqdm.write(f"{course.name}: no gain in {course.stale} evaluations, stopped early", file=sys.stderr)
    return figures


class _Course:
    """A training under way: weights, their average, the optimiser, and how far it is."""

    def __init__(self, lesson: Lesson, spec: ModelSpec, leg: Leg, ranks: Ranks) -> None:
        self.lesson, self.leg, self.ranks, self.name = lesson, leg, ranks, spec.name
        self.device = ranks.device
        self.precision = pick_precision(self.device)
        self.network = lesson.network.to(self.device, memory_format=torch.channels_last)
        self.peak, self.ema = setting(spec, "learning_rate"), setting(spec, "ema", 0.999)
        self.total_steps = int(setting(spec, "steps"))
        self.accumulate = max(1, int(setting(spec, "accumulate", 1)))
        self.patience = setting(spec, "patience", math.inf)
        weights = list(self.network.parameters())
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": setting(spec, "weight_decay", 0.01)},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=self.peak)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.step, self.seconds, self.samples, self.best = 0, 0.0, 0, -math.inf
        self.stale, self.skipped, self.bad = 0, 0, 0
        self.losses: list[Tensor] = []
        self._resume()
        self.network.train()
        self.clock = time.monotonic()
        self.noted = self._place

    @property
    def progress(self) -> float:
        """0 at the start of the schedule, 1 at its end."""
        if self.leg.horizon_minutes is None:
            return self.step / self.total_steps
        return self.seconds / (60 * self.leg.horizon_minutes)

    @property
    def over(self) -> bool:
        """Whether the schedule, or the share of it this leg is to reach, is behind us."""
        return self.progress >= 1 or (self.leg.until is not None and self.seconds >= 60 * self.leg.until)

    @property
    def stalled(self) -> bool:
        """Whether the recipe's patience is at its end."""
        return self.stale >= self.patience

    def require_work(self) -> None:
        """Raises `NotProven` when the schedule is over already."""
        done = f"{self.step} steps, {self.seconds / 60:.0f} minutes"
        if self.progress >= 1:
            raise NotProven(self.leg.folder, f"{done} are done", "work left", "raise steps, or start fresh")
        if self.stalled:
            found = f"no gain in {self.stale} evaluations after {done}"
            raise NotProven(self.leg.folder, found, "work left", "raise patience, or start fresh")

    def learn(self, parts: Sequence[Batch]) -> None:
        """One step of the optimiser on the mean of the batches' losses, and of the average after it.

        A step whose gradient is no number changes nothing but the count.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.peak * one_cycle(self.progress)
        self.optimiser.zero_grad()
        losses = []
        for part in parts:
            batch = {key: value.to(self.device, non_blocking=True) for key, value in part.items()}
            with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                loss = self.lesson.loss(batch)
            (loss / len(parts)).backward()
            losses.append(loss.detach())
        statistics = [value for value in self.network.buffers() if value.is_floating_point()]
        gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
        self.ranks.average([*gradients, *statistics])
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        if bool(torch.isfinite(norm)):
            self.optimiser.step()
            self.losses += losses
            self.bad = 0
        else:
            self._skip()
        self.step += 1
        decay = min(self.ema, (1 + self.step) / (20 + self.step))  # a young average forgets its first steps
        current = self.network.state_dict()
        floats = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [current[n] for n in floats], 1 - decay)
        now = time.monotonic()
        elapsed, seen = self.ranks.mean(now - self.clock, sum(len(part["image"]) for part in parts))
        self.seconds += elapsed
        self.samples += round(seen * self.ranks.world)
        self.clock = now

    def _skip(self) -> None:
        self.skipped, self.bad = self.skipped + 1, self.bad + 1
        for name, value in self.network.named_buffers():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                value.copy_(self.average[name])  # BatchNorm has seen what is no number
        if self.bad >= MOST_BAD:
            found = f"a loss that is no number, {self.bad} steps in a row up to step {self.step + 1}"
            remedy = f"lower learning_rate and run again: the last {CHECKPOINT} stands"
            raise NotProven(self.leg.folder, found, "a finite loss", remedy)

    def note(self) -> str:
        """Logs the mean loss since the last time; what the progress bar says of it."""
        mean = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        self.losses.clear()
        skipped = {"skipped": self.skipped} if self.skipped else {}
        self._log({"loss": mean, "rate": float(self.optimiser.param_groups[0]["lr"]), **skipped})
        (progress, seconds, samples), self.noted = self.noted, self._place
        took = max(1e-9, self.seconds - seconds)
        left = took * (1 - self.progress) / max(1e-12, self.progress - progress)
        shown = (
            f"step {self.step}, loss {mean:.4f}, {(self.samples - samples) / took:.0f} samples/s, {_span(left)} left"
        )
        return f"{shown}, {self.skipped} steps skipped" if self.skipped else shown

    @property
    def _place(self) -> tuple[float, float, int]:
        return self.progress, self.seconds, self.samples

    def examine(self) -> dict[str, float]:
        """Evaluates the averaged weights and keeps them when they are the best; goes on with the working ones.

        The first rank does; the others wait for it.
        """
        figures = self._examine() if self.ranks.first else {}
        (self.stale,) = self.ranks.agree(self.stale)
        self.clock = time.monotonic()  # an exam is no training
        return figures

    def _examine(self) -> dict[str, float]:
        working = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.average)
        self.network.eval()
        with torch.no_grad():
            figures = self.lesson.evaluate()
            picture = self.lesson.picture()
        self._log(figures)
        write_atomic(self.leg.folder / PICTURE, bytes(cv2.imencode(".png", picture)[1]))
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        tqdm.write(f"step {self.step}: {shown}", file=sys.stderr)
        self.stale = 0 if figures["score"] > self.best else self.stale + 1
        if figures["score"] >= self.best:
            self.best = figures["score"]
            _save(self.leg.folder / BEST, self.average, {**self._count, "figures": figures, **self.lesson.facts})
        self.network.load_state_dict(working)
        self.network.train()
        return figures

    def save(self) -> None:
        """All a next leg needs, in one file, by the first rank."""
        if not self.ranks.first:
            return
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for index, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value for key, value in entry.items()}
        dataset = self.lesson.facts["dataset"]
        _save(
            self.leg.folder / CHECKPOINT,
            tensors,
            {**self._count, "best": self.best, "stale": self.stale, "dataset": dataset},
        )

    def _resume(self) -> None:
        path = self.leg.folder / CHECKPOINT
        if self.leg.fresh or not path.exists():
            if self.ranks.first:
                for stale in (path, self.leg.folder / BEST, self.leg.folder / METRICS):
                    stale.unlink(missing_ok=True)
            return
        tensors, note = read_tensors(path)
        try:
            self._restore(tensors, note)
        except (KeyError, RuntimeError, ValueError) as error:
            found = " ".join(str(error).split())[:200]
            remedy = "restore model.toml as it was, or start over with --fresh"
            raise BadInput(path, found, f"a checkpoint of {self.name}", remedy) from None
        if self.ranks.first:
            kept = [row for row in read_metrics(self.leg.folder) if row["step"] <= self.step]  # the rest is lived again
            write_atomic(self.leg.folder / METRICS, "".join(json.dumps(row) + "\n" for row in kept).encode())

    def _restore(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
        for name, value in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = value
        self.network.load_state_dict(parts["network"])
        for name, value in self.average.items():
            value.copy_(parts["average"][name])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in parts["optimiser"].items():
            index, key = name.split(".", 1)
            moments.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.step, self.seconds, self.samples = note["step"], note["seconds"], note["samples"]
        if note.get("dataset") == self.lesson.facts["dataset"]:  # a score on other data says nothing about this one's
            self.best, self.stale = note["best"], note.get("stale", 0)

    @property
    def _count(self) -> dict[str, float]:
        return {"step": self.step, "seconds": round(self.seconds, 1), "samples": self.samples}

    def _log(self, row: dict[str, float]) -> None:
        if not self.ranks.first:
            return
        row = {name: value for name, value in row.items() if math.isfinite(value)}
        self.leg.folder.mkdir(parents=True, exist_ok=True)
        with (self.leg.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**self._count, **row}) + "\n")


def _save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, save(whole, {"note": json.dumps(note)}))


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{minutes // 60} h {minutes % 60:02} min"
        if minutes > 90
        else f"{minutes} min"
    )


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The rows a run has logged; one that a crash tore off at the end is left out."""
    path = folder / METRICS
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of a safetensors file. Raises `BadInput` when it is not one."""
    try:
        with safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise BadInput(path, str(error), "weights in safetensors", "train again, or fetch the file again") from None
