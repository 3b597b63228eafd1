"""One trial of a search: what it proposes, how it is examined, and when it is given up."""

import math
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from torch import Tensor
from tqdm import tqdm

from ocr_ops.core.spec import ModelSpec, Setting
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.data.render_text import CHARSET
from ocr_ops.runtime.detection import prepare_page
from ocr_ops.train import loop, targets
from ocr_ops.train.cost import cpu_ms
from ocr_ops.train.fit import LESSONS
from ocr_ops.train.fit_detection import DetectionLesson
from ocr_ops.train.material import Material
from ocr_ops.train.study import COST, SCORE

RUNGS = 3
"""Evaluations of a trial; after each but the last it may be given up."""
PEERS = 3
"""Trials that cost no more, without which none is given up."""
EXAM = {"recognition": 120, "detection": 6}
"""Lines or whole pages of an evaluation: short trials cannot afford long exams."""
HEIGHTS = (24, 32, 40)
"""Of a recogniser's crops, px."""
SIDES = (0.6, 0.8, 1.0, 1.25)
"""Of a detector's longest page side, to that of its spec."""


def run_trial(
    trial: optuna.Trial, spec: ModelSpec, steps: int, material: Material, folder: Path
) -> tuple[float, float]:
    """Trains what `trial` proposes for `steps` steps in `folder`, which is gone afterwards; its score and CPU ms.

    Raises `optuna.TrialPruned` when it is hopeless, `NotProven` when its loss is no number.
    """
    proposal = propose(trial, spec)
    (cost,) = cpu_ms([proposal])
    trial.set_user_attr(COST, cost)
    tqdm.write(
        f"{trial.study.study_name}: trial {trial.number}, {cost:.2f} CPU ms, {_shown(trial.params)}", file=sys.stderr
    )
    lesson = _Watched(_lesson(proposal, material), _Judge(trial))
    leg = loop.Leg(folder, evaluate_steps=math.ceil(steps / RUNGS), workers=0, fresh=True)
    try:
        return loop.fit(lesson, _lasting(proposal, steps), leg)["score"], cost
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def propose(trial: optuna.trial.BaseTrial, spec: ModelSpec) -> ModelSpec:
    """`spec` with network widths, a resolution, a learning rate and an augmentation strength drawn around its own."""
    scale = trial.suggest_float("width", 0.5, 1.25, step=0.25)
    widths = spec.network["widths"]
    scaled = tuple(max(8, round(width * scale / 8) * 8) for width in widths) if isinstance(widths, tuple) else widths
    if spec.task == "recognition":
        changed = {"height": trial.suggest_categorical("height", HEIGHTS)}
    else:
        stride = spec.input.stride
        sides = [max(1, round(spec.input.max_side * share / stride)) * stride for share in SIDES]
        changed = {"max_side": trial.suggest_categorical("max_side", sides)}
    recipe: dict[str, Setting] = {
        **spec.recipe,
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 6e-3, log=True),
        "strength": trial.suggest_float("strength", 0.4, 1.4),
    }
    return spec.model_copy(
        update={
            "input": spec.input.model_copy(update=changed),
            "network": {**spec.network, "widths": scaled},
            "recipe": recipe,
        }
    )


def hopeless(mine: FrozenTrial, others: list[FrozenTrial], rung: int) -> bool:
    """Whether a trial should be given up: most trials that cost no more did better at the same rung.

    Optuna's pruners compare one figure, and refuse studies of two. A trial that a cheaper one beats cannot come onto
    the front as things stand; a dear one is never held against what only a dearer one reached.
    """
    name = f"{SCORE}{rung}"
    cost = 1.02 * mine.user_attrs[COST]  # equal networks never measure quite alike
    scores = [
        other.user_attrs[name]
        for other in others
        if other.number != mine.number and name in other.user_attrs and other.user_attrs[COST] <= cost
    ]
    return len(scores) >= PEERS and mine.user_attrs[name] < median(scores)


@dataclass(slots=True)
class _Judge:
    """Writes a trial's scores into the study, and ends it when it is hopeless."""

    trial: optuna.Trial
    rung: int = 0

    def __call__(self, score: float) -> None:
        self.trial.set_user_attr(f"{SCORE}{self.rung}", score)
        trials = self.trial.study.get_trials(deepcopy=False)
        if self.rung < RUNGS - 1 and hopeless(trials[self.trial.number], trials, self.rung):
            raise optuna.TrialPruned
        self.rung += 1


class _Watched:
    """A lesson whose exams somebody follows."""

    def __init__(self, lesson: loop.Lesson, seen: Callable[[float], None]) -> None:
        self.lesson, self.seen = lesson, seen
        self.network, self.batches_per_pool = lesson.network, lesson.batches_per_pool

    @property
    def facts(self) -> dict[str, Any]:
        return self.lesson.facts

    def pool(self, index: int) -> list[loop.Batch]:
        return self.lesson.pool(index)

    def loss(self, batch: loop.Batch) -> Tensor:
        return self.lesson.loss(batch)

    def evaluate(self) -> dict[str, float]:
        figures = self.lesson.evaluate()
        self.seen(figures["score"])
        return figures

    def picture(self) -> NDArray[np.uint8]:
        return np.zeros((1, 1), np.uint8)  # nobody looks at a trial's


class _PageExam(DetectionLesson):
    """The same lesson, examined on whole pages at the spec's own resolution: views would not show what it costs."""

    def __init__(self, spec: ModelSpec, material: Material, exam: int) -> None:
        super().__init__(spec, material, 1)
        renderer = PageRenderer(CHARSET, "validation")
        self.pages = [renderer.page(np.random.default_rng((self.seed, 6, index))) for index in range(exam)]

    def evaluate(self) -> dict[str, float]:
        """The harmonic mean of precision and recall at an IoU of 0.5; lines below 6 px are neither."""
        hits = found = true = 0
        for page in self.pages:
            prepared = prepare_page(page.image, self.spec.input)
            boxes = prepared.restore(self._found(prepared.pixels))
            quads = np.array([segment.polygon for segment in page.segments], np.float32).reshape(-1, 4, 2)
            legible = targets.heights(quads) >= 6
            pairs = targets.matches(boxes, quads)
            good = sum(bool(legible[j]) for _, j in pairs)
            hits += good
            found += len(boxes) - (len(pairs) - good)
            true += int(legible.sum())
        return {"score": 2 * hits / max(1, found + true)}


def _lesson(spec: ModelSpec, material: Material) -> loop.Lesson:
    exam = EXAM[spec.task]
    return _PageExam(spec, material, exam) if spec.task == "detection" else LESSONS[spec.task](spec, material, exam)


def _lasting(spec: ModelSpec, steps: int) -> ModelSpec:
    """A trial's recipe: the whole schedule in its steps, no patience."""
    kept = {key: value for key, value in spec.recipe.items() if key != "patience"}
    return spec.model_copy(update={"recipe": {**kept, "steps": steps}})


def _shown(params: Mapping[str, Any]) -> str:
    values = {key: f"{value:.3g}" if isinstance(value, float) else str(value) for key, value in params.items()}
    return ", ".join(f"{key} {value}" for key, value in values.items())
