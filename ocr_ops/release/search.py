"""Serving search: which variant with which settings serves most pages a second, within an SLO, a budget and accuracy.

A point is looked at cheaply first, in a process of its own, and given up when it cannot win; else the real service is
put under load. What did best is measured again, in turn, and the best of that once more on pages the search never saw,
beside the settings of today: only then is it called the winner.
"""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import optuna
from tqdm import tqdm

from ocr_ops.core.errors import BadInput, NotProven, UsageError
from ocr_ops.core.record import short, write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment
from ocr_ops.core.serving import settings_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.documents import load_documents
from ocr_ops.data.pages import PageSet
from ocr_ops.release import search_picture
from ocr_ops.release.choices import expectation, serving_space, settings_of, todays
from ocr_ops.release.findings import Findings, Seen
from ocr_ops.release.seek import DIRECTIONS, HOPELESS, looks, seek
from ocr_ops.release.space import Goal, Limits, Look, Outcome, Point, Space, ranked
from ocr_ops.release.trial import Budget, Rehearsal, Slo, Stage, rehearse
from ocr_ops.train.study import counts, open_study

FINALISTS = 3
"""Points that are measured again before one is chosen; today's settings beside them."""
SLACK = 1.25
"""A service may read so much faster than its rehearsal said, which other work on the machine had slowed down."""
WATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What every worker process of a search needs to know."""

    home: Path
    study: str
    url: str
    releases: Mapping[str, Release]
    """The variants by name, today's first."""
    pages: PageSet
    fresh: PageSet
    """Pages the search never sees."""
    slo: Slo
    budget: Budget
    seconds: float = 8.0
    """Of a step of the load."""
    max_accuracy_drop: float = 0.01
    """Word F1, absolute, that a winner may lose beside today's settings."""

    @property
    def space(self) -> Space:
        return serving_space(self.releases, self.budget.cores)

    @property
    def goal(self) -> Goal:
        today = todays(self.releases, self.budget.cores)
        return Goal(today, self.max_accuracy_drop, self.budget.memory_mb)

    @property
    def folder(self) -> Path:
        """Picture, figures and logs."""
        return self.home / "studies" / self.study

    def open(self) -> optuna.Study:
        """The study, as `open_study`: trials are comparable on the same pages, machine and promises alone."""
        terms = {
            "releases": {name: release.digest for name, release in self.releases.items()},
            "pages": self.pages.digest,
            "slo": self.slo.model_dump(),
            "budget": self.budget.model_dump(),
            "choices": {name: list(choices) for name, choices in self.space.choices.items()},
            "cpu": Environment.here().cpu,
        }
        return open_study(self.url, self.study, terms, self.study, DIRECTIONS)

    def stage(self, pages: PageSet, worker: int = 0, workers: int = 1) -> Stage:
        """Where one of this command's workers measures. `UsageError` when there are too few cores for all."""
        cores = sorted(os.sched_getaffinity(0))
        own = self.budget.cores
        if own * workers > len(cores):
            found = f"{workers} workers with {own} cores each"
            raise UsageError("search", found, f"{len(cores)} cores at most", "lower --workers or --budget-cpu")
        taken = cores[worker * own : (worker + 1) * own]
        others = cores[workers * own :] or cores
        documents = load_documents(Workspace(self.home), pages)
        logs = self.folder / f"worker-{worker}"
        return Stage(documents, self.slo, self.seconds, tuple(taken), tuple(others), logs)


def search(plan: Plan, *, trials: int, workers: int = 1, minutes: float | None = None, replicates: int = 2) -> Findings:
    """Adds up to `trials` trials to the plan's study, by `workers` processes on cores of their own, and concludes.

    The study goes on where it is kept. Raises `NotProven` when no point met SLO, budget and accuracy; `UsageError`
    when the study was begun under other terms, or with too few cores; `OutsideSystem` when its store is away.
    """
    began = time.monotonic()
    study = plan.open()
    plan.stage(plan.pages, workers - 1, workers)
    with tqdm(total=trials, desc="search", unit="trial", disable=None) as bar:
        if workers == 1:
            _work(plan, trials, minutes, bar=bar)
        else:
            _work_together(plan, study, trials, minutes, workers=workers, bar=bar)
    found = conclude(plan, study, replicates)
    found = found.model_copy(update={"seconds": time.monotonic() - began})
    found.save(plan.folder / "search.json")
    write_atomic(plan.folder / "study.png", search_picture.draw(found))
    return found


