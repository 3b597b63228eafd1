"""Search of a recipe: learning rate, width and augmentation, in short trials that stop early when they lag."""

import shutil
import sys
from pathlib import Path

import optuna
from tqdm import tqdm

from ocr_ops.core.errors import NotProven
from ocr_ops.core.spec import ModelSpec, Setting
from ocr_ops.train import loop
from ocr_ops.train.fit import LESSONS

RUNGS = 3
"""Evaluations of a trial; after each the worse half of the trials seen so far is given up."""
EXAM = 60
"""Samples of an evaluation: short trials cannot afford long exams."""


def tune(
    model: Path, home: Path, *, trials: int, minutes: float, real: Path | None = None
) -> dict[str, float | list[int]]:
    """Runs `trials` trainings of `minutes` each; returns the best settings and their score.

    The study goes on from `home`/tune.db (sqlite) when it is there. Every trial's schedule ends with its minutes, so
    what is found suits short trainings; take it for longer ones with care. Raises `NotProven` when none finished.
    """
    spec = ModelSpec.read(model)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    home.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=spec.name,
        storage=f"sqlite:///{home / 'tune.db'}",
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=int(loop.setting(spec, "seed"))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
        load_if_exists=True,
    )
    scratch = home / "runs" / f"{spec.name}.tune"

    def objective(trial: optuna.Trial) -> float:
        proposal = propose(trial, spec)
        tqdm.write(f"{spec.name}: trial {trial.number} of this study, {trial.params}", file=sys.stderr)
        lesson = LESSONS[spec.task](proposal, real, EXAM)
        shutil.rmtree(scratch, ignore_errors=True)
        for rung in range(RUNGS):
            share = minutes * (rung + 1) / RUNGS
            score = loop.fit(lesson, proposal, loop.Leg(scratch, horizon_minutes=minutes, until=share))["score"]
            trial.report(score, rung)
            if trial.should_prune():
                raise optuna.TrialPruned
            if loop.read_tensors(scratch / loop.CHECKPOINT)[1]["seconds"] >= 60 * minutes:
                break  # a single step took what was left
        return score

    study.optimize(objective, n_trials=trials)
    shutil.rmtree(scratch, ignore_errors=True)
    if not study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)):
        raise NotProven(spec.name, "no trial finished", "one at least", "allow more trials or minutes")
    best = propose(optuna.trial.FixedTrial(study.best_params), spec)
    widths = best.network["widths"]
    return {
        "score": study.best_value,
        "learning_rate": loop.setting(best, "learning_rate"),
        "strength": loop.setting(best, "strength"),
        "widths": list(widths) if isinstance(widths, tuple) else [],
    }


def propose(trial: optuna.trial.BaseTrial, spec: ModelSpec) -> ModelSpec:
    """`spec` with a learning rate, an augmentation strength and network widths drawn around its own."""
    scale = trial.suggest_float("width", 0.5, 1.25, step=0.25)
    widths = spec.network["widths"]
    scaled = tuple(max(8, round(width * scale / 8) * 8) for width in widths) if isinstance(widths, tuple) else widths
    recipe: dict[str, Setting] = {
        **spec.recipe,
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 6e-3, log=True),
        "strength": trial.suggest_float("strength", 0.4, 1.4),
    }
    return spec.model_copy(update={"network": {**spec.network, "widths": scaled}, "recipe": recipe})
