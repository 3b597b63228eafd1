import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocr_ops.runtime.detection import polygons
from ocr_ops.train import targets

Floats = NDArray[np.float32]


def rectangle(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Floats:
    """A rectangle about (x, y), clockwise from the text's top-left corner."""
    corners = np.array(((-width, -height), (width, -height), (width, height), (-width, height))) / 2
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.asarray(corners @ np.array(((cos, sin), (-sin, cos))) + (x, y), np.float32)


@given(st.floats(20, 200), st.floats(8, 40), st.floats(-5, 5), st.floats(-8, 8))
def test_the_serving_code_finds_back_what_the_kernel_map_shows(
    width: float, height: float, angle: float, shift: float
) -> None:
    quad = rectangle(128 + shift, 128 - shift, max(width, 1.5 * height), height, angle)
    kernel = targets.maps(quad[None], 256)[0]
    found = polygons(kernel, 256, 256)
    assert len(found) == 1
    assert targets.matches(found, quad[None], least=0.6) == [(0, 0)]


@given(st.floats(10, 100), st.floats(10, 100), st.floats(-45, 45), st.floats(-0.25, 0.5))
def test_offsets_move_every_side_alike(width: float, height: float, angle: float, share: float) -> None:
    moved = targets.offset(rectangle(0, 0, width, height, angle)[None], share)[0]
    sides = np.linalg.norm(moved[1] - moved[0]), np.linalg.norm(moved[3] - moved[0])
    by = 2 * share * min(width, height)
    assert sides == pytest.approx((width + by, height + by), abs=0.01)


def test_text_nobody_can_read_is_masked_not_taught() -> None:
    quads = np.stack((rectangle(60, 30, 80, 20), rectangle(60, 90, 60, 4)))
    kernel, mask, threshold, band = targets.maps(quads, 128)
    assert kernel[15, 30] == mask[15, 30] == 1
    assert kernel[45, 30] == mask[45, 30] == 0
    assert mask[60, 60] == 1
    assert threshold.min() == pytest.approx(0.3)
    assert threshold.max() == pytest.approx(0.7)
    assert set(np.unique(band)) == {0, 1}


def test_a_page_without_text_teaches_nothing_but_background() -> None:
    kernel, mask, _, band = targets.maps(np.zeros((0, 4, 2), np.float32), 64)
    assert not kernel.any()
    assert mask.all()
    assert not band.any()


def test_matches_are_one_to_one_and_best_first() -> None:
    true = np.stack((rectangle(50, 50, 80, 20), rectangle(50, 100, 80, 20)))
    found = np.stack((rectangle(54, 50, 80, 20), rectangle(50, 50, 80, 20), rectangle(50, 140, 80, 20)))
    assert targets.matches(found, true) == [(1, 0)]
    assert targets.matches(found[:0], true) == []
    assert targets.matches(found, true[:0]) == []


def test_kernels_of_touching_lines_stay_apart() -> None:
    quads = np.stack([rectangle(64, 20 + 12 * i, 100, 12) for i in range(5)])
    count, _ = cv2.connectedComponents((targets.maps(quads, 128)[0] > 0).astype(np.uint8))
    assert count - 1 == 5


def test_what_is_drawn_is_found_where_it_was() -> None:
    """The serving code takes a kernel map back to its segments without leaning to any side."""
    rng = np.random.default_rng(3)
    corner = np.stack([rng.uniform(40, 300, 60), np.linspace(20, 600, 60)], axis=1)
    size = np.stack([rng.uniform(120, 300, 60), rng.uniform(7, 9.5, 60)], axis=1)
    quads = (corner[:, None] + size[:, None] * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])).astype(np.float32)
    found = polygons(targets.maps(quads, 640)[0], 640, 640)
    assert len(found) == len(quads)
    found = found[np.argsort(found[:, 0, 1])]
    assert np.abs((found.mean(axis=1) - quads.mean(axis=1)).mean(axis=0)).max() < 0.1
