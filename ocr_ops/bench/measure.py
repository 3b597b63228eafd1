"""Every cell reads every item, in turn: the run that comes of it, with ratios of costs and what the policy says.

A machine that speeds up or slows down half-way touches all alike, and costs are compared as ratios of the same items,
never as seconds of different runs.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tqdm import tqdm

from ocr_ops.bench.cells import Opened
from ocr_ops.bench.items import Image, Items
from ocr_ops.bench.run import Cell, Ratio, Result, Run
from ocr_ops.bench.stats import FEWEST, by_block, paired_ratio, steady
from ocr_ops.bench.tally import Tally
from ocr_ops.bench.worker import Sample
from ocr_ops.core.errors import NotProven
from ocr_ops.core.policy import Policy
from ocr_ops.core.verdict import Check

WARM_UP_CALLS, WARM_UP_MS = 40, 60_000.0
"""A cell that is not steady after so many calls, or so long, is measured all the same, and its run says so."""
_METRICS: tuple[Literal["cpu_ms", "wall_ms"], ...] = ("cpu_ms", "wall_ms")

Block = list[tuple[int, Image]]
"""Items of a turn: their numbers and pixels."""


def measure(
    cells: Sequence[Opened],
    items: Items,
    policy: Policy,
    *,
    title: str,
    command: str,
    seed: int = 0,
    judged: Mapping[str, Sequence[Check]] | None = None,
) -> Run:
    """Has every cell read every item, block by block in turn, and holds ours against the policy.

    A block is as large as the largest batch, and only its pixels are held. Each cell first reads of the first block
    until its cost is steady. `judged`: by a bundle's digest what is known of it already; without, its accuracy is
    held against its floor. Lines that do not decode are counted and left out. `NotProven` when nothing is left;
    otherwise errors as `System.read`.
    """
    taken = _read_all(cells, items, seed)
    if not taken.numbers:
        raise NotProven("bench", "not one item that decodes", "something to read", "check the dataset")
    ratios = tuple(_ratios([opened.cell for opened in cells], taken, seed))
    results = []
    for opened, tally, warm in zip(cells, taken.tallies, taken.warm, strict=True):
        metrics = tally.accuracy() | tally.costs() | warm | taken.counted(items)
        if opened.plan.size_mb is not None:
            metrics["size_mb"] = opened.plan.size_mb
        cell = opened.cell
        checks: tuple[Check, ...] = ()
        if cell.kind == "release":
            checks = tuple(_release_checks(cell, metrics, policy, cells, ratios))
        elif cell.kind == "bundle":
            checks = tuple((judged or {}).get(cell.subject or "") or _bundle_checks(opened, metrics))
        results.append(
            Result(
                cell=cell,
                metrics=metrics,
                samples=tally.samples,
                slices={
                    name: tally.accuracy(places) | {"items": float(len(places))}
                    for name, places in sorted(taken.slices.items())
                },
                readings=tuple(tally.readings),
                checks=checks,
            )
        )
    return Run(
        title=title,
        dataset=items.dataset,
        unit=items.unit,
        fold=items.fold,
        items=tuple(items.names[number] for number in taken.numbers),
        expected=tuple(items.expected[number] for number in taken.numbers),
        block=taken.block,
        seed=seed,
        command=command,
        results=tuple(results),
        ratios=ratios,
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """All readings."""

    tallies: list[Tally]
    """Of each cell."""
    block: int
    """Items a turn."""
    warm: list[dict[str, float]] = field(default_factory=list)
    """Of each cell: what getting ready took."""
    numbers: list[int] = field(default_factory=list)
    """Of the items that decode, in the order they were read."""
    slices: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Places in that order."""

    def counted(self, items: Items) -> dict[str, float]:
        missing = len(items.names) - len(self.numbers)
        return {f"{items.unit}s": float(len(self.numbers)), **({"unreadable": float(missing)} if missing else {})}


def _read_all(cells: Sequence[Opened], items: Items, seed: int) -> _Taken:
    taken = _Taken([Tally(items) for _ in cells], max(opened.cell.batch for opened in cells))
    with tqdm(total=len(items.names) * len(cells), desc="measure", unit="reading", disable=None) as bar:
        for turn, block in enumerate(_blocks(items, taken.block)):
            if not taken.warm:
                pairs = zip(cells, taken.tallies, strict=True)
                taken.warm.extend(_warmed_up(opened, block, tally) for opened, tally in pairs)
            for number, image in block:
                for name in items.slices(number, image):
                    taken.slices[name].append(len(taken.numbers))
                taken.numbers.append(number)
            for index in order(len(cells), turn, seed):
                for part in _parts(block, cells[index].cell.batch):
                    sample = cells[index].system.read(*(image for _, image in part))
                    taken.tallies[index].add(sample, [number for number, _ in part])
                    bar.update(len(part))
    return taken