def adopt(found: Findings, plan: Plan) -> Path | None:
    """Keeps the winner's settings where services and packages of its release find them; none for today's own.

    `NotProven` when it did not win on fresh pages.
    """
    if not found.proven:
        gain = found.fresh_gain
        told = f"{gain:.2f} times today's throughput" if gain is not None else "no throughput at the SLO"
        raise NotProven(
            f"trial {found.winner.trial}", f"{told} on fresh pages", "a gain that lasts, within limits", "add trials"
        )
    path = settings_file(Workspace(plan.home), plan.releases[str(found.winner.point["variant"])].digest)
    if found.winner.point == found.today.point:
        path.unlink(missing_ok=True)
        return None
    return settings_of(found.winner.point).save(path)


def conclude(plan: Plan, study: optuna.Study, replicates: int) -> Findings:
    """Measures the best few again, in turn, and the best of them on fresh pages beside today's settings."""
    known = looks(study)
    limits = plan.goal.limits(known)
    best = ranked(known, limits)
    if not best:
        expected = f"p95 {plan.slo.p95_ms:.0f} ms, failed {plan.slo.failed_share:g}, {limits}"
        raise NotProven(f"study {study.study_name}", f"none of {len(known)} points met it", expected, "add trials")
    today = next((look for look in known if look.point == plan.goal.today), None)
    if today is None:
        raise NotProven("today's settings", "not measured", "a server that starts", f"see {plan.folder}")
    finalists = [*best[:FINALISTS], *([today] if today not in best[:FINALISTS] else [])]
    repeated = _measured(plan, study, finalists, kind="repeated", pages=plan.pages, rounds=replicates)
    scores = {look.number: median(_throughputs(repeated[look.number])) for look in finalists}
    winner = max((look for look in finalists if look in best), key=lambda look: scores[look.number])
    rivals = [winner] if winner is today else [winner, today]
    fresh = _measured(plan, study, rivals, kind="fresh", pages=plan.fresh, rounds=replicates)
    reasons = [trial.user_attrs[HOPELESS] for trial in study.get_trials(deepcopy=False) if HOPELESS in trial.user_attrs]
    return Findings(
        study=plan.study,
        releases={name: release.digest for name, release in plan.releases.items()},
        pages=plan.pages.digest,
        fresh_pages=plan.fresh.digest,
        slo=plan.slo,
        budget=plan.budget,
        choices=dict(plan.space.choices),
        trials=counts(study),
        given_up=dict(Counter(reason.partition(":")[0] for reason in reasons)),
        seconds=0.0,
        looks=tuple(Seen.of(look) for look in known),
        today=Seen.of(today),
        winner=Seen.of(winner),
        repeated={str(number): _throughputs(outcomes) for number, outcomes in repeated.items()},
        fresh=fresh[winner.number],
        fresh_today=fresh[today.number],
        max_accuracy_drop=plan.max_accuracy_drop,
    )


def _measured(
    plan: Plan, study: optuna.Study, rivals: Sequence[Look], *, kind: str, pages: PageSet, rounds: int
) -> dict[int, tuple[Outcome, ...]]:
    """Outcomes of rivals measured round by round, each in turn; the study keeps them, and none is measured twice."""
    stage = plan.stage(pages)
    alone = _Rehearsals(plan, study, pages)
    kept = {
        look.number: [Outcome.model_validate(one) for one in study.user_attrs.get(f"{kind} {look.number}", [])]
        for look in rivals
    }
    missing = [(number, look) for number in range(rounds) for look in rivals if len(kept[look.number]) <= number]
    for _, look in tqdm(missing, desc=f"measure again, {kind}", unit="service", disable=None):
        accuracy = alone.of(look.point).accuracy
        outcome = stage.measure(plan.releases[str(look.point["variant"])], settings_of(look.point), accuracy)
        kept[look.number].append(outcome)
        study.set_user_attr(f"{kind} {look.number}", [one.model_dump() for one in kept[look.number]])
    return {number: tuple(outcomes[:rounds]) for number, outcomes in kept.items()}


