"""Intervals hold what they promise, on data whose truth is known."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr_ops.bench.stats import paired_difference, paired_ratio, steady, upper_share
from ocr_ops.core.errors import NotProven

COSTS = st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40)


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    return sum(low <= truth <= high for low, high in intervals) / len(intervals)


@pytest.mark.parametrize("count", [12, 200])
def test_a_ratio_interval_covers_the_truth(count: int) -> None:
    """Of 300 simulated runs about 95 in 100 hold the true ratio, with pages as unlike as 1 to 50."""
    found = []
    for run in range(300):
        random = np.random.default_rng(run)
        page = np.exp(random.normal(3, 1, count))
        own, other = 0.5 * page * np.exp(random.normal(0, 0.2, count)), page * np.exp(random.normal(0, 0.2, count))
        interval = paired_ratio(list(own), list(other), seed=run, draws=400)
        found.append((interval.low, interval.high))
    assert 0.91 <= covered(found, 0.5) <= 0.99


def test_a_difference_interval_covers_the_truth() -> None:
    """Edits are rare and come in lumps, and still about 95 in 100 intervals hold the true difference of CER."""
    found = []
    for run in range(300):
        random = np.random.default_rng(run)
        characters = random.integers(5, 40, 300)
        own, other = random.binomial(characters, 0.06), random.binomial(characters, 0.05)
        interval = paired_difference(list(own), list(other), list(characters), seed=run, draws=400)
        found.append((interval.low, interval.high))
    assert 0.91 <= covered(found, 0.01) <= 0.99


@given(COSTS, st.floats(0.01, 100))
@settings(max_examples=30)
def test_a_ratio_of_a_constant_factor_is_that_factor(costs: list[float], factor: float) -> None:
    """Whatever the pages, and with no doubt."""
    found = paired_ratio([factor * cost for cost in costs], costs, draws=50)
    assert (found.value, found.low, found.high) == pytest.approx((factor,) * 3)
    assert found.count == len(costs)


@given(COSTS, st.randoms())
@settings(max_examples=30)
def test_the_figure_lies_in_its_interval_and_the_seed_decides(costs: list[float], random: object) -> None:
    """The same seed draws the same interval."""
    other = list(reversed(costs))
    found = paired_ratio(costs, other, seed=3, draws=50)
    assert found.low <= found.value <= found.high
    assert found == paired_ratio(costs, other, seed=3, draws=50)
    apart = paired_difference(costs, other, costs, draws=50)
    assert apart.low <= apart.value <= apart.high


def test_a_ratio_needs_no_memory_for_all_its_draws() -> None:
    """100,000 items are drawn in parts, with the figure of one part."""
    own = np.random.default_rng(0).normal(10, 1, 100_000)
    found = paired_ratio(list(own), [10.0] * own.size, draws=20)
    assert found.value == pytest.approx(1, abs=0.01)
    assert found.high - found.low < 0.01


def test_nothing_proves_nothing() -> None:
    """No items, unlike numbers of them, costs finer than the clock, or no text to read."""
    for own, other in (([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [0.0])):
        with pytest.raises(NotProven):
            paired_ratio(own, other)
    with pytest.raises(NotProven, match="no weight"):
        paired_difference([1, 2], [1, 1], [0, 0])
    assert paired_ratio([1.0, 0.0], [2.0, 3.0]).count == 1


@pytest.mark.parametrize("length", [3, 8])
def test_warm_up_is_found_where_it_ends(length: int) -> None:
    """Costs that fall for so many samples, then stay within their noise."""
    found = []
    for run in range(50):
        noise = np.random.default_rng(run).normal(0, 0.3, 30)
        samples = [10 + noise[i] + (8 * 0.5 ** (3 * i / length) if i < length else 0) for i in range(30)]
        found.append(steady(samples))
        assert max(samples[found[-1] :], default=0) < 13
    assert length - 1 <= np.median(found) <= length + 2
    assert sum(cut < 30 for cut in found) > 45


def test_a_first_call_that_is_cold_is_one() -> None:
    """Also beside a stall that comes later."""
    assert steady([90, 10.1, 10, 10.2, 9.9, 10]) == 1
    assert steady([90, 10.1, 10, 10.2, 9.9, 10, 10.1, 60, 10, 10.1]) == 1


def test_what_still_falls_is_all_warm_up() -> None:
    """Likewise of what is too little to tell."""
    falling = [float(30 - i) for i in range(20)]
    assert steady(falling) == len(falling)
    assert steady([1.0, 1.0, 1.0]) == 3
    assert steady([]) == 0


@given(st.floats(1, 1e6), st.integers(4, 50))
def test_what_never_moves_is_steady(value: float, count: int) -> None:
    """From the first sample."""
    assert steady([value] * count) == 0


def test_noise_alone_is_seldom_taken_for_warm_up() -> None:
    """Of 200 runs without a warm-up, nine in ten are found steady within half of their samples, mostly at once."""
    found = [steady(list(np.random.default_rng(run).normal(10, 0.5, 20))) for run in range(200)]
    assert np.mean([cut < 20 for cut in found]) > 0.9
    assert np.median(found) <= 2


@given(st.integers(1, 60), st.data())
@settings(max_examples=40)
def test_the_bound_is_where_the_tail_is_five_percent(of: int, data: st.DataObject) -> None:
    """Clopper and Pearson's own definition, summed term by term."""
    hits = data.draw(st.integers(0, of - 1))
    bound = upper_share(hits, of)
    tail = sum(comb(of, k) * bound**k * (1 - bound) ** (of - k) for k in range(hits + 1))
    assert tail == pytest.approx(0.05, rel=1e-6)
    assert hits / of < bound < 1


def test_the_rule_of_three() -> None:
    """None of n seen: at most about 3 / n; and of nothing, anything."""
    assert upper_share(0, 300) == pytest.approx(3 / 300, rel=0.01)
    assert upper_share(0, 100_000) < 4e-5
    assert upper_share(0, 0) == upper_share(7, 7) == 1
