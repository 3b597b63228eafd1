"""The parts of a serving search that need no server: the ramp, the optimiser, the finish, and what is kept of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import cv2
import numpy as np
import optuna
import pytest

from ocr_ops.core.errors import NotProven, ServerDied, UsageError
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings, settings_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.release.choices import expectation, serving_space, settings_of, todays
from ocr_ops.release.gate import Sample
from ocr_ops.release.search import Plan, adopt, search, split
from ocr_ops.release.seek import DIRECTIONS, HOPELESS, seek
from ocr_ops.release.space import Goal, Limits, Look, Outcome, Point, Space, front, ranked
from ocr_ops.release.trial import Budget, Rehearsal, Slo, Stage, Step, ramp, read_all
from tests.tiny import build_release, draw

GRID = Path(__file__).with_name("grid.json")
SHARE_OF_GRID, SHARE_OF_OPTIMUM, SEEDS = 0.1, 0.95, 30


def _outcome(throughput: float, accuracy: float = 0.9, memory: float = 500.0) -> Outcome:
    return Outcome(accuracy=accuracy, throughput=throughput, memory_mb=memory)


def _study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=DIRECTIONS)


def _step(users: int, rate: float, p95: float | None = 100.0, failed: float = 0.0, answers: int = 50) -> Step:
    return Step(users, rate, p95, failed, answers, answers)


# The ramp


def _server(capacity: float, alone_ms: float) -> Callable[[int], Step]:
    """Closed-loop users on a server that reads `capacity` pages a second, and one page alone in `alone_ms`."""

    def step(users: int) -> Step:
        rate = min(users * 1000 / alone_ms, capacity)
        return _step(users, rate, p95=users * 1000 / rate)

    return step


def test_the_ramp_finds_the_most_the_slo_allows() -> None:
    """Users double until the service is full or too slow; what counts is the step before."""
    best, taken = ramp(_server(capacity=10, alone_ms=400), Slo(p95_ms=2000), first=1)
    assert best is not None
    assert best.pages_per_second == 10
    assert [step.users for step in taken] == [1, 2, 4, 8]
    best, _ = ramp(_server(capacity=10, alone_ms=400), Slo(p95_ms=399), first=1)
    assert best is None


def test_the_ramp_comes_down_when_it_starts_too_high() -> None:
    best, taken = ramp(_server(capacity=2, alone_ms=500), Slo(p95_ms=1200), first=4)
    assert best is not None
    assert [step.users for step in taken] == [4, 2]
    assert best.users == 2


@pytest.mark.parametrize(
    "step",
    [_step(1, 9.0, p95=2001.0), _step(1, 9.0, failed=0.01), _step(1, 9.0, answers=7), _step(1, 0.0, p95=None)],
    ids=["slow", "failing", "hardly measured", "silent"],
)
def test_an_slo_is_not_met_without_evidence(step: Step) -> None:
    assert not step.meets(Slo(p95_ms=2000))


def test_a_step_is_judged_from_raw_samples() -> None:
    """Pages of answered requests, over the time from the first request to the last answer."""
    one = Sample(start=0, ms=500, status=200, bytes=1, document="a", pages=2, lines=1, error=None)
    samples = [one.model_copy(update={"start": i * 0.5}) for i in range(20)]
    samples.append(one.model_copy(update={"start": 3.0, "status": 503, "pages": 0, "error": "busy"}))
    step = Step.of(2, samples)
    assert step.pages_per_second == pytest.approx(4.0)
    assert step.failed_share == pytest.approx(1 / 21)
    assert Step.of(2, []).failed_share == 1.0


def test_an_slo_is_read_from_the_command_line() -> None:
    assert Slo.parse("p95_ms=1500, failed_share=0.01") == Slo(p95_ms=1500, failed_share=0.01)
    for wrong in ("p99=3", "p95_ms=-1", "fast"):
        with pytest.raises(UsageError, match="--slo"):
            Slo.parse(wrong)


# What may win


def test_the_winner_is_fast_enough_and_loses_no_accuracy() -> None:
    looks = [
        Look({"x": 0}, _outcome(5.0, accuracy=0.90), 0),
        Look({"x": 1}, _outcome(9.0, accuracy=0.80), 1),
        Look({"x": 2}, _outcome(7.0, accuracy=0.895, memory=900), 2),
        Look({"x": 3}, _outcome(6.0, accuracy=0.895, memory=400), 3),
        Look({"x": 4}, _outcome(0.0, accuracy=0.99), 4),
    ]
    limits = Goal({"x": 0}, max_accuracy_drop=0.01, max_memory_mb=600).limits(looks)
    assert [look.number for look in ranked(looks, limits)] == [3, 0]
    assert [look.number for look in front(looks)] == [1, 2, 3, 0]


# The optimiser


def _table() -> tuple[Space, dict[tuple[Any, ...], Outcome], Point, dict[str, Any]]:
    """The grid that was measured once, cell by cell: medians over its rounds, on a core of one's own."""
    recorded = json.loads(GRID.read_text(encoding="utf-8"))
    space = Space({name: tuple(choices) for name, choices in recorded["choices"].items()})
    cells = {}
    for index, point in enumerate(space.points()):
        figures = {
            name: median(done[name][index] for done in recorded["rounds"])
            for name in ("accuracy", "cpu_ms", "memory_mb")
        }
        throughput = 1000 / figures["cpu_ms"]
        cells[tuple(point.values())] = _outcome(throughput, figures["accuracy"], figures["memory_mb"])
    today = {"variant": "int8 int8", "threads": 1, "max_batch_size": 32, "max_side": 1280, "buckets": "model"}
    return space, cells, today, recorded


