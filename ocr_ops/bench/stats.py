"""How sure a figure is: bootstrap intervals of paired items, when samples are steady, and how rare rare is.

Items are paired: each is read by both sides, so a hard page weighs on both, and what is left is their difference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.bounds import LEVEL, upper_share
from ocr_ops.core.errors import NotProven

__all__ = ["LEVEL", "Interval", "by_block", "paired_difference", "paired_ratio", "steady", "upper_share"]

FEWEST = 4
"""Samples that can be steady: two to be left out, two to compare with."""
_CHUNK = 1 << 20
"""Items drawn at once: what 8 MiB hold."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the range its true value lies in, 19 times of 20."""

    value: float
    low: float
    high: float
    count: int
    """Pairs it comes from."""


def paired_ratio(own: Sequence[float], other: Sequence[float], *, seed: int = 0, draws: int = 2000) -> Interval:
    """The median of own[i] / other[i], with a percentile bootstrap interval over items (Efron, 1979).

    Pairs with a cost of nothing (finer than the clock) are left out. `NotProven` when none is left.
    """
    left, right = _paired(own, other)
    measured = (left > 0) & (right > 0)
    ratios = left[measured] / right[measured]
    if not ratios.size:
        raise NotProven("ratio", "no pair of measured items", "at least one", "measure both on the same items")
    drawn = _bootstrap(ratios.size, lambda index: np.asarray(np.median(ratios[index], axis=1), np.float64), seed, draws)
    return _interval(float(np.median(ratios)), drawn, ratios.size)


def paired_difference(
    own: Sequence[float], other: Sequence[float], weights: Sequence[float], *, seed: int = 0, draws: int = 2000
) -> Interval:
    """(sum(own) - sum(other)) / sum(weights), with a percentile bootstrap interval over items.

    With edits, edits and characters it is a difference of CER. Items that never differ show no spread, and the
    interval is a point: then `upper_share` bounds the share of items that may differ. `NotProven` without weight.
    """
    left, right = _paired(own, other)
    weight, _ = _paired(weights, own)
    if not (weight >= 0).all() or not weight.sum() > 0:
        raise NotProven("difference", "items of no weight", "characters to read", "measure labelled items")
    gap = left - right

    def share(index: NDArray[np.int64]) -> Floats:
        total = weight[index].sum(axis=1)
        # A draw of weightless items alone says nothing: it repeats the figure of all.
        shares = np.full(len(total), value)
        np.divide(gap[index].sum(axis=1), total, out=shares, where=total > 0)
        return shares

    value = float(gap.sum() / weight.sum())
    return _interval(value, _bootstrap(gap.size, share, seed, draws), gap.size)


def by_block(values: Sequence[float], size: int) -> list[float]:
    """Means of so many neighbours: what one call read together is one sample, not many."""
    return [fmean(values[start : start + size]) for start in range(0, len(values), size)]


def steady(samples: Sequence[float]) -> int:
    """How many first samples are warm-up; all of them while it goes on.

    The cut that minimises the standard error of the mean of what is left (MSER: White, 1997). One that would take half
    of the samples shows that they still move. Stalls in the later half are clipped, or they would hide the warm-up.
    """
    values = np.array(samples, np.float64)
    half = values.size // 2
    if values.size < FEWEST:
        return values.size
    values -= np.median(values[half:])
    tail = values[half:]
    values = np.concatenate([values[:half], np.minimum(tail, 5 * np.median(np.abs(tail)))])
    errors = [float(values[cut:].var() / (values.size - cut)) for cut in range(half + 1)]
    cut = int(np.argmin(errors))
    return cut if cut < half else values.size


def _paired(left: Sequence[float], right: Sequence[float]) -> tuple[Floats, Floats]:
    if len(left) != len(right) or not len(left):
        found = f"{len(left)} samples beside {len(right)}"
        raise NotProven("pairs", found, "as many of both, at least one", "measure both on the same items")
    return np.asarray(left, np.float64), np.asarray(right, np.float64)


def _bootstrap(size: int, figure: Callable[[NDArray[np.int64]], Floats], seed: int, draws: int) -> Floats:
    """`figure` of `draws` resamples of `size` items; it takes their indices, int64 (draws at once, size)."""
    random = np.random.default_rng(seed)
    return np.concatenate([figure(random.integers(0, size, (rows, size))) for rows in _chunks(size, draws)])


def _chunks(size: int, draws: int) -> Iterator[int]:
    most = max(1, _CHUNK // size)
    for start in range(0, draws, most):
        yield min(most, draws - start)


def _interval(value: float, drawn: Floats, count: int) -> Interval:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # Of few items, the figure itself may lie outside what was drawn.
    return Interval(value, min(float(low), value), max(float(high), value), count)
