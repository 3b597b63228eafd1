"""Where the cells of a run stand: how accurate, how dear, who is on the front, who leads, and against whom."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ocr_ops.bench.run import Result, Run
from ocr_ops.bench.stats import LEVEL, Interval, paired_difference, paired_ratio
from ocr_ops.core.errors import NotProven
from ocr_ops.core.verdict import Check, Verdict, worst

Measure = Literal["word_f1", "hmean", "cer"]
Cost = Literal["cpu_ms", "wall_ms"]

DRAWS = 2000
_CHUNK = 1 << 20
_SEVERITY = (Verdict.PASS, None, Verdict.INCONCLUSIVE, Verdict.INVALID, Verdict.FAIL)
"""None: nobody asked anything of it."""


@dataclass(frozen=True, slots=True)
class Rival:
    """What the leader is held against, item by item. None where both were not measured on the same items."""

    result: Result
    cpu: Interval | None
    """The leader's CPU milliseconds over the rival's."""
    wall: Interval | None
    gain: Interval | None
    """The leader's accuracy less the rival's, as a share."""


@dataclass(frozen=True, slots=True)
class Board:
    """The cells that one measure of accuracy holds for. A run of one kind of cell has one board."""

    measure: Measure
    results: tuple[Result, ...]
    front: tuple[Result, ...]
    """Whom nobody beats at both accuracy and CPU, cheapest first."""
    leader: Result | None
    """The cheapest of ours that passes every check; where none passes, the most accurate. None: only peers here."""
    rivals: tuple[Rival, ...]
    """All others: the champion and the float parent first, then peers, then the rest."""
    champion: Result | None


def boards(run: Run, champion: str | None = None) -> tuple[Board, ...]:
    """The boards of a run, in the order of its cells. `champion`: digest, version or name of the cell that serves."""
    groups: dict[Measure, list[Result]] = {}
    for result in run.results:
        groups.setdefault(measure(run, result), []).append(result)
    return tuple(_board(run, measure, results, champion) for measure, results in groups.items())


def verdict(results: Sequence[Result]) -> Verdict | None:
    """The worst of all checks; None when nothing was asked of anyone."""
    checks = [check for result in results for check in result.checks]
    return worst(check.verdict for check in checks) if checks else None


def failed(result: Result) -> tuple[Check, ...]:
    return tuple(check for check in result.checks if check.verdict is not Verdict.PASS)


def accuracy(measure: Measure, metrics: dict[str, float]) -> float | None:
    """Higher is better: of lines, 1 - CER."""
    found = metrics.get(measure)
    return 1 - found if found is not None and measure == "cer" else found


def errors(result: Result) -> NDArray[np.float64] | None:
    """Of each item, float64 (items,): edits of a line; words or boxes of a page missed and made up. None: unknown."""
    kept = {name: np.asarray(values) for name, values in result.samples.items()}
    if "edits" in kept:
        return np.asarray(kept["edits"], np.float64)
    if {"hits", "found", "expected"} <= kept.keys():
        return np.asarray(kept["found"] + kept["expected"] - 2 * kept["hits"], np.float64)
    return None


def gain(own: Result, other: Result) -> Interval | None:
    """Accuracy of one cell less another's on the same items: of CER, or of an F1. None where it cannot be told."""
    try:
        if "edits" in own.samples and "edits" in other.samples:
            return paired_difference(other.samples["edits"], own.samples["edits"], own.samples["characters"])
        if "hits" in own.samples and "hits" in other.samples:
            return _gain_f1(_counts(own), _counts(other))
    except NotProven:
        pass
    return None


def cost(own: Result, other: Result, metric: Cost = "cpu_ms", *, block: int = 1) -> Interval | None:
    """One cell's cost over another's, `block` neighbours at a time. None where it cannot be told."""
    try:
        return paired_ratio(_by_block(own, metric, block), _by_block(other, metric, block))
    except NotProven:
        return None


def _by_block(result: Result, metric: Cost, block: int) -> list[float]:
    # Items of one call share its cost: they are one measurement, not many.
    values = result.samples.get(metric, ())
    return [sum(values[start : start + block]) for start in range(0, len(values), block)]


