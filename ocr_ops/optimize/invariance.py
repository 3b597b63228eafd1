"""Whether a line's text depends on its company: alone, beside others, in batches, padded to other widths."""

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import cycle, groupby, islice

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from ocr_ops.core.bounds import upper_share
from ocr_ops.core.bundle import Digest, ModelBundle
from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment
from ocr_ops.core.verdict import Check, Verdict, worst
from ocr_ops.optimize.calibration import Material, sources
from ocr_ops.runtime.recognition import BUCKET, Recognizer, bucket

LINES = 500
"""Of none flipped, 300 prove 1 %; of one, 500 do."""
BATCHES = range(2, 17)
NEIGHBOURS = 3
PAGE = 32
"""Lines that are read together to see what a set of buckets costs."""
LEAST_GAIN = 0.02
"""Share of the CPU time that coarser buckets must save to be worth it."""

Crop = NDArray[np.uint8]


class Condition(Value):
    """Lines read under one condition, and how many told another text than alone."""

    name: str
    lines: int
    flips: int
    bound: float
    """Upper bound of the share of lines that flip, one-sided, 95 %."""
    buckets: tuple[int, ...] = ()
    """Of a padding condition: what is padded to."""
    cost: float | None = None
    """Of a padding condition: CPU time over that of multiples of 32, the median over pages."""