def _shares(starts: list[Point], expect: Callable[[Point], float]) -> list[float]:
    """What a search reaches of the brute-force optimum with a tenth of the recorded grid, from each start."""
    space, cells, _, _ = _table()
    looks = [Look(point, outcome) for point, outcome in zip(space.points(), cells.values(), strict=True)]
    trials = int(SHARE_OF_GRID * space.size)
    shares = []
    for seed, today in enumerate(starts):
        goal = Goal(today)
        limits = goal.limits(looks)
        best = ranked(looks, limits)[0].outcome.throughput
        measure = partial(_recorded, cells)
        found = seek(_study(), space, goal, measure, trials=trials, seed=seed, expect=expect)
        assert len(found) == trials
        shares.append(ranked(found, limits)[0].outcome.throughput / best)
    return shares


def _recorded(cells: dict[tuple[Any, ...], Outcome], point: Point) -> Outcome:
    return cells[tuple(point.values())]


def test_a_tenth_of_a_measured_grid_finds_its_optimum() -> None:
    """From today's settings at least 95 % of what brute force finds, with 10 % of the cells, whatever the seed."""
    space, cells, today, _ = _table()
    assert space.size == len(cells) >= 96
    assert min(_shares([today] * SEEDS, expectation(today, 1))) >= SHARE_OF_OPTIMUM


def test_a_tenth_is_enough_from_anywhere_on_average() -> None:
    """From settings drawn at random, most of them far off: 95 % on average, and from most starts."""
    space, _, today, _ = _table()
    points = list(space.points())
    starts = [points[i] for i in np.random.default_rng(0).integers(len(points), size=SEEDS)]
    shares = _shares(starts, expectation(today, 1))
    reached = fmean(share >= SHARE_OF_OPTIMUM for share in shares)
    told = f"{reached:.0%} of {SEEDS} starts reach 95 %; mean {fmean(shares):.4f}, least {min(shares):.4f}"
    assert fmean(shares) >= SHARE_OF_OPTIMUM, told
    assert reached >= 0.75, told


