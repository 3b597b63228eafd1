"""Search of a model: its width, its resolution, its learning rate and its augmentation, for accuracy and for cost."""

import multiprocessing
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import torch
from optuna.trial import FixedTrial, TrialState
from tqdm import tqdm

from ocr_ops.core.errors import NotProven, OcrOpsError, OutsideSystem
from ocr_ops.core.record import canonical_json, write_atomic
from ocr_ops.core.spec import SPEC_FILE, ModelSpec
from ocr_ops.registry import Registry
from ocr_ops.registry.study import conclude_study, log_study, log_trial
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.train import loop, study_picture
from ocr_ops.train.cost import cpu_ms
from ocr_ops.train.fit import spec_text
from ocr_ops.train.material import NOTHING, Material
from ocr_ops.train.study import (
    COST,
    Candidate,
    complete,
    counts,
    front,
    importance,
    open_study,
    scores,
    store_url,
)
from ocr_ops.train.trial import EXAM, propose, run_trial


@dataclass(frozen=True, slots=True)
class Search:
    """What every worker process of a search needs to know."""

    model: Path
    home: Path
    study: str
    url: str
    steps: int
    material: Material

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec.read(self.model)

    @property
    def folder(self) -> Path:
        """Picture, figures and the front's specs."""
        return self.home / "studies" / self.study

    def open(self, worker: int = 0) -> optuna.Study:
        """The study, as `open_study`, for one of this command's workers."""
        folders = sorted(str(path.name) for path in (*self.material.lines, *self.material.pages))
        terms = {"steps": self.steps, "spec": self.spec.digest, "data": folders, "exam": EXAM[self.spec.task]}
        return open_study(self.url, self.study, terms, f"{loop.setting(self.spec, 'seed'):.0f} {worker}")


@dataclass(frozen=True, slots=True)
class Found:
    """What a study has found so far."""

    front: tuple[Candidate, ...]
    counts: Mapping[str, int]
    folder: Path
    """`study.png`, `front.json`, and for each of the front `trial-N/model.toml`, ready to be trained."""
    run: str | None
    """The study's run in MLflow."""


def search(
    model: Path,
    home: Path,
    *,
    trials: int,
    steps: int,
    workers: int = 1,
    study: str | None = None,
    storage: str | None = None,
    material: Material = NOTHING,
    registry: Registry | None = None,
) -> Found:
    """Adds `trials` trainings of `steps` steps to a study, by `workers` processes, and tells what it has found.

    The study, named as the model's spec unless `study` says, goes on where it is kept (`store_url`); the same command
    on other machines with the same store adds to it at the same time. With a registry each trial is logged as it
    ends. Raises `NotProven` when no trial ever went all the way, `UsageError` when the study was begun with other
    steps or data, `OutsideSystem` when the store does not answer.
    """
    spec = ModelSpec.read(model)
    home.mkdir(parents=True, exist_ok=True)
    told = Search(model, home, study or spec.name, store_url(home, storage), steps, material)
    opened = told.open()
    log = _Log(told, opened, registry) if registry else None
    tell = log.trials if log else _nobody
    if workers == 1:
        work(told, trials, tell=tell)
    else:
        _work_together(told, trials, workers, tell)
    tell()
    found = conclude(told, opened)
    return log.study(found) if log else found


