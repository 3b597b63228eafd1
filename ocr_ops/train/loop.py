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
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ocr_ops.core.errors import BadInput, NotProven
from ocr_ops.core.record import write_atomic
from ocr_ops.core.spec import ModelSpec

Batch = dict[str, Tensor]

CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
PICTURE = "samples.png"


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
        """What the data is: digests, counts."""


@dataclass(frozen=True, slots=True)
class Leg:
    """How long to go. The schedule ends after `horizon_minutes` of training if given, else after the recipe's steps;
    this leg stops after `minutes` at the latest, and the next one resumes."""

    folder: Path
    horizon_minutes: float | None = None
    minutes: float | None = None
    evaluate_every: float = 240.0
    """Seconds between evaluations, each followed by a checkpoint."""
    workers: int = 0
    device: str = "auto"


class _Pools(Dataset[list[Batch]]):
    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson

    def __getitem__(self, index: int) -> list[Batch]:
        cv2.setNumThreads(1)
        return self.lesson.pool(index)


@dataclass(slots=True)
class _State:
    step: int = 0
    seconds: float = 0.0
    samples: int = 0
    best: float = -math.inf


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


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate at `progress` 0..1: 4 % linear warm-up, cosine to 0.5 %."""
    if progress < 0.04:
        return 0.04 + 0.96 * progress / 0.04
    return 0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.04) / 0.96)))


def fit(lesson: Lesson, spec: ModelSpec, leg: Leg) -> dict[str, float]:
    """Trains one leg in `leg.folder`, resuming what is there; returns the last evaluation's figures.

    The folder gets `metrics.jsonl`, `checkpoint.safetensors` (all a next leg needs), `best.safetensors` (averaged
    weights of the best score) and `samples.png`. Recipe: steps, learning_rate, weight_decay, ema, seed.
    """
    device, recipe = pick_device(leg.device), spec.recipe
    precision = pick_precision(device)
    network = lesson.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    decays = [p for p in network.parameters() if p.ndim > 1]
    groups = [
        {"params": decays, "weight_decay": float(str(recipe.get("weight_decay", 0.01)))},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    peak = float(str(recipe["learning_rate"]))
    optimiser = torch.optim.AdamW(groups, lr=peak)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    state = _resume(leg.folder, network, optimiser, average)
    total_steps = int(str(recipe["steps"]))
    if leg.horizon_minutes is None and state.step >= total_steps:
        raise NotProven(leg.folder, f"{state.step} steps are done", "work left", "raise steps or remove the run folder")
    print(f"{spec.name}: {device}, {precision}, from step {state.step}", file=sys.stderr)

    def progress() -> float:
        if leg.horizon_minutes is None:
            return state.step / total_steps
        return state.seconds / (60 * leg.horizon_minutes)

    started = clock = evaluated = time.monotonic()
    losses: list[Tensor] = []
    figures: dict[str, float] = {}
    bar = tqdm(total=100, desc=spec.name, unit="%", file=sys.stderr, mininterval=1 if sys.stderr.isatty() else 30)
    network.train()
    for batch in _batches(lesson, state.step, leg.workers):
        batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        rate = peak * one_cycle(progress())
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            loss = lesson.loss(batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        state.step += 1
        state.samples += len(batch["image"])
        _average(average, network, min(float(str(recipe.get("ema", 0.999))), (1 + state.step) / (20 + state.step)))
        losses.append(loss.detach())

        now = time.monotonic()
        state.seconds += now - clock
        clock = now
        done = progress() >= 1
        over = done or (leg.minutes is not None and now - started >= 60 * leg.minutes)
        if state.step % 20 == 0 or over:
            mean = float(torch.stack(losses).mean())
            losses.clear()
            bar.n = round(min(100.0, 100 * progress()), 2)
            bar.set_postfix(loss=f"{mean:.4f}", seen=state.samples, rate=f"{state.samples / state.seconds:.0f}/s")
            _log(
                leg.folder,
                {
                    "step": state.step,
                    "seconds": round(state.seconds, 1),
                    "samples": state.samples,
                    "loss": mean,
                    "rate": rate,
                },
            )
        if over or now - evaluated >= leg.evaluate_every:
            figures = _exam(lesson, network, average, leg.folder, state)
            _checkpoint(leg.folder, network, optimiser, average, state)
            state.seconds += time.monotonic() - clock
            clock = evaluated = time.monotonic()
            network.train()
        if over:
            break
    bar.close()
    return figures


def _batches(lesson: Lesson, step: int, workers: int) -> Iterator[Batch]:
    first, skip = divmod(step, lesson.batches_per_pool)
    loader = DataLoader(_Pools(lesson), batch_size=None, sampler=range(first, 2**31), num_workers=workers)
    for pool in loader:
        yield from pool[skip:]
        skip = 0


def _average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and BatchNorm statistics, in place."""
    current = network.state_dict()
    floats = [name for name in average if average[name].is_floating_point()]
    torch._foreach_lerp_([average[n] for n in floats], [current[n] for n in floats], 1 - decay)


def _exam(
    lesson: Lesson, network: nn.Module, average: dict[str, Tensor], folder: Path, state: _State
) -> dict[str, float]:
    """Evaluates the averaged weights, keeps them when they are the best, and puts the working weights back."""
    working = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    with torch.no_grad():
        figures = lesson.evaluate()
        picture = lesson.picture()
    network.load_state_dict(working)
    _log(folder, {"step": state.step, "seconds": round(state.seconds, 1), "samples": state.samples, **figures})
    write_atomic(folder / PICTURE, bytes(cv2.imencode(".png", picture)[1]))
    tqdm.write(f"step {state.step}: " + ", ".join(f"{k} {v:.4f}" for k, v in figures.items()), file=sys.stderr)
    if figures["score"] >= state.best:
        state.best = figures["score"]
        note = {
            "step": state.step,
            "seconds": state.seconds,
            "samples": state.samples,
            "figures": figures,
            **lesson.facts,
        }
        _save(folder / BEST, average, note)
    return figures


def _log(folder: Path, row: dict[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomic(path, save(whole, {"note": json.dumps(note)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and note of a safetensors file this loop wrote. Raises `BadInput` when it is not one."""
    try:
        with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118 (no mapping)
    except Exception as error:  # safetensors has its own error classes, undocumented
        raise BadInput(path, str(error), "weights in safetensors", "train again, or fetch the file again") from error


def _checkpoint(
    folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor], state: _State
) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": torch.as_tensor(value) for key, value in entry.items()}
    note = {"step": state.step, "seconds": state.seconds, "samples": state.samples, "best": state.best}
    _save(folder / CHECKPOINT, tensors, note)


def _resume(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> _State:
    if not (folder / CHECKPOINT).exists():
        (folder / METRICS).unlink(missing_ok=True)
        return _State()
    tensors, note = read_tensors(folder / CHECKPOINT)
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
    for name, value in tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = value
    network.load_state_dict(parts["network"])
    for name, value in average.items():
        value.copy_(parts["average"][name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in parts["optimiser"].items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    rows = (folder / METRICS).read_text(encoding="utf-8").splitlines() if (folder / METRICS).exists() else []
    kept = [row for row in rows if json.loads(row)["step"] <= note["step"]]  # later ones will be lived again
    write_atomic(folder / METRICS, "".join(row + "\n" for row in kept).encode())
    return _State(note["step"], note["seconds"], note["samples"], note["best"])
