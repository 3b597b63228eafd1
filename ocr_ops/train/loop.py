"""One training loop for every task: legs that resume exactly, averaged weights, checkpoints that survive a kill."""

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from ocr_ops.runtime.cpu import thread_count

Batch = dict[str, Tensor]

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
PICTURE = "samples.png"
LOG_EVERY = 20
"""Steps."""


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
    next one resumes.
    """

    folder: Path
    horizon_minutes: float | None = None
    minutes: float | None = None
    until: float | None = None
    evaluate_every: float = 240.0
    """Seconds between evaluations, each followed by a checkpoint."""
    workers: int | None = None
    """Processes that draw batches; unset, none beside a CPU, which they would slow, and all cores beside a GPU."""
    device: str = "auto"


class _Pools(Dataset):  # type: ignore[misc]
    """The lesson's pools by number, as torch's loader wants them."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson

    def __getitem__(self, index: int) -> list[Batch]:
        cv2.setNumThreads(1)
        return self.lesson.pool(index)


def batches(lesson: Lesson, step: int, workers: int) -> Iterator[Batch]:
    """The lesson's batches from number `step` on, drawn by `workers` processes (0: in this one)."""
    first, skip = divmod(step, lesson.batches_per_pool)
    loader = DataLoader(_Pools(lesson), batch_size=None, sampler=range(first, 2**31), num_workers=workers)
    for pool in loader:
        yield from pool[skip:]
        skip = 0


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises `BadInput` for a device that is not there."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "auto":
        return torch.device(found)
    if torch.device(name).type == "cuda" and found == "cpu":
        raise BadInput(name, "no CUDA device", "cpu", "pass --device cpu, or install a CUDA build of torch")
    return torch.device(name)


def pick_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine computes it fast (CUDA, AVX512-BF16, AMX), else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    flags = Path("/proc/cpuinfo")
    fast = flags.exists() and any(name in flags.read_text() for name in (" avx512_bf16", " amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def pick_workers(wanted: int | None, device: torch.device) -> int:
    """How many processes draw batches: see `Leg.workers`."""
    return (0 if device.type == "cpu" else thread_count()) if wanted is None else wanted


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


def fit(lesson: Lesson, spec: ModelSpec, leg: Leg) -> dict[str, float]:
    """Trains one leg in `leg.folder`, resuming what is there; returns the last evaluation's figures.

    The folder gets `metrics.jsonl`, `checkpoint.safetensors` (all a next leg needs), `best.safetensors` (averaged
    weights of the best score) and `samples.png`. Recipe: steps, learning_rate, weight_decay, ema.
    """
    course = _Course(lesson, spec, leg)
    if course.progress >= 1:
        found = f"{course.step} steps, {course.seconds / 60:.0f} minutes"
        raise NotProven(leg.folder, f"{found} are done", "work left", "raise steps, or start fresh")
    tqdm.write(f"{spec.name}: {course.device}, {course.precision}, from step {course.step}", file=sys.stderr)
    started = examined = time.monotonic()
    figures: dict[str, float] = {}
    pace = 1 if sys.stderr.isatty() else 30
    begun = round(100 * course.progress, 2)
    with tqdm(total=100, initial=begun, desc=spec.name, unit="%", mininterval=pace) as bar:
        for batch in batches(lesson, course.step, pick_workers(leg.workers, course.device)):
            course.learn(batch)
            now = time.monotonic()
            over = course.over or (leg.minutes is not None and now - started >= 60 * leg.minutes)
            if over or course.step % LOG_EVERY == 0:
                bar.set_postfix(course.note(), refresh=False)
                bar.update(round(min(100.0, 100 * course.progress), 2) - bar.n)
            if over or now - examined >= leg.evaluate_every:
                figures = course.examine()
                course.save()
                examined = time.monotonic()
            if over:
                break
    return figures


class _Course:
    """A training under way: weights, their average, the optimiser, and how far it is."""

    def __init__(self, lesson: Lesson, spec: ModelSpec, leg: Leg) -> None:
        self.lesson, self.leg = lesson, leg
        self.device = pick_device(leg.device)
        self.precision = pick_precision(self.device)
        self.network = lesson.network.to(self.device, memory_format=torch.channels_last)
        self.peak, self.ema = setting(spec, "learning_rate"), setting(spec, "ema", 0.999)
        self.total_steps = int(setting(spec, "steps"))
        weights = list(self.network.parameters())
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": setting(spec, "weight_decay", 0.01)},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=self.peak)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.step, self.seconds, self.samples, self.best = 0, 0.0, 0, -math.inf
        self.losses: list[Tensor] = []
        self._resume()
        self.network.train()
        self.clock = time.monotonic()

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

    def learn(self, batch: Batch) -> None:
        """One step of the optimiser, and of the average after it."""
        batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        for group in self.optimiser.param_groups:
            group["lr"] = self.peak * one_cycle(self.progress)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            loss = self.lesson.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.losses.append(loss.detach())
        self.step += 1
        self.samples += len(batch["image"])
        decay = min(self.ema, (1 + self.step) / (20 + self.step))  # a young average forgets its first steps
        current = self.network.state_dict()
        floats = [name for name, value in self.average.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[n] for n in floats], [current[n] for n in floats], 1 - decay)
        now = time.monotonic()
        self.seconds += now - self.clock
        self.clock = now

    def note(self) -> dict[str, str]:
        """Logs the mean loss since the last time; the same for the progress bar."""
        mean = float(torch.stack(self.losses).mean())
        self.losses.clear()
        self._log({"loss": mean, "rate": float(self.optimiser.param_groups[0]["lr"])})
        return {"loss": f"{mean:.4f}", "seen": str(self.samples), "rate": f"{self.samples / self.seconds:.0f}/s"}

    def examine(self) -> dict[str, float]:
        """Evaluates the averaged weights and keeps them when they are the best; goes on with the working ones."""
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
        if figures["score"] >= self.best:
            self.best = figures["score"]
            _save(self.leg.folder / BEST, self.average, {**self._count, "figures": figures, **self.lesson.facts})
        self.network.load_state_dict(working)
        self.network.train()
        self.clock = time.monotonic()  # an exam is no training
        return figures

    def save(self) -> None:
        """All a next leg needs, in one file."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for index, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value for key, value in entry.items()}
        dataset = self.lesson.facts["dataset"]
        _save(self.leg.folder / CHECKPOINT, tensors, {**self._count, "best": self.best, "dataset": dataset})

    def _resume(self) -> None:
        if not (self.leg.folder / CHECKPOINT).exists():
            (self.leg.folder / METRICS).unlink(missing_ok=True)
            return
        tensors, note = read_tensors(self.leg.folder / CHECKPOINT)
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
        # A score on other data says nothing about this one's.
        self.best = note["best"] if note.get("dataset") == self.lesson.facts["dataset"] else -math.inf
        log = self.leg.folder / METRICS
        rows = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        kept = [row for row in rows if json.loads(row)["step"] <= self.step]  # later ones will be lived again
        write_atomic(log, "".join(row + "\n" for row in kept).encode())

    @property
    def _count(self) -> dict[str, float]:
        return {"step": self.step, "seconds": round(self.seconds, 1), "samples": self.samples}

    def _log(self, row: dict[str, float]) -> None:
        self.leg.folder.mkdir(parents=True, exist_ok=True)
        with (self.leg.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({**self._count, **row}) + "\n")


def _save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, save(whole, {"note": json.dumps(note)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of a safetensors file. Raises `BadInput` when it is not one."""
    try:
        with safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise BadInput(path, str(error), "weights in safetensors", "train again, or fetch the file again") from None