def work(
    search: Search, trials: int, worker: int = 0, workers: int = 1, tell: Callable[[], None] | None = None
) -> None:
    """The share of one worker, number 0 to `workers` - 1, of a search; `tell` is called after each trial."""
    if workers > 1:
        torch.set_num_threads(max(1, thread_count() // workers))
    study = search.open(worker)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        folder = search.home / "runs" / f"{search.study}.tune" / f"trial-{trial.number}"
        return run_trial(trial, search.spec, search.steps, search.material, folder)

    callbacks = [lambda _study, _trial: tell()] if tell else []
    study.optimize(objective, n_trials=trials, callbacks=callbacks, catch=(NotProven,))


def _work_apart(search: Search, trials: int, worker: int, workers: int) -> None:
    """`work` in a process of its own: an error is one line there, too."""
    try:
        work(search, trials, worker, workers)
    except OcrOpsError as error:
        tqdm.write(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def _work_together(search: Search, trials: int, workers: int, tell: Callable[[], None]) -> None:
    """Shares the trials out to so many processes and waits for them; one that dies takes nobody along."""
    context = multiprocessing.get_context("spawn")
    shares = [trials // workers + (i < trials % workers) for i in range(workers)]
    processes = [
        context.Process(target=_work_apart, args=(search, share, i, workers)) for i, share in enumerate(shares) if share
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            for process in processes:
                process.join(timeout=1)
            tell()
    finally:
        for process in processes:
            process.terminate()
    lost = sum(process.exitcode != 0 for process in processes)
    if lost:
        text = (
            f"{search.study}: {lost} of {len(processes)} workers ended early; the next run takes their trials up again"
        )
        tqdm.write(text, file=sys.stderr)


def conclude(search: Search, study: optuna.Study) -> Found:
    """Writes down what has come of the study, every network's cost measured once more, side by side.

    The workers measured at other times, on a machine that did other things, or on another machine.
    """
    finished = complete(study)
    if not finished:
        raise NotProven(f"study {search.study}", "no trial went all the way", "one at least", "allow more trials")
    specs = {trial.number: propose(FixedTrial(trial.params), search.spec) for trial in finished}
    shapes = {
        number: canonical_json([s.model_dump()["input"], s.model_dump()["network"]]) for number, s in specs.items()
    }
    unlike = {shape: specs[number] for number, shape in shapes.items()}
    costs = dict(zip(unlike, cpu_ms(list(unlike.values())), strict=True))
    candidates = [Candidate(t.number, t.values[0], costs[shapes[t.number]], t.params) for t in finished]
    best = front(candidates)
    found = Found(tuple(best), counts(study), search.folder, None)
    trials = study.get_trials(deepcopy=False)
    picture = study_picture.draw(search.study, trials, candidates, best, importance(study))
    write_atomic(search.folder / "study.png", picture)
    rows = {"trials": dict(found.counts), "front": [one.row for one in best]}
    write_atomic(search.folder / "front.json", canonical_json(rows).encode())
    for one in best:
        named = specs[one.number].model_copy(update={"name": f"{search.spec.name}-trial-{one.number}"})
        write_atomic(search.folder / f"trial-{one.number}" / SPEC_FILE, spec_text(named).encode())
    return found


def _nobody() -> None:
    """Nobody is told."""


class _Log:
    """A study in MLflow, brought up to date trial by trial; that MLflow is away stops no search."""

    def __init__(self, search: Search, study: optuna.Study, registry: Registry) -> None:
        self.search, self.opened, self.registry = search, study, registry
        self.run = log_study(registry, search.study, search.spec.task, study.user_attrs.get("mlflow_run"))
        study.set_user_attr("mlflow_run", self.run)

    def trials(self) -> None:
        """Logs each trial that is over and that nobody logged yet, on whatever machine it ran."""
        over = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        known = self.opened.user_attrs
        for trial in self.opened.get_trials(deepcopy=False, states=over):
            mark = f"logged_{trial.number}"
            if mark not in known:
                self.opened.set_user_attr(mark, True)  # first, or another machine would log it too
                try:
                    self._trial(trial)
                except OutsideSystem as error:
                    tqdm.write(f"trial {trial.number} is not in MLflow: {error}", file=sys.stderr)

    def _trial(self, trial: optuna.trial.FrozenTrial) -> None:
        rungs = scores(trial)
        figures = {"cpu_ms": trial.user_attrs[COST]} if COST in trial.user_attrs else {}
        log_trial(
            self.registry,
            self.run,
            f"{self.search.study} trial {trial.number}",
            task=self.search.spec.task,
            params=trial.params,
            figures={**figures, **({"last_score": rungs[-1]} if rungs else {})},
            scores=list(enumerate(rungs, 1)),
            state=trial.state.name,
        )

    def study(self, found: Found) -> Found:
        """Logs what the study has found so far."""
        best = max(one.score for one in found.front)
        figures = {f"trials_{state}": float(count) for state, count in found.counts.items()}
        conclude_study(self.registry, self.run, {**figures, "best_score": best}, found.folder)
        return replace(found, run=self.run)
