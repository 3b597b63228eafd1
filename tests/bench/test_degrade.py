"""Degradations are pure functions: same page, same strength, same pixels, and the page itself untouched."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ocr_ops.bench.degrade import DEGRADATIONS, PAGE_DPI, Degradation, Image, faded, resampled, rotated, turned

PAGES = arrays(np.uint8, st.tuples(st.integers(2, 60), st.integers(2, 60), st.just(3)))
EACH = pytest.mark.parametrize("degradation", DEGRADATIONS, ids=lambda each: str(each.name))


def striped(height: int = 120, width: int = 90) -> Image:
    """Dark lines on pale paper."""
    page = np.full((height, width, 3), 230, np.uint8)
    page[10:-10:6, 12:-12] = 30
    return page


@EACH
@settings(max_examples=15)
@given(page=PAGES)
def test_any_page_stays_a_page(degradation: Degradation, page: Image) -> None:
    """uint8 RGB, not empty, the same twice, and what was given is as it was."""
    before = page.copy()
    for strength in degradation.strengths:
        worse = degradation.apply(page, strength)
        assert worse.dtype == np.uint8
        assert worse.ndim == 3
        assert worse.shape[2] == 3
        assert worse.size
        assert np.array_equal(worse, degradation.apply(page, strength))
    assert np.array_equal(page, before)


@EACH
def test_only_the_harmless_strength_changes_nothing(degradation: Degradation) -> None:
    """The curve starts at the page itself, and each further strength does something."""
    page = striped()
    unchanged = [s for s in degradation.strengths if np.array_equal(degradation.apply(page, s), page)]
    assert unchanged == ([] if degradation.harmless is None else [degradation.harmless])


@given(page=PAGES)
def test_four_quarters_are_a_whole_turn(page: Image) -> None:
    """Nothing is lost on the way."""
    turns = page
    for _ in range(4):
        turns = turned(turns, 90)
    assert np.array_equal(turns, page)
    assert np.array_equal(turned(turned(page, 90), 180), turned(page, 270))


def test_turns_and_rotations_are_clockwise() -> None:
    """What is on top comes to the right."""
    page = striped()
    page[:20] = 0
    assert turned(page, 90)[:, -20:].max() == 0
    line = np.full((100, 200, 3), 255, np.uint8)
    line[50] = 0
    tilted = rotated(line, 5)
    left, right = (int(np.argmin(tilted[:, x].mean(1))) for x in (60, 150))
    assert right - left == pytest.approx(90 * np.tan(np.deg2rad(5)), abs=1)


def test_rotated_pages_lose_no_corner() -> None:
    """The sheet grows, filled with paper, and holds as much ink as before."""
    page = striped()
    tilted = rotated(page, 5)
    assert tilted.shape[0] > page.shape[0]
    assert tilted.shape[1] > page.shape[1]
    assert tilted[0, -1].tolist() == [230, 230, 230]
    assert (230 - tilted.astype(int)).sum() == pytest.approx((230 - page.astype(int)).sum(), rel=0.02)


def test_resolution_scales_the_sides() -> None:
    """Half the dpi, half the pixels a side."""
    page = striped(120, 90)
    assert resampled(page, PAGE_DPI / 2).shape == (60, 45, 3)
    assert resampled(page, PAGE_DPI * 2).shape == (240, 180, 3)


def test_ink_fades_into_the_paper() -> None:
    """A tenth of the contrast is left, and the paper stays as bright."""
    page = faded(striped(), 0.1)
    assert (page.max(), page.min()) == (230, 210)
