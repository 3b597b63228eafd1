"""Training as one stage: fit whatever task the spec names, and publish the best weights into the model's folder."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from ocr_ops.core.errors import BadInput, BadRecord, NotProven
from ocr_ops.core.record import Record, Value, canonical_json, digest_bytes, write_atomic
from ocr_ops.core.spec import SPEC_FILE, TRAINING_FILE, WEIGHTS_FILE, ModelSpec, Task, later
from ocr_ops.train import artefacts, loop
from ocr_ops.train.crops import QUARANTINE, quarantined
from ocr_ops.train.devices import rank
from ocr_ops.train.distil import open_teacher
from ocr_ops.train.fit_detection import DetectionLesson
from ocr_ops.train.fit_recognition import RecognitionLesson
from ocr_ops.train.material import NOTHING, Material
from ocr_ops.train.networks import load
from ocr_ops.train.transfer import transfer

AnyLesson = DetectionLesson | RecognitionLesson
LESSONS: dict[Task, type[AnyLesson]] = {
    "detection": DetectionLesson,
    "recognition": RecognitionLesson,
}
Course = tuple[AnyLesson, ModelSpec, loop.Leg]
CURVE_POINTS = 200


class Taught(Value):
    """Whose answers a training learnt from beside its labels, and how: see `distil`."""

    model: str
    digest: str
    """Of the teacher's bundle, or of its weights."""
    way: str
    weight: float
    shared_characters: int | None = later(None)
    temperature: float | None = later(None)
    steps: str | None = later(None)
    """The teacher's time steps to the student's."""

    def __str__(self) -> str:
        return f"{self.model} ({self.digest}: {self.way})"


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
    teacher: Taught | None = later(None)
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
    evaluate_steps: int | None = None,
    device: str = "auto",
    material: Material = NOTHING,
    source: Path | None = None,
    teacher: Path | None = None,
    along: Sequence[Path] = (),
    fresh: bool = False,
    publish: bool = False,
) -> list[Training]:
    """Trains the model folder's spec for one leg in `runs`/NAME, resuming what is there unless `fresh`.

    The leg ends after `minutes`; the learning rate's schedule after `horizon` minutes of training altogether, or
    without it after the recipe's steps. A run that is not resumed starts from `source`'s weights, if given. It is
    evaluated every `evaluate_steps`, or every few minutes. `teacher`, a bundle or a model folder, is learnt from
    beside the labels. The models `along` learn from the same batches, taught by the first as it learns; they go on
    from the weights in their folders. `publish` puts the best weights so far into the models' folders. Returns the
    making of those weights.
    """
    spec = ModelSpec.read(model)
    asked = open_teacher(teacher, spec.task) if teacher else None
    lesson = LESSONS[spec.task](spec, material, teacher=asked)
    specs = {model: spec, **{one: ModelSpec.read(one) for one in along}}
    sources = {model: source, **{one: one if (one / WEIGHTS_FILE).is_file() else None for one in along}}
    courses: list[Course] = []
    for folder, its in specs.items():
        one = lesson.follower(its, folder) if courses else lesson
        run = runs / its.name
        begin = sources[folder]
        if begin and (fresh or not (run / loop.CHECKPOINT).exists()):
            tensors, _ = loop.read_tensors(begin / WEIGHTS_FILE)
            moved = transfer(tensors, ModelSpec.read(begin), one.network, its)
            tqdm.write(f"{its.name}: from {begin}, {moved.copied} tensors copied, {moved.grown} grown", file=sys.stderr)
        leg = loop.Leg(
            run, horizon_minutes=horizon, minutes=minutes, evaluate_steps=evaluate_steps, device=device, fresh=fresh
        )
        courses.append((one, its, leg))
    train(*courses[0], courses[1:])
    return [
        publish_best(runs / its.name, folder) if publish and rank() == 0 else describe(runs / its.name, its)[0]
        for folder, its in specs.items()
    ]


def train(lesson: AnyLesson, spec: ModelSpec, leg: loop.Leg, along: Sequence[Course] = ()) -> None:
    """Runs a leg and leaves a folder for each model that says all of it, on any machine: see `complete`.

    Raises `BadRecord` for a recipe with a setting nobody reads: most likely a slip of the pen.
    """
    for one in ((lesson, spec, leg), *along):
        _prepare(*one)
    loop.fit(lesson, spec, leg, along)
    if rank() == 0:
        complete(lesson, leg.folder)
        for other, _, its in along:
            complete(other, its.folder)


