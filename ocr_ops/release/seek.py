"""The optimiser of a serving search: Optuna keeps the trials, a surrogate proposes them, and the hopeless end early."""

import math
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from ocr_ops.core.errors import NotProven, ServerDied
from ocr_ops.release.space import Choice, Goal, Limits, Look, Outcome, Point, Space, ranked
from ocr_ops.release.surrogate import believe
from ocr_ops.train.study import Direction

DIRECTIONS: tuple[Direction, ...] = ("maximize", "maximize", "minimize")
"""Of a trial's values: accuracy, throughput at the SLO, memory."""
FIGURES, HOPELESS = "figures", "hopeless"
"""What trials note of themselves: figures for people, and why they were given up."""
SPREAD = 3
"""Looks, today's settings first, that are spread over the space before the surrogate is asked."""
OPEN = 6
"""Each so many'th trial, once there are twice as many, is TPE's: it looks for the whole front, the surrogate for the
winner alone."""
CANDIDATES = 4096
"""Points the surrogate is asked about; of a larger space, so many at random."""


def seek(
    study: optuna.Study,
    space: Space,
    goal: Goal,
    look: Callable[[Point], Outcome],
    *,
    trials: int,
    seed: int = 0,
    screen: Callable[[Point, list[Look], Limits], str | None] | None = None,
    hopeful: Callable[[Sequence[Point], list[Look], Limits], list[Point]] | None = None,
    expect: Callable[[Point], float] | None = None,
    minutes: float | None = None,
    tell: Callable[[], None] | None = None,
) -> list[Look]:
    """Adds up to `trials` trials to a study of `DIRECTIONS`, for so many `minutes` at most; all it has measured so far.

    `look` measures a point. `screen` says from cheaper evidence, given what was measured and the limits, why a point
    cannot win, which ends its trial; None lets it be measured. `hopeful` are those of some points that may win, as far
    as is known already: no others are proposed, and the search ends when there are none. `expect` is what is known of
    throughput before anything is measured, its logarithm up to a constant. A point whose service fails counts as looked
    at, and does not end the search. `tell` is called after each trial.
    """
    space.require(goal.today)
    sampler = study.sampler = _Sampler(space, goal, expect or _indifferent, hopeful or _any, seed)

    def objective(trial: optuna.Trial) -> tuple[float, float, float]:
        for name, choices in space.choices.items():
            trial.suggest_categorical(name, choices)
        point: Point = trial.params
        if screen:
            known = looks(study)
            reason = screen(point, known, goal.limits(known))
            if reason:
                trial.set_user_attr(HOPELESS, reason)
                raise optuna.TrialPruned
        outcome = look(point)
        trial.set_user_attr(FIGURES, outcome.figures)
        return outcome.accuracy, outcome.throughput, outcome.memory_mb

    def after(_study: optuna.Study, _trial: FrozenTrial) -> None:
        if tell:
            tell()
        if not sampler.left(study, np.random.default_rng(seed)):
            study.stop()

    left = min(trials, space.size - len(_points(study, space)))
    if left > 0:
        timeout = minutes * 60 if minutes else None
        study.optimize(
            objective,
            n_trials=left,
            timeout=timeout,
            callbacks=[after],
            catch=(ServerDied, NotProven),
            gc_after_trial=False,
        )
    return looks(study)


