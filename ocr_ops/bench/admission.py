"""Whether a variant may take its float parent's place: a paired test on all items, and on every slice of them.

Pure judgement: what both made of the same items goes in, checks come out. A bound must hold, not a figure: the worse
end of a 95 % interval. A variant passes only when every check does, so a bad one has to be lucky in its worst slice,
and more slices make the test stricter, not laxer (an intersection-union test: Berger, 1982).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocr_ops.bench.stats import LEVEL, paired_difference, paired_ratio, upper_share
from ocr_ops.core.policy import VariantPolicy
from ocr_ops.core.spec import Task
from ocr_ops.core.verdict import Check

OTHER = "other"
"""Where items of slices too small to judge are judged together."""

Samples = Mapping[str, Sequence[float]]
"""What one variant made of the items: by page `cpu_ms`, and of a detector `hits`, `found`, `expected`; by line `edits`,
`characters`; by labelled box `missed` (0 or 1)."""
Slices = Sequence[tuple[str, ...]]
"""Of each item, the slices it belongs to: `width: long`, `noise: low`."""


def admission(
    task: Task,
    own: Samples,
    *,
    parent: Samples,
    items: Slices,
    pages: Slices,
    policy: VariantPolicy,
    cost: str = "cpu_ms",
) -> tuple[Check, ...]:
    """What the policy asks of a variant beside its parent.

    `own`, `parent`: samples of the same lines (or boxes) and pages, in the same order; `items`, `pages`: the slices of
    each; `cost`: the samples a speed-up is of. What was not measured is INVALID, what is too little to tell
    INCONCLUSIVE, and neither passes.
    """
    part = policy.slice
    if task == "recognition":
        unit, fewest = "lines", part.min_lines
        edits = Errors.of(own["edits"], parent["edits"], own["characters"])
        whole = edits.check("cer_increase", policy.max_cer_increase)
        parts = _by_slice("cer_increase", edits, items, part.max_cer_increase, fewest)
    else:
        unit, fewest = "boxes", part.min_boxes
        missed = Errors.of(own["missed"], parent["missed"], np.ones(len(items)))
        whole = _hmean_errors(own, parent).check("hmean_drop", policy.max_hmean_drop)
        parts = _by_slice("boxes_lost", missed, items, part.max_hmean_drop, fewest)
    return (
        whole,
        _enough(unit, len(items), fewest),
        *parts,
        *_speed_checks(own[cost], parent[cost], pages, policy),
    )


@dataclass(frozen=True, slots=True)
class Errors:
    """What a variant and its parent got wrong of the same items; float64 (items,) each."""

    own: NDArray[np.float64]
    parent: NDArray[np.float64]
    weights: NDArray[np.float64]
    """What an error is a share of: the characters of a line, the boxes of a page, 1 of a box."""

    @classmethod
    def of(cls, *parts: Sequence[float] | NDArray[np.float64]) -> "Errors":
        return cls(*(np.asarray(part, np.float64) for part in parts))

    def __getitem__(self, items: NDArray[np.int64]) -> "Errors":
        return Errors(self.own[items], self.parent[items], self.weights[items])

    def check(self, name: str, limit: float) -> Check:
        """The increase of the error rate, held against the most allowed; INVALID where nothing can go wrong."""
        if not self.weights.sum() > 0:
            return Check(name=name, found=None, comparison="<=", limit=limit)
        found = paired_difference(self.own.tolist(), self.parent.tolist(), self.weights.tolist())
        high = max(found.high, self._unseen())
        return Check(name=name, found=high, comparison="<=", limit=limit, figure=found.value, best=found.low)

    def _unseen(self) -> float:
        """The increase that cannot be ruled out, however few items were seen to get worse.

        A bootstrap draws from what was seen: where no item got worse, it sees no risk. Clopper and Pearson bound the
        share of items that get worse; each by as much as those seen, or by one error; less what got better. When none
        of n lines got worse this is a rule of three: 3.7 edits in the characters of n lines.
        """
        gap = self.own - self.parent
        worse, better = gap[gap > 0], gap[gap < 0]
        cost = max(1.0, float(worse.mean())) if worse.size else 1.0
        items = upper_share(worse.size, gap.size, (1 + LEVEL) / 2) * gap.size
        return float((items * cost + better.sum()) / self.weights.sum())


def _hmean_errors(own: Samples, parent: Samples) -> Errors:
    """By page: missed and false boxes, a share of the boxes found and there (the mean of both variants').

    1 - hmean = (found + expected - 2 hits) / (found + expected), so their rate rises by what hmean loses.
    """
    (wrong, boxes), (other_wrong, other_boxes) = (
        (found + expected - 2 * hits, found + expected)
        for found, expected, hits in (
            [np.asarray(samples[name], np.float64) for name in ("found", "expected", "hits")]
            for samples in (own, parent)
        )
    )
    return Errors(wrong, other_wrong, (boxes + other_boxes) / 2)


def _speed_checks(
    own: Sequence[float], parent: Sequence[float], pages: Slices, policy: VariantPolicy
) -> Iterator[Check]:
    part = policy.slice
    mine, theirs = np.asarray(own, np.float64), np.asarray(parent, np.float64)
    yield _speedup("speedup", mine, theirs, policy.min_speedup)
    yield _enough("pages", len(pages), part.min_pages)
    for label, chosen in members(pages, part.min_pages).items():
        yield _speedup(f"speedup ({label})", mine[chosen], theirs[chosen], part.min_speedup)


def _speedup(name: str, own: NDArray[np.float64], parent: NDArray[np.float64], limit: float) -> Check:
    if not ((own > 0) & (parent > 0)).any():
        return Check(name=name, found=None, comparison=">=", limit=limit)
    found = paired_ratio(parent.tolist(), own.tolist())
    return Check(name=name, found=found.low, comparison=">=", limit=limit, figure=found.value, best=found.high)


def _by_slice(name: str, errors: Errors, items: Slices, limit: float, fewest: int) -> Iterator[Check]:
    for label, chosen in members(items, fewest).items():
        yield errors[chosen].check(f"{name} ({label})", limit)


def _enough(name: str, count: int, fewest: int) -> Check:
    """Whether there is enough to tell: too little is INCONCLUSIVE, since more of it might pass."""
    return Check(name=name, found=count, comparison=">=", limit=fewest, best=fewest)


def members(slices: Slices, fewest: int) -> dict[str, NDArray[np.int64]]:
    """Indices of the items of each slice that has at least `fewest`, by name.

    Items of smaller slices are pooled into `other`, each once. Where even that has too few, nobody judges them apart:
    they count in the whole.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for item, labels in enumerate(slices):
        for label in labels:
            found[label].append(item)
    large = {label: items for label, items in sorted(found.items()) if len(items) >= fewest}
    pooled = sorted({item for label, items in found.items() if label not in large for item in items})
    if len(pooled) >= fewest:
        large[OTHER] = pooled
    return {label: np.asarray(items, np.int64) for label, items in large.items()}


def prevailing(lines: Slices) -> tuple[str, ...]:
    """The slices a page belongs to: those that more than half of its lines are in."""
    counts = Counter(label for labels in lines for label in labels)
    return tuple(label for label, count in counts.items() if 2 * count > len(lines))