def _prepare(lesson: AnyLesson, spec: ModelSpec, leg: loop.Leg) -> None:
    """The run's folder as a training finds it. Errors as `train`."""
    known = loop.RECIPE | lesson.recipe
    unknown = sorted(spec.recipe.keys() - known)
    if unknown:
        expected = f"settings among {', '.join(sorted(known))}"
        raise BadRecord(spec.name, f"[recipe] {', '.join(unknown)}", expected, "correct model.toml")
    _require_teacher(lesson, leg)
    if rank() == 0:
        if lesson.teaching:
            tqdm.write(f"{spec.name}: taught by {Taught(**lesson.teaching.facts)}", file=sys.stderr)
        if leg.fresh:
            shutil.rmtree(leg.folder, ignore_errors=True)
        lesson.quarantine.keep_in(leg.folder)
        write_atomic(leg.folder / SPEC_FILE, spec_text(spec).encode())
        (leg.folder / WEIGHTS_FILE).unlink(missing_ok=True)  # of an earlier leg: what is registered is the best


def _require_teacher(lesson: AnyLesson, leg: loop.Leg) -> None:
    """Raises `BadInput` when a run that is resumed had another teacher until now: its history would be untrue."""
    best = leg.folder / loop.BEST
    if leg.fresh or not best.is_file():
        return
    before = loop.read_tensors(best)[1].get("teacher")
    now = lesson.teaching.facts if lesson.teaching else None
    if before != now:
        was, given = (str(Taught(**one)) if one else "nobody" for one in (before, now))
        found, expected = f"was taught by {was} until now", f"the same, not {given}"
        raise BadInput(leg.folder, found, expected, "give its --teacher and recipe again, or start over with --fresh")


def complete(lesson: AnyLesson, run: Path) -> None:
    """Makes a run's folder a model folder (spec, best weights, their history) with plots, for `ocr-ops register`."""
    publish_best(run, run)
    lesson.network.load_state_dict(loop.read_tensors(run / loop.BEST)[0])
    lesson.network.eval()
    with torch.no_grad():
        files = lesson.artefacts()
    if artefacts.drawable():
        files["curves.png"] = artefacts.curves_png(loop.read_metrics(run))
    for name, data in files.items():
        write_atomic(run / name, data)
    aside = quarantined(run)
    if aside:
        tqdm.write(f"{run.name}: {len(aside)} rows or pages put aside, see {run / QUARANTINE}", file=sys.stderr)


def spec_text(spec: ModelSpec) -> str:
    """A spec as `model.toml`."""
    data = spec.model_dump(mode="json", exclude_defaults=True)
    plain = {key: value for key, value in data.items() if not isinstance(value, dict)}
    lines = ["schema_version = 1", *(f"{key} = {_toml(value)}" for key, value in plain.items())]
    for key, table in data.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A string, number or list of them: in TOML they are written as in JSON, but for the one character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def publish_best(run: Path, model: Path) -> Training:
    """Copies a run's best averaged weights and their history into a model folder.

    Raises `NotProven` when the run has no evaluated weights yet, `BadInput` when they do not fit the spec.
    """
    training, weights = describe(run, ModelSpec.read(model))
    write_atomic(model / WEIGHTS_FILE, weights)
    training.save(model / TRAINING_FILE)
    return training


def weights_bytes(tensors: dict[str, Tensor], model: str, step: int) -> bytes:
    """The safetensors file of a model's weights after so many steps."""
    return bytes(save(tensors, {"model": model, "step": str(step)}))


def describe(run: Path, spec: ModelSpec) -> tuple[Training, bytes]:
    """The making of a run's best weights, and the weights as a safetensors file. Errors as `publish_best`."""
    if not (run / loop.BEST).is_file():
        raise NotProven(run, "no evaluated weights", loop.BEST, "let the training reach its first evaluation")
    tensors, note = loop.read_tensors(run / loop.BEST)
    load(spec, tensors, run / loop.BEST)
    weights = weights_bytes(tensors, spec.name, note["step"])
    rows = [row for row in loop.read_metrics(run) if row["step"] <= note["step"]]
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
        teacher=Taught(**note["teacher"]) if "teacher" in note else None,
        losses=tuple(losses[:: 1 + len(losses) // CURVE_POINTS]),
        exams=tuple(row for row in rows if "score" in row),
    )
    return training, weights