def looks(study: optuna.Study) -> list[Look]:
    """Every point of a study that was measured, by its trial's number."""
    return [
        Look(
            trial.params,
            Outcome(
                accuracy=trial.values[0],
                throughput=trial.values[1],
                memory_mb=trial.values[2],
                figures=trial.user_attrs.get(FIGURES, {}),
            ),
            trial.number,
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]


class _Sampler(optuna.samplers.BaseSampler):
    """Today's settings, a few points far apart, then where the surrogate expects the most throughput within limits."""

    def __init__(
        self,
        space: Space,
        goal: Goal,
        expect: Callable[[Point], float],
        hopeful: Callable[[Sequence[Point], list[Look], Limits], list[Point]],
        seed: int,
    ) -> None:
        self.space, self.goal, self.expect, self.hopeful, self.seed = space, goal, expect, hopeful, seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.tpe = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True)
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(choices) for name, choices in space.choices.items()
        }

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial  # a grid is the same for every trial
        return self.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        taken = _points(study, self.space)
        if not any(_same(point, self.goal.today) for point in taken):
            return dict(self.goal.today)
        # Workers of one study draw unlike numbers, the same worker at the same trial the same ones.
        rng = np.random.default_rng(zlib.crc32(f"{self.seed} {trial.number}".encode()))
        left = self.left(study, rng) or [self.goal.today]  # where another worker has just taken the last one
        known = looks(study)
        if len(taken) < SPREAD or not known:
            return dict(self._farthest(left, taken, rng))
        if trial.number >= 2 * OPEN and trial.number % OPEN == OPEN - 1:
            proposed = self.tpe.sample_relative(study, trial, search_space)
            if any(_same(proposed, point) for point in left):
                return proposed
        return dict(self._promising(left, known, rng))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.tpe.sample_independent(study, trial, param_name, param_distribution)

    def left(self, study: optuna.Study, rng: np.random.Generator) -> list[Point]:
        """Points nobody has looked at that may win, of at most `CANDIDATES`, in random order."""
        names = list(self.space.choices)
        taken = {tuple(point[name] for name in names) for point in _points(study, self.space)}
        if self.space.size <= CANDIDATES:
            points = [point for point in self.space.points() if tuple(point.values()) not in taken]
        else:
            drawn = (
                {name: choices[rng.integers(len(choices))] for name, choices in self.space.choices.items()}
                for _ in range(CANDIDATES)
            )
            unlike = {tuple(point.values()): point for point in drawn}
            points = [point for key, point in unlike.items() if key not in taken]
        known = looks(study)
        points = self.hopeful(points, known, self.goal.limits(known))
        return [points[i] for i in rng.permutation(len(points))]

    def _farthest(self, left: list[Point], taken: list[Point], rng: np.random.Generator) -> Point:
        """Of the points the one least like any that was looked at."""
        ordered = [column.ordered for column in self.space.columns]
        here, there = self.space.places(left), self.space.places(taken)
        apart = np.abs(here[:, None, :] - there[None, :, :])
        distance = np.where(ordered, apart, apart > 0).sum(axis=2).min(axis=1)
        return left[int(np.argmax(distance + 0.5 * rng.random(len(left))))]

    def _promising(self, left: list[Point], known: list[Look], rng: np.random.Generator) -> Point:
        """Of the points the one where throughput within limits is expected to improve most (Gardner et al., 2014)."""
        limits = self.goal.limits(known)
        ordered = [column.ordered for column in self.space.columns]
        here, there = self.space.places(left), self.space.places(look.point for look in known)
        outcomes = [look.outcome for look in known]
        least = min((o.throughput for o in outcomes if o.throughput > 0), default=1.0)
        beyond = [math.log(max(look.outcome.throughput, least / 4)) - self.expect(look.point) for look in known]
        speed = believe(there, beyond, here, ordered).raised([self.expect(point) for point in left])
        # Errors, like costs, multiply: half the size may double them, wherever they were.
        accuracy = believe(there, [_rightness(o.accuracy) for o in outcomes], here, ordered)
        best = ranked(known, limits)
        worth = accuracy.above(_rightness(limits.min_accuracy))
        if limits.max_memory_mb is not None:
            memory = believe(there, [math.log(o.memory_mb) for o in outcomes], here, ordered)
            worth = worth * memory.below(math.log(limits.max_memory_mb))
        if best:
            worth = worth * speed.gain(math.log(best[0].outcome.throughput))
        return left[int(np.argmax(worth * (1 + 1e-6 * rng.random(len(left)))))]


def _points(study: optuna.Study, space: Space) -> list[Point]:
    """What was looked at or is being looked at; a trial that is still being proposed, or queued again, is not."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial.params for trial in trials if trial.params.keys() == space.choices.keys()]


def _rightness(accuracy: float) -> float:
    """An accuracy on the scale of its error's logarithm, larger for better."""
    return -math.log(max(1 - accuracy, 1e-3))


def _indifferent(_: Point) -> float:
    return 0.0


def _any(points: Sequence[Point], _known: list[Look], _limits: Limits) -> list[Point]:
    return list(points)


def _same(left: Mapping[str, Choice], right: Mapping[str, Choice]) -> bool:
    return dict(left) == dict(right)