@dataclass(frozen=True, slots=True)
class _Rehearsals:
    """What reading alone tells of a point; the study keeps one for all that read alike."""

    plan: Plan
    study: optuna.Study
    pages: PageSet

    def of(self, point: Point) -> Rehearsal:
        kept = self.study.user_attrs.get(self._key(point))
        if kept:
            return Rehearsal(**kept)
        settings = settings_of({name: point[name] for name in ("max_side", "buckets")})
        settings = settings.model_copy(update={"threads": 1})
        made = rehearse(self.plan.releases[str(point["variant"])], settings, self.pages)
        self.study.set_user_attr(self._key(point), asdict(made))
        return made

    def hopeless(self, point: Point, known: Sequence[Look], limits: Limits) -> str | None:
        """Why a point cannot win, as far as reading alone tells; None when it may."""
        return self._crowded(point) or self._outdone(point, self.of(point), _most(known, limits), limits)

    def hopeful(self, points: Sequence[Point], known: Sequence[Look], limits: Limits) -> list[Point]:
        """Those that may win, as far as others that read alike have told."""
        kept, most = self.study.user_attrs, _most(known, limits)  # from the store: once

        def may_win(point: Point) -> bool:
            told = kept.get(self._key(point))
            return not (self._crowded(point) or (told and self._outdone(point, Rehearsal(**told), most, limits)))

        return [point for point in points if may_win(point)]

    def _key(self, point: Point) -> str:
        return f"rehearsal {short(self.pages.digest)} {point['variant']} {point['max_side']} {point['buckets']}"

    def _crowded(self, point: Point) -> str | None:
        threads, cores = int(point["threads"]) * int(point["workers"]), self.plan.budget.cores
        return f"threads: {threads} for {cores} cores" if threads > 2 * cores else None

    def _outdone(self, point: Point, alone: Rehearsal, most: float, limits: Limits) -> str | None:
        budget, slo = self.plan.budget, self.plan.slo
        if alone.accuracy < limits.min_accuracy:
            return f"accuracy: {alone.accuracy:.4f}"
        if limits.max_memory_mb is not None and alone.memory_mb > limits.max_memory_mb:
            return f"memory: {alone.memory_mb:.0f} MB before any worker is added"
        if alone.slowest_ms / (int(point["threads"]) * SLACK) > slo.p95_ms:
            return f"latency: a page alone takes {alone.slowest_ms:.0f} ms"
        reach = SLACK * budget.cores * 1000 / alone.cpu_ms
        return f"throughput: {reach:.2f} pages a second at most" if reach < most else None


def _most(known: Sequence[Look], limits: Limits) -> float:
    """Pages a second of the best that may win; 0 without any."""
    best = ranked(known, limits)
    return best[0].outcome.throughput if best else 0.0


def _work(
    plan: Plan, trials: int, minutes: float | None, worker: int = 0, workers: int = 1, *, bar: Any = None
) -> None:
    """The share of one worker, number 0 to `workers` - 1."""
    study = plan.open()
    stage = plan.stage(plan.pages, worker, workers)
    rehearsals = _Rehearsals(plan, study, plan.pages)

    def look(point: Point) -> Outcome:
        accuracy = rehearsals.of(point).accuracy
        return stage.measure(plan.releases[str(point["variant"])], settings_of(point), accuracy)

    def screen(point: Point, known: list[Look], limits: Limits) -> str | None:
        return rehearsals.hopeless(point, known, limits) if point != plan.goal.today else None

    seek(
        study,
        plan.space,
        plan.goal,
        look,
        trials=trials,
        seed=worker,
        screen=screen,
        hopeful=rehearsals.hopeful,
        expect=expectation(plan.goal.today, plan.budget.cores),
        minutes=minutes,
        tell=bar.update if bar is not None else None,
    )


def _work_together(
    plan: Plan, study: optuna.Study, trials: int, minutes: float | None, *, workers: int, bar: Any
) -> None:
    """Shares the trials out to so many processes, each on cores of its own, and waits for them."""
    before = len(study.get_trials(deepcopy=False))
    shares = [trials // workers + (i < trials % workers) for i in range(workers)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        works = [pool.submit(_work, plan, share, minutes, i, workers) for i, share in enumerate(shares) if share]
        while not all(work.done() for work in works):
            time.sleep(WATCH_SECONDS)
            bar.update(len(study.get_trials(deepcopy=False)) - before - bar.n)
        for work in works:
            work.result()


def default_cores() -> int:
    """Half of the cores here, at least one: what makes the load needs some, too."""
    return max(1, len(os.sched_getaffinity(0)) // 2)


def split(pages: PageSet) -> tuple[PageSet, PageSet]:
    """Every other page to search on, the others fresh. `BadInput` with fewer than two."""
    if len(pages.pages) < 2:
        raise BadInput(pages.folder, "one page", "two at least", "search needs pages it has not seen before")
    return replace(pages, pages=pages.pages[::2], places=()), replace(pages, pages=pages.pages[1::2], places=())


def _throughputs(outcomes: Sequence[Outcome]) -> tuple[float, ...]:
    return tuple(outcome.throughput for outcome in outcomes)
