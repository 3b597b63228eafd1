"""Training as one stage: fit whatever task the spec names, and publish the best weights into the model's folder."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from ocr_ops.core.errors import BadInput, NotProven
from ocr_ops.core.record import Record, canonical_json, digest_bytes, write_atomic
from ocr_ops.core.spec import TRAINING_FILE, WEIGHTS_FILE, ModelSpec, Task
from ocr_ops.train import loop
from ocr_ops.train.fit_detection import fit_detection
from ocr_ops.train.fit_recognition import fit_recognition
from ocr_ops.train.networks import build

FITS: dict[Task, Callable[[ModelSpec, loop.Leg, Path | None], dict[str, float]]] = {
    "detection": fit_detection,
    "recognition": fit_recognition,
}


class Training(Record):
    """How a model's weights came to be, beside them as `training.json`."""

    model: str
    weights: str
    """Digest of the weights file."""
    dataset: str
    """Digest over what the run's data was: rendered samples' digest, real crops' digest."""
    step: int
    samples: int
    seconds: float
    torch: str
    figures: dict[str, float]
    """The held-out figures of exactly these weights."""
    facts: dict[str, int]
    losses: tuple[tuple[int, float], ...]
    """(step, mean training loss), at most 200 points."""
    exams: tuple[dict[str, float], ...]
    """Every evaluation of the run so far."""


def fit(model: Path, leg: loop.Leg, real: Path | None = None) -> dict[str, float]:
    """Trains the model folder's spec for one leg (see `loop.Leg`); `real` is a folder of labelled line crops."""
    spec = ModelSpec.read(model)
    return FITS[spec.task](spec, leg, real)


def publish(run: Path, model: Path) -> Training:
    """Copies a run's best averaged weights and their history into a model folder.

    Raises `NotProven` when the run has no evaluated weights yet, `BadInput` when they do not fit the spec.
    """
    spec = ModelSpec.read(model)
    if not (run / loop.BEST).is_file():
        raise NotProven(run, "no evaluated weights", loop.BEST, "let the training reach its first evaluation")
    tensors, note = loop.read_tensors(run / loop.BEST)
    load_weights(spec, tensors, run / loop.BEST)
    weights = save(tensors, {"model": spec.name, "step": str(note["step"])})
    rows = [json.loads(row) for row in (run / loop.METRICS).read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["step"] <= note["step"]]
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    training = Training(
        model=spec.name,
        weights=digest_bytes(weights),
        dataset=digest_bytes(canonical_json(note["dataset"]).encode()),
        step=note["step"],
        samples=note["samples"],
        seconds=note["seconds"],
        torch=torch.__version__,
        figures=note["figures"],
        facts={key: value for key, value in note.items() if isinstance(value, int)},
        losses=tuple(losses[:: max(1, len(losses) // 100)]),
        exams=tuple({k: v for k, v in row.items() if k != "rate"} for row in rows if "score" in row),
    )
    write_atomic(model / WEIGHTS_FILE, weights)
    training.save(model / TRAINING_FILE)
    return training


def load_weights(spec: ModelSpec, tensors: dict[str, torch.Tensor], subject: Path) -> torch.nn.Module:
    """The spec's network with `tensors` in it. Raises `BadInput` when names or shapes differ."""
    network = build(spec)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        found = " ".join(str(error).split())[:200]
        raise BadInput(subject, found, f"the weights of {spec.name}", "train again, or correct model.toml") from None
    return network.eval()