def _made_up(rng: np.random.Generator) -> tuple[Space, dict[tuple[Any, ...], Outcome], Point]:
    """Costs as they are known to behave: pages by area, cores with friction, fuller batches, and some noise."""
    space = Space(
        {
            "variant": ("fp32", "mixed", "int8"),
            "threads": (1, 2, 4),
            "workers": (1, 2),
            "max_batch_size": (8, 32, 64),
            "max_side": (640, 960, 1280, 1600),
        }
    )
    area, fixed, friction = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.9), rng.uniform(-0.2, 0.2)
    accuracy = dict(zip(space.choices["max_side"], (0.76, 0.86, 0.885, 0.887), strict=True))
    speed, loss = {"fp32": 1.0, "mixed": 1.45, "int8": 1.9}, {"fp32": 0.0, "mixed": 0.003, "int8": 0.006}
    cells = {}
    for point in space.points():
        used = int(point["threads"]) * int(point["workers"])
        cost = (fixed + area * (int(point["max_side"]) / 960) ** 2) / speed[str(point["variant"])]
        cost *= {8: 1.12, 32: 1.0, 64: 1.03}[int(point["max_batch_size"])] * int(point["threads"]) ** friction
        gain = min(used, 4) ** 0.85 / (1 + 0.12 * max(0, used - 4))
        memory = 150 + int(point["workers"]) * (90 + int(point["max_side"]) / 10 + int(point["max_batch_size"]))
        exact = gain / cost * np.exp(rng.normal(0, 0.02))
        cells[tuple(point.values())] = _outcome(
            exact, accuracy[point["max_side"]] - loss[str(point["variant"])], memory
        )
    today = {"variant": "fp32", "threads": 1, "workers": 1, "max_batch_size": 32, "max_side": 1280}
    return space, cells, today


def test_interactions_and_a_memory_budget_do_not_mislead_it() -> None:
    """On made-up grids, where today's settings are far from the best and the fastest need too much memory."""
    shares = []
    for seed in range(6):
        space, cells, today = _made_up(np.random.default_rng(seed))
        goal = Goal(today, max_memory_mb=560)
        limits = goal.limits([Look(today, cells[tuple(today.values())])])
        best = ranked((Look(point, cells[tuple(point.values())]) for point in space.points()), limits)[0]
        found = seek(_study(), space, goal, partial(_recorded, cells), trials=21, seed=seed)
        shares.append(ranked(found, limits)[0].outcome.throughput / best.outcome.throughput)
    assert fmean(share >= SHARE_OF_OPTIMUM for share in shares) >= 0.8
    assert fmean(shares) >= SHARE_OF_OPTIMUM


SMALL = Space({"variant": ("a", "b"), "threads": (1, 2, 4)})
TODAY: Point = {"variant": "a", "threads": 1}


def _speed(point: Point) -> Outcome:
    return _outcome(float(point["threads"]) * (2 if point["variant"] == "b" else 1))


def test_it_begins_with_todays_settings_and_looks_at_nothing_twice() -> None:
    asked: list[Point] = []
    found = seek(_study(), SMALL, Goal(TODAY), lambda point: asked.append(dict(point)) or _speed(point), trials=50)
    assert found[0].point == TODAY
    assert len(asked) == SMALL.size == len({tuple(point.values()) for point in asked})


def test_the_hopeless_are_not_measured_and_the_broken_end_nothing() -> None:
    """A service that dies is a point lost, no search; and each that was given up tells why."""
    study = _study()

    def look(point: Point) -> Outcome:
        if point["threads"] == 2:
            raise ServerDied("bentoml serve", "ended", "a server", "see its log")
        return _speed(point)

    found = seek(
        study,
        SMALL,
        Goal(TODAY),
        look,
        trials=6,
        screen=lambda point, *_: "variant: worse" if point == {"variant": "b", "threads": 1} else None,
    )
    assert sorted(str(look.point["threads"]) for look in found) == ["1", "4", "4"]
    states = [trial.state.name for trial in study.get_trials()]
    assert (states.count("FAIL"), states.count("PRUNED")) == (2, 1)
    assert [trial.user_attrs[HOPELESS] for trial in study.get_trials() if HOPELESS in trial.user_attrs] == [
        "variant: worse"
    ]


def test_what_is_known_to_be_hopeless_is_not_proposed() -> None:
    """One of a kind tells of the others; and when nothing may win any more, it is over."""
    study, told = _study(), set[object]()

    def screen(point: Point, _known: list[Look], _limits: Limits) -> str | None:
        if point["variant"] == "a":
            return None
        told.add(point["variant"])
        return "variant: worse"

    def hopeful(points: Sequence[Point], _known: list[Look], _limits: Limits) -> list[Point]:
        return [point for point in points if point["variant"] not in told]

    found = seek(study, SMALL, Goal(TODAY), _speed, trials=50, screen=screen, hopeful=hopeful)
    assert {look.point["variant"] for look in found} == {"a"}
    assert len(found) == len(SMALL.choices["threads"])
    assert [trial.state.name for trial in study.get_trials()].count("PRUNED") == len(SMALL.choices["variant"]) - 1