def labels(results: Sequence[Result]) -> dict[str, str]:
    """A short name of each cell by its name: without what all of ours end in (", cpu, 1 thread")."""
    names = [result.cell.name for result in results if result.cell.kind != "peer"]
    parts = [name.split(", ") for name in names]
    shared = 0
    if len(parts) > 1:
        least = min(map(len, parts)) - 1
        while shared < least and len({tuple(part[len(part) - shared - 1 :]) for part in parts}) == 1:
            shared += 1
    short = {name: ", ".join(part[: len(part) - shared]) for name, part in zip(names, parts, strict=True)}
    return {result.cell.name: short.get(result.cell.name, result.cell.name) for result in results}


def distinct(results: Sequence[Result]) -> list[Result]:
    """One cell of each thing that reads, whatever its threads and batch; the first."""
    found: dict[object, Result] = {}
    for result in results:
        cell = result.cell
        found.setdefault((cell.subject or cell.name, cell.variant, cell.provider), result)
    return list(found.values())


def measure(run: Run, result: Result) -> Measure:
    if result.cell.task == "detection":
        return "hmean"
    return "cer" if run.unit == "line" or result.cell.task == "recognition" else "word_f1"


def _board(run: Run, measure: Measure, results: Sequence[Result], champion: str | None) -> Board:
    def rank(result: Result) -> tuple[int, float]:
        judged = verdict([result])
        dear = result.metrics.get("cpu_ms", np.inf)
        return _SEVERITY.index(judged), dear if judged is Verdict.PASS else -(accuracy(measure, result.metrics) or 0)

    serving = next((r for r in results if champion and champion in (r.cell.subject, r.cell.version, r.cell.name)), None)
    ours = [result for result in results if result.cell.kind != "peer"]
    leader = min(ours, key=rank, default=None)
    rivals: tuple[Rival, ...] = ()
    if leader:
        parent = leader.cell.name.replace(leader.cell.variant, "fp32") if leader.cell.variant else None
        others = [result for result in results if result is not leader]
        others.sort(key=lambda r: (r is not serving, r.cell.name != parent, r.cell.kind != "peer"))
        rivals = tuple(
            Rival(
                result=other,
                cpu=_told(run, leader, other, "cpu_ms"),
                wall=_told(run, leader, other, "wall_ms"),
                gain=gain(leader, other),
            )
            for other in others
        )
    return Board(measure, tuple(results), tuple(_front(measure, results)), leader, rivals, serving)


def _told(run: Run, own: Result, other: Result, metric: Cost) -> Interval | None:
    """The ratio the run was recorded with, else one of its samples."""
    for ratio in run.ratios:
        if (ratio.metric, ratio.cell, ratio.over) == (metric, own.cell.name, other.cell.name):
            return Interval(ratio.median, ratio.low, ratio.high, ratio.pairs)
    return cost(own, other, metric, block=run.block)


def _front(measure: Measure, results: Sequence[Result]) -> Iterator[Result]:
    known = [
        (result.metrics["cpu_ms"], -right, result)
        for result in results
        if "cpu_ms" in result.metrics and (right := accuracy(measure, result.metrics)) is not None
    ]
    best = np.inf
    for _, wrong, result in sorted(known, key=lambda entry: entry[:2]):
        if wrong < best:
            best = wrong
            yield result


def _counts(result: Result) -> NDArray[np.float64]:
    """float64 (3, items): hits, found, expected."""
    return np.asarray([result.samples.get(name, ()) for name in ("hits", "found", "expected")], np.float64)


def _gain_f1(own: NDArray[np.float64], other: NDArray[np.float64]) -> Interval | None:
    """Of counts (3, items), with a percentile bootstrap interval over items."""
    if own.shape != other.shape or not own.size:
        return None

    def f1(counts: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        hits, found, expected = counts @ weights
        total = found + expected
        return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0), np.float64)

    size = own.shape[1]
    random = np.random.default_rng(0)
    drawn: list[NDArray[np.float64]] = []
    for start in range(0, DRAWS, rows := max(1, _CHUNK // size)):
        weights = random.multinomial(size, np.full(size, 1 / size), min(rows, DRAWS - start)).T.astype(np.float64)
        drawn.append(f1(own, weights) - f1(other, weights))
    each = np.ones((size, 1))
    value = float((f1(own, each) - f1(other, each))[0])
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value), size)
