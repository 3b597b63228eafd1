"""Training as one stage: fit whatever task the spec names, and publish the best weights into the model's folder."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save

from ocr_ops.core.errors import NotProven
from ocr_ops.core.record import Record, canonical_json, digest_bytes, write_atomic
from ocr_ops.core.spec import TRAINING_FILE, WEIGHTS_FILE, ModelSpec, Task
from ocr_ops.train import loop
from ocr_ops.train.fit_detection import DetectionLesson
from ocr_ops.train.fit_recognition import RecognitionLesson
from ocr_ops.train.networks import load

LESSONS: dict[Task, type[DetectionLesson] | type[RecognitionLesson]] = {
    "detection": DetectionLesson,
    "recognition": RecognitionLesson,
}
CURVE_POINTS = 200


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
    """Fonts, families, real crops."""
    losses: tuple[dict[str, float], ...]
    """step, mean training loss, learning rate."""
    exams: tuple[dict[str, float], ...]
    """Every evaluation of the run up to these weights."""

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in self.figures.items())
        return f"{self.model}: step {self.step}, {self.samples} samples, {figures}"


def fit(
    model: Path,
    runs: Path,
    *,
    minutes: float | None = None,
    horizon: float | None = None,
    real: Path | None = None,
    fresh: bool = False,
    publish: bool = False,
) -> Training:
    """Trains the model folder's spec for one leg in `runs`/NAME, resuming what is there unless `fresh`.

    The leg ends after `minutes`; the learning rate's schedule after `horizon` minutes of training altogether, or
    without it after the recipe's steps. `real` is a folder of labelled line crops; `publish` puts the best weights
    so far into the model's folder. Returns the making of those weights.
    """
    spec = ModelSpec.read(model)
    run = runs / spec.name
    if fresh:
        shutil.rmtree(run, ignore_errors=True)
    loop.fit(LESSONS[spec.task](spec, real), spec, loop.Leg(run, horizon_minutes=horizon, minutes=minutes))
    return publish_best(run, model) if publish else describe(run, spec)[0]


def publish_best(run: Path, model: Path) -> Training:
    """Copies a run's best averaged weights and their history into a model folder.

    Raises `NotProven` when the run has no evaluated weights yet, `BadInput` when they do not fit the spec.
    """
    training, weights = describe(run, ModelSpec.read(model))
    write_atomic(model / WEIGHTS_FILE, weights)
    training.save(model / TRAINING_FILE)
    return training


def describe(run: Path, spec: ModelSpec) -> tuple[Training, bytes]:
    """The making of a run's best weights, and the weights as a safetensors file. Errors as `publish_best`."""
    if not (run / loop.BEST).is_file():
        raise NotProven(run, "no evaluated weights", loop.BEST, "let the training reach its first evaluation")
    tensors, note = loop.read_tensors(run / loop.BEST)
    load(spec, tensors, run / loop.BEST)
    weights = save(tensors, {"model": spec.name, "step": str(note["step"])})
    rows = [json.loads(row) for row in (run / loop.METRICS).read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["step"] <= note["step"]]
    losses = [{key: row[key] for key in ("step", "loss", "rate")} for row in rows if "loss" in row]
    training = Training(
        model=spec.name,
        weights=digest_bytes(weights),
        dataset=digest_bytes(canonical_json(note["dataset"]).encode()),
        step=note["step"],
        samples=note["samples"],
        seconds=note["seconds"],
        torch=torch.__version__,
        figures=note["figures"],
        facts={
            key: value for key, value in note.items() if isinstance(value, int) and key not in Training.model_fields
        },
        losses=tuple(losses[:: 1 + len(losses) // CURVE_POINTS]),
        exams=tuple(row for row in rows if "score" in row),
    )
    return training, weights