def order(count: int, turn: int, seed: int) -> list[int]:
    """Who reads when in a turn: another first each time, and other neighbours every `count` turns."""
    cycle, first = divmod(turn, count)
    shuffled = list(range(count))
    random.Random(f"{seed} {cycle}").shuffle(shuffled)
    return shuffled[first:] + shuffled[:first]


def _blocks(items: Items, size: int) -> Iterator[Block]:
    """Items that decode, `size` at a time."""
    block: Block = []
    for number in range(len(items.names)):
        image = items.load(number)
        if image is not None:
            block.append((number, image))
        if len(block) == size or (block and number == len(items.names) - 1):
            yield block
            block = []


def _parts(block: Block, batch: int) -> Iterator[Block]:
    for start in range(0, len(block), batch):
        yield block[start : start + batch]


def _warmed_up(opened: Opened, block: Block, tally: Tally) -> dict[str, float]:
    """Reads until its cost is steady; what that took, and its first answer.

    CPU time tells it where it is known: others on this machine disturb it less.
    """
    images = [image for _, image in block[: opened.cell.batch]]
    first = opened.system.read(images[0])
    calls: list[float] = []
    spent = 0.0
    while (cut := steady(calls)) == len(calls):
        if len(calls) >= FEWEST and (len(calls) >= WARM_UP_CALLS or spent > WARM_UP_MS):
            break
        sample = opened.system.read(*images)
        spent += sample.wall_ms
        calls.append(_cost(sample))
    tally.warm_up_ms = [_cost(first), *calls]
    found = {"warm_up": float(1 + cut)} if cut < len(calls) else {}
    ready = opened.system.ready_ms
    return found if ready is None else found | {"cold_start_ms": ready + first.wall_ms}


def _cost(sample: Sample) -> float:
    return sample.wall_ms if sample.cpu_ms is None else sample.cpu_ms


def _ratios(cells: Sequence[Cell], taken: _Taken, seed: int) -> Iterator[Ratio]:
    """Of every cell over the first one and over every peer."""
    bases = [i for i, cell in enumerate(cells) if i == 0 or cell.kind == "peer"]
    for metric in _METRICS:
        costs = [by_block(tally.known(metric), taken.block) for tally in taken.tallies]
        for i, cell in enumerate(cells):
            for base in bases:
                if base == i or not (costs[i] and costs[base]):
                    continue
                found = paired_ratio(costs[i], costs[base], seed=seed)
                yield Ratio(
                    metric=metric,
                    cell=cell.name,
                    over=cells[base].name,
                    median=found.value,
                    low=found.low,
                    high=found.high,
                    pairs=found.count,
                )


def _bundle_checks(opened: Opened, metrics: Mapping[str, float]) -> tuple[Check, ...]:
    found = max(0.0, 1 - metrics["cer"]) if "cer" in metrics else metrics.get("hmean")
    return (Check(name="accuracy", found=found, comparison=">=", limit=opened.plan.floor or 0.0),)


def _release_checks(
    cell: Cell, metrics: Mapping[str, float], policy: Policy, cells: Sequence[Opened], ratios: Sequence[Ratio]
) -> Iterator[Check]:
    """Accuracy; and beside peers, every bar that the policy sets, also for a peer that was not there."""
    found = metrics.get("word_f1")
    yield Check(name=f"word_f1 of {cell.name}", found=found, comparison=">=", limit=policy.min_word_f1)
    peers = {
        other.plan.peer: other.cell.name for other in cells if other.plan.peer if other.cell.threads == cell.threads
    }
    costs = {ratio.over: ratio for ratio in ratios if (ratio.metric, ratio.cell) == ("cpu_ms", cell.name)}
    for peer, limit in sorted(policy.max_cpu_ratio.items()) if peers else ():
        ratio = costs.get(peers.get(peer, ""))
        yield Check(
            name=f"CPU of {cell.name} over {peer}'s",
            found=ratio.high if ratio else None,
            comparison="<=",
            limit=limit,
            figure=ratio.median if ratio else None,
            best=ratio.low if ratio else None,
        )