def test_names_that_share_a_part_are_alike() -> None:
    """What all of them have is no setting; words that do not part alike stay whole."""
    space = Space({"variant": ("a fp32 + b fp32", "a fp32 + b int8", "a int8 + b int8"), "side": (1, 2, 4)})
    assert [(column.name, column.ordered) for column in space.columns] == [
        ("variant", False),
        ("variant", False),
        ("side", True),
    ]
    assert space.places([{"variant": "a fp32 + b int8", "side": 2}]).tolist() == [[0, 1, 0.5]]
    assert len(Space({"buckets": ("model", "64 128")}).columns) == 1


def test_todays_settings_must_be_among_the_choices() -> None:
    with pytest.raises(UsageError, match="threads: 3"):
        seek(_study(), SMALL, Goal({"variant": "a", "threads": 3}), _speed, trials=1)


# The whole search, with services that are not really served


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two variants of the release that reads bars, one of them its copy under another name."""
    home = tmp_path / "home"
    release = build_release(home / "releases" / "bars")
    pages = _pages(tmp_path / "pages", [["abc ab"], ["cab"], ["ba ac"], ["cc b"]])
    kept, fresh = split(pages)
    return Plan(
        home=home,
        study="bars",
        url=f"sqlite:///{tmp_path / 'study.db'}",
        releases={"one": release},
        pages=kept,
        fresh=fresh,
        slo=Slo(p95_ms=60_000),
        budget=Budget(cores=1),
    )


def _pages(folder: Path, texts: list[list[str]]) -> PageSet:
    folder.mkdir()
    labelled = []
    for number, lines in enumerate(texts):
        image = draw(lines)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        corners = ((0.0, 0.0), (640.0, 0.0), (640.0, 480.0), (0.0, 480.0))
        labelled.append(LabelledPage(image=f"{number}.png", regions=(Region(polygon=corners, text=" ".join(lines)),)))
    return write_index(folder, tuple(labelled))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, ServingSettings]]:
    """Services that would be as fast as their batches are large; what was asked of them, in order."""
    asked: list[tuple[Path, ServingSettings]] = []

    def measure(self: Stage, release: Release, settings: ServingSettings, accuracy: float) -> Outcome:
        asked.append((self.documents, settings))
        return _outcome(settings.max_batch_size**0.5, accuracy, memory=100.0 * settings.recognition_workers)

    monkeypatch.setattr(Stage, "measure", measure)
    reader = lambda release, settings, pages: replace(read_all(release, settings, pages), cpu_ms=1.0)  # noqa: E731
    monkeypatch.setattr("ocr_ops.release.search.rehearse", reader)
    return asked


def test_a_search_ends_with_settings_that_won_on_fresh_pages(
    plan: Plan, served: list[tuple[Path, ServingSettings]]
) -> None:
    found = search(plan, trials=24, replicates=2)
    assert found.winner.point["max_batch_size"] == 64
    assert found.searched_gain == pytest.approx(2**0.5)
    assert found.fresh_gain == pytest.approx(2**0.5)
    assert found.optimism == pytest.approx(0)
    assert found.proven
    # Fresh pages were read by the winner and by today's settings alone, round by round.
    searched, fresh = served[0][0], served[-1][0]
    assert searched != fresh
    last = [settings.max_batch_size for documents, settings in served if documents == fresh]
    assert last == [64, 32, 64, 32]
    path = adopt(found, plan)
    assert path == settings_file(Workspace(plan.home), plan.releases["one"].digest)
    assert ServingSettings.read(Workspace(plan.home), plan.releases["one"].digest).max_batch_size == 64
    assert (plan.folder / "study.png").read_bytes()[:4] == b"\x89PNG"
    assert type(found).from_file(plan.folder / "search.json") == found


def test_a_search_reads_badly_once_a_kind(
    plan: Plan, served: list[tuple[Path, ServingSettings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What loses accuracy alone is not proposed again with other workers, batches and waits."""

    def reader(release: Release, settings: ServingSettings, pages: PageSet) -> Rehearsal:
        read = replace(read_all(release, settings, pages), cpu_ms=1.0)
        return read if settings.max_side == plan.goal.today["max_side"] else replace(read, accuracy=0.0)

    monkeypatch.setattr("ocr_ops.release.search.rehearse", reader)
    found = search(plan, trials=40, replicates=1)
    kinds = len(found.choices["buckets"]) * (len(found.choices["max_side"]) - 1)
    assert 0 < found.given_up["accuracy"] <= kinds
    assert len(found.looks) > found.given_up["accuracy"]
    assert served


