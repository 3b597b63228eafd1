"""Two runs of the benchmark: what changed between them, and whether it is real."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ocr_ops.bench import standing
from ocr_ops.bench.figures import FEWEST, MEASURES, points, share, sure, times
from ocr_ops.bench.run import Cell, Result, Run
from ocr_ops.bench.standing import Measure
from ocr_ops.bench.stats import Interval
from ocr_ops.core.errors import BadInput, NotProven
from ocr_ops.core.record import short


@dataclass(frozen=True, slots=True)
class Change:
    """One cell, before and after."""

    before: Result
    after: Result
    measure: Measure
    gain: Interval | None
    """Accuracy after less before, as a share; on the same items."""
    cpu: Interval | None
    """CPU after over before, item by item."""
    same: bool
    """The same bundle or release, or the same version of a peer."""

    @property
    def row(self) -> dict[str, object]:
        """For a table or a line of JSON; None where it was not measured."""
        gain, cpu = self.gain, self.cpu
        return {
            "cell": self.after.cell.name,
            "was": None if self.same else self.before.cell.version,
            "accuracy": standing.accuracy(self.measure, self.after.metrics),
            "change": gain and gain.value,
            "change_low": gain and gain.low,
            "change_high": gain and gain.high,
            "cpu": cpu and cpu.value,
            "cpu_low": cpu and cpu.low,
            "cpu_high": cpu and cpu.high,
            "verdict_was": _verdict(self.before),
            "verdict": _verdict(self.after),
        }


@dataclass(frozen=True, slots=True)
class Diff:
    """What became of the cells of two runs."""

    sentences: tuple[str, str, str]
    """Accuracy; cost; verdict, and what moved most."""
    changes: tuple[Change, ...]
    """Of ours first, what changed most surely first."""
    unmatched: tuple[str, ...]
    """Cells of one run alone."""


def diff(before: Run, after: Run) -> Diff:
    """Holds two runs against each other, item by item, with 95 % bootstrap intervals.

    Cells are matched by what they run, else by their name, else by kind, task, variant, threads, batch and provider.
    `BadInput` when the runs read different items or have no cell in common, `NotProven` when they were measured on
    unlike machines: seconds of those are never compared.
    """
    _require_alike(before, after)
    pairs = _matched(before.results, after.results)
    if not pairs:
        raise BadInput(
            "bench diff", "no cell of one is in the other", "a cell in common", "run the same subjects again"
        )
    changes = [
        Change(
            before=was,
            after=now,
            measure=standing.measure(after, now),
            gain=standing.gain(now, was),
            cpu=standing.cost(now, was, block=max(before.block, after.block)),
            same=was.cell.subject == now.cell.subject and was.cell.version == now.cell.version,
        )
        for was, now in pairs
    ]
    changes.sort(key=lambda change: (change.after.cell.kind == "peer", -_sureness(change)))
    ours = [change for change in changes if change.after.cell.kind != "peer"] or changes
    controls = [change for change in changes if change.same and change.after.cell.kind == "peer"]
    seen = {id(result) for pair in pairs for result in pair}
    return Diff(
        sentences=(_accuracy(ours), _cost(ours, controls), _moved(after, ours[0])),
        changes=tuple(changes),
        unmatched=tuple(r.cell.name for run in (before, after) for r in run.results if id(r) not in seen),
    )


def _require_alike(before: Run, after: Run) -> None:
    for name, left, right in (
        ("dataset", short(before.dataset), short(after.dataset)),
        ("unit", before.unit, after.unit),
        ("items", f"{len(before.items)} items", f"{len(after.items)} items"),
        ("case", f"fold={before.fold}", f"fold={after.fold}"),
    ):
        if left != right:
            raise BadInput(
                "bench diff", f"{name}: {left} beside {right}", "runs on the same items", "run one of them again"
            )
    if (before.items, before.expected) != (after.items, after.expected):
        raise BadInput("bench diff", "items in another order or with other labels", "the same items", "run one again")
    here, there = before.environment.model_dump(), after.environment.model_dump()
    unlike = [f"{name} {here[name]!r} beside {there[name]!r}" for name in here if here[name] != there[name]]
    if unlike:
        remedy = "run both on one machine with the same packages"
        raise NotProven("bench diff", f"unlike environments: {'; '.join(unlike)}", "one environment", remedy)


def _matched(before: Sequence[Result], after: Sequence[Result]) -> list[tuple[Result, Result]]:
    """Pairs, each cell once; a key that names several cells of a run names none."""

    def settings(cell: Cell) -> tuple[object, ...]:
        return cell.variant, cell.threads, cell.batch, cell.provider

    keys: tuple[Callable[[Cell], object], ...] = (
        lambda cell: (cell.kind, cell.subject or cell.name, *settings(cell)),
        lambda cell: (cell.kind, cell.name),
        lambda cell: (cell.kind, cell.task, cell.name if cell.kind == "peer" else "", *settings(cell)),
    )
    pairs: list[tuple[Result, Result]] = []
    left, right = list(before), list(after)
    for key in keys:
        known = [
            {key(r.cell): r for r in side if [key(o.cell) for o in side].count(key(r.cell)) == 1}
            for side in (left, right)
        ]
        pairs += [(known[0][name], known[1][name]) for name in known[1] if name in known[0]]
        left = [r for r in left if all(r is not was for was, _ in pairs)]
        right = [r for r in right if all(r is not now for _, now in pairs)]
    return pairs


def _accuracy(changes: Sequence[Change]) -> str:
    known = [(change, change.gain) for change in changes if change.gain]
    real = [(change, gain) for change, gain in known if sure(gain, 0)]
    if not known:
        return "Accuracy: not measured in both, so nothing is known of it."
    change, gain = max(real or known, key=lambda entry: (abs(entry[1].value), entry[1].high - entry[1].low))
    was, now = (standing.accuracy(change.measure, r.metrics) for r in (change.before, change.after))
    figures = f"from {share(was)} to {share(now)}" if was is not None and now is not None else ""
    span = f"{points(gain.value)} points, {points(gain.low)} to {points(gain.high)} on {gain.count} items"
    others = f"; so in {len(real) - 1} more of {len(known)} cells" if len(real) > 1 else ""
    who = f"Accuracy of {change.after.cell.name}, {MEASURES[change.measure]},"
    if not gain.low and not gain.high and not gain.value:
        return f"{who} is the same on every item, {share(now or 0)}{'' if len(known) == 1 else ', as is that of all'}."
    if not real:
        return f"{who} went {figures} ({span}), which {_doubt(gain)}: no change of accuracy is shown."
    return f"{who} {'rose' if gain.value > 0 else 'fell'} {figures} ({span}), which is real{others}."


def _cost(changes: Sequence[Change], controls: Sequence[Change]) -> str:
    known = [(change, change.cpu) for change in changes if change.cpu]
    if not known:
        return "Cost: CPU was not measured in both, so nothing is known of it."
    steady = [(control.after.cell.name, control.cpu) for control in controls if control.cpu]
    drift = min((cpu.low for _, cpu in steady), default=1.0), max((cpu.high for _, cpu in steady), default=1.0)
    drift = min(drift[0], 1.0), max(drift[1], 1.0)
    real = [(change, cpu) for change, cpu in known if sure(cpu, 1) and (cpu.high < drift[0] or cpu.low > drift[1])]
    change, cpu = max(real or known, key=lambda entry: abs(np.log(entry[1].value)))
    span = f"{times(cpu.value)} times what it was ({times(cpu.low)} to {times(cpu.high)} over {cpu.count} pairs)"
    beside = ", ".join(f"that of the unchanged {name} {times(found.value)} times" for name, found in steady)
    told = f"CPU of {change.after.cell.name} is {span}{f', {beside}' if beside else ''}"
    if not real:
        return f"{told}: no change of cost is shown."
    if steady:
        return f"{told}: the change is real."
    if change.same:
        return (
            f"{told} though it is the same {change.after.cell.kind}: the machine or the toolkit changed, not the model."
        )
    return f"{told}: beyond chance, though no unchanged peer ran in both to tell it from a machine that drifted."


def _moved(run: Run, change: Change) -> str:
    was, now = _verdict(change.before), _verdict(change.after)
    name = change.after.cell.name
    verdict = f"{name} was {was} and is {now}" if was != now else f"{name} is {now} as before"
    moved: list[tuple[float, str]] = []
    for title, metrics in change.after.slices.items():
        left = standing.accuracy(change.measure, change.before.slices.get(title, {}))
        right = standing.accuracy(change.measure, metrics)
        if left is not None and right is not None:
            count = f"{metrics.get('items', 0):.0f} {run.unit}s"
            moved.append((abs(right - left), f"{title} ({share(left)} to {share(right)}, {count})"))
    most, slice_ = max(moved, default=(0.0, ""))
    parts = [verdict, f"the slice that moved most is {slice_}" if most else "", _items(run, change)]
    return f"{'; '.join(part for part in parts if part)}."


def _items(run: Run, change: Change) -> str:
    """How many items are read better, how many worse, and the one that moved most; nothing where that is unknown."""
    was, now = standing.errors(change.before), standing.errors(change.after)
    if was is None or now is None or was.shape != now.shape or was.size != len(run.items):
        return ""
    if (was == now).all():
        return f"no {run.unit} is read better or worse"
    item = int(np.argmax(np.abs(now - was)))
    counts = f"of {was.size} {run.unit}s {(now < was).sum()} are read better and {(now > was).sum()} worse"
    return f"{counts}, most of all {run.items[item]} ({was[item]:.0f} errors, now {now[item]:.0f})"


def _doubt(gain: Interval) -> str:
    return "may well be chance" if gain.count >= FEWEST else "so few cannot tell from chance"


def _sureness(change: Change) -> float:
    """How far from chance a change of accuracy is, in widths of its interval."""
    gain = change.gain
    return abs(gain.value) / (gain.high - gain.low + 1e-9) if gain else -1.0


def _verdict(result: Result) -> str:
    return str(standing.verdict([result]) or "not judged")