class Invariance(Record):
    """What was found of a recogniser; a verdict that is no PASS means that company changes its text."""

    subject: Digest
    """The bundle, with the buckets chosen here in its manifest."""
    dataset: Digest
    limit: float
    """On the upper bound of the share of lines that flip."""
    padding: tuple[Condition, ...]
    """Alone, but padded otherwise than to a multiple of 32: not at all, then to each set of buckets that was tried."""
    company: tuple[Condition, ...]
    """With the chosen buckets: narrow and wide neighbours, and each size of batch."""
    buckets: tuple[int, ...]
    """The cheapest set that passed; none: every multiple of 32."""
    environment: Environment = Field(default_factory=Environment.here)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Of the chosen buckets, alone and in company."""
        own = [condition for condition in self.padding if self.buckets and condition.buckets == self.buckets]
        return tuple(_check(condition, self.limit) for condition in (*own, *self.company))

    @property
    def verdict(self) -> Verdict:
        return worst(check.verdict for check in self.checks)


def invariance(bundle: ModelBundle, material: Material, *, limit: float = 0.01, lines: int = LINES) -> Invariance:
    """Reads up to `lines` lines of the material alone, then otherwise, and counts the texts that flip.

    Other sets of buckets than every multiple of 32 are tried on pages of lines as serving would read them; the cheapest
    whose bound is within the limit is chosen. With it each line is read alone, beside narrower and wider ones, and in
    calls of 2 to 16 lines. `BadInput` for a detector, which sees one page at a time, and for material without lines.
    """
    manifest = bundle.manifest
    if manifest.task != "recognition":
        raise BadInput(bundle.path, f"a {manifest.task} bundle", "a recogniser", "detectors read pages one by one")
    crops = [make() for make in tqdm(sources(manifest, material, lines), "cut lines", unit="line", disable=None)]
    reader = _with_buckets(Recognizer(bundle), ())
    padding = [] if manifest.input.width else list(_padded(reader, crops, _alone(reader, crops)))
    worthy = [
        entry
        for entry in padding
        if (entry.cost or 1.0) < 1 - LEAST_GAIN and _check(entry, limit).verdict is Verdict.PASS
    ]
    best = min(worthy, key=lambda entry: entry.cost or 1.0, default=None)
    served = _with_buckets(reader, best.buckets if best else ())
    return Invariance(
        subject=served.bundle.digest,
        dataset=material.digest,
        limit=limit,
        padding=tuple(padding),
        company=tuple(_Company(served, crops, _alone(served, crops)).conditions()),
        buckets=served.bundle.manifest.buckets,
    )


def candidates(widest: int) -> dict[str, tuple[int, ...]]:
    """Sets of buckets up to the widest crop, in pixels: in even steps, and growing by a share."""
    sets = {f"every {step}": tuple(range(step, widest + step, step)) for step in (16, 64, 128, 256)}
    for growth in (1.25, 1.5):
        widths = [2 * BUCKET]
        while widths[-1] < widest:
            widths.append(bucket(round(widths[-1] * growth)))
        sets[f"{growth} times the last"] = tuple(widths)
    return sets


def _alone(reader: Recognizer, crops: Sequence[Crop]) -> list[str]:
    """What each line reads by itself, padded as serving pads it."""
    return [reader.recognize([crop])[0].text for crop in tqdm(crops, "read alone", unit="line", disable=None)]


def _padded(reader: Recognizer, crops: Sequence[Crop], alone: Sequence[str]) -> Iterator[Condition]:
    """Each line alone without any padding; then each set of buckets, on the same pages of lines in turn."""
    spec = reader.bundle.manifest.input
    bare = [reader.read_at([crop], crop.shape[1])[0].text for crop in crops]
    yield _counted("not padded", [own != text for own, text in zip(bare, alone, strict=True)])
    sets = {
        name: buckets
        for name, buckets in candidates(spec.max_side).items()
        if not any(width % spec.stride for width in buckets)
    }
    readers = [reader, *(_with_buckets(reader, buckets) for buckets in sets.values())]
    flips: list[list[bool]] = [[] for _ in readers]
    costs: list[list[float]] = [[] for _ in readers]
    starts = range(0, len(crops), PAGE)
    for number, start in enumerate(tqdm(starts, "pad to buckets", unit="page", disable=None)):
        page, expected = crops[start : start + PAGE], alone[start : start + PAGE]
        for place in range(len(readers)):
            index = (place + number) % len(readers)  # nobody always goes first
            began = time.process_time()
            read = readers[index].recognize(page)
            costs[index].append(time.process_time() - began)
            flips[index] += [line.text != text for line, text in zip(read, expected, strict=True)]
    base, *others = costs
    for (name, buckets), flipped, spent in zip(sets.items(), flips[1:], others, strict=True):
        cost = statistics.median(own / unit for own, unit in zip(spent, base, strict=True) if unit)
        yield _counted(f"padded to {name}", flipped).model_copy(update={"buckets": buckets, "cost": cost})


def _counted(name: str, flipped: Sequence[bool]) -> Condition:
    count, flips = len(flipped), sum(flipped)
    return Condition(name=name, lines=count, flips=flips, bound=upper_share(flips, count))


@dataclass(frozen=True, slots=True)
class _Company:
    """Lines and what each reads alone, to be read beside others. Each method tells, line by line, whether it flips."""

    reader: Recognizer
    crops: Sequence[Crop]
    alone: Sequence[str]

    def conditions(self) -> Iterator[Condition]:
        sizes = [(f"batches of {size}", self.batches(size)) for size in BATCHES]
        named = [("narrow neighbours", self.narrow()), ("wide neighbours", self.wide()), *sizes]
        for name, flipped in tqdm(named, "read in company", unit="condition", disable=None):
            yield _counted(name, list(flipped))

    def narrow(self) -> Iterator[bool]:
        """With narrower lines, padded to its own bucket, in one call."""
        order = self.order
        for place, i in enumerate(order[1:], 1):
            beside = _few(order[:place])
            yield self.reader.read_at(self.chosen([i, *beside]), self.width(i))[0].text != self.alone[i]

    def wide(self) -> Iterator[bool]:
        """With wider lines, sorted into calls as serving does."""
        order = self.order
        for place, i in enumerate(order[:-1], 1):
            beside = _few(order[place:])
            yield self.reader.recognize(self.chosen([i, *beside]))[0].text != self.alone[i]

    def batches(self, size: int) -> Iterator[bool]:
        """With others of its bucket, so many in a call; where there are fewer, some come several times."""
        for width, members in groupby(self.order, self.width):
            same = list(members)
            for start in range(0, len(same), size):
                batch = same[start : start + size]
                read = self.reader.read_at(self.chosen(islice(cycle([*batch, *same]), size)), width)
                yield from (line.text != self.alone[i] for line, i in zip(read, batch, strict=False))

    @property
    def order(self) -> list[int]:
        """Rising widths."""
        return sorted(range(len(self.crops)), key=lambda i: self.crops[i].shape[1])

    def width(self, i: int) -> int:
        manifest = self.reader.bundle.manifest
        return manifest.input.width or bucket(self.crops[i].shape[1], manifest.buckets)

    def chosen(self, indices: Iterable[int]) -> list[Crop]:
        return [self.crops[i] for i in indices]


def _few(indices: Sequence[int]) -> Sequence[int]:
    return indices[:: -(-len(indices) // NEIGHBOURS)]


def _with_buckets(reader: Recognizer, buckets: tuple[int, ...]) -> Recognizer:
    """The same loaded network, read with other buckets."""
    other = copy(reader)
    bundle = reader.bundle
    other.bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"buckets": buckets}))
    return other


def _check(condition: Condition, limit: float) -> Check:
    share = condition.flips / condition.lines if condition.lines else None
    bound = condition.bound if condition.lines else None
    return Check(name=condition.name, found=bound, comparison="<=", limit=limit, figure=share, best=share)