def test_a_search_goes_on_where_it_stands(plan: Plan, served: list[tuple[Path, ServingSettings]]) -> None:
    """Trials add up, and what was measured again is not measured a third time."""
    first = search(plan, trials=5, replicates=1)
    before = len(served)
    again = search(plan, trials=1, replicates=1)
    assert sum(again.trials.values()) == sum(first.trials.values()) + 1
    assert len(served) - before <= 1 + 2 + 1
    with pytest.raises(UsageError, match="begun with"):
        search(replace(plan, slo=Slo(p95_ms=1)), trials=1)


def test_a_gain_that_does_not_last_is_not_kept(
    plan: Plan, served: list[tuple[Path, ServingSettings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lucky trial: on fresh pages the winner is slower than today's settings."""
    lucky = Stage.measure

    def measure(self: Stage, release: Release, settings: ServingSettings, accuracy: float) -> Outcome:
        outcome = lucky(self, release, settings, accuracy)
        fresh = bool(served) and self.documents != served[0][0]
        worse = fresh and settings.max_batch_size != 32
        return outcome.model_copy(update={"throughput": outcome.throughput / 4}) if worse else outcome

    monkeypatch.setattr(Stage, "measure", measure)
    found = search(plan, trials=12, replicates=1)
    assert not found.proven
    assert found.optimism is not None
    assert found.optimism > 0.5
    with pytest.raises(NotProven, match="on fresh pages"):
        adopt(found, plan)
    assert not settings_file(Workspace(plan.home), plan.releases["one"].digest).exists()


def test_nothing_within_the_slo_is_no_winner(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stage, "measure", lambda *_: _outcome(0.0))
    monkeypatch.setattr("ocr_ops.release.search.rehearse", lambda *_: Rehearsal(0.9, 1.0, 1.0, 100.0))
    with pytest.raises(NotProven, match="none of 2 points met it"):
        search(plan, trials=2)


def test_more_workers_than_cores_are_refused(plan: Plan) -> None:
    with pytest.raises(UsageError, match="lower --workers or --budget-cpu"):
        search(plan, trials=1, workers=4096)


# What a point means


def test_a_point_is_settings_that_fit_the_release(tiny_release: Release) -> None:
    for cores in (1, 3, 12, 64):
        serving_space({"one": tiny_release}, cores).require(todays({"one": tiny_release}, cores))
    space = serving_space({"one": tiny_release}, cores=2)
    space.require(todays({"one": tiny_release}, 2))
    for point in space.points():
        settings_of(point).tuned(tiny_release)
    today = settings_of(todays({"one": tiny_release}, 2)).tuned(tiny_release)
    assert today.detection.digest == tiny_release.detection.digest


def test_reading_alone_tells_accuracy_and_cost(tiny_release: Release, tmp_path: Path) -> None:
    pages = _pages(tmp_path / "pages", [["abc ab"], ["cab"]])
    seen = read_all(tiny_release, ServingSettings(threads=1), pages)
    assert seen.accuracy == 1.0
    assert seen.cpu_ms > 0
    assert seen.memory_mb > 10


def test_limits_are_met_by_what_they_allow() -> None:
    limits = Limits(min_accuracy=0.9, max_memory_mb=500)
    assert limits.met_by(_outcome(1.0))
    assert not limits.met_by(_outcome(1.0, accuracy=0.89))
    assert not limits.met_by(_outcome(1.0, memory=501))
