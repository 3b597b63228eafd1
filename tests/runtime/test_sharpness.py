import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from ocr_ops.runtime.sharpness import SOFT, sharp, softness
from tests import tiny


def _blurred(page: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(page, (0, 0), sigma)


def test_softness_grows_with_the_blur_and_not_with_the_contrast() -> None:
    page = tiny.draw(["abc cab", "cc"])
    found = [softness(_blurred(page, sigma)) for sigma in (0.5, 2, 3, 4)]
    assert found == sorted(found)
    assert found[0] < SOFT < found[2]
    faint = (128 + (_blurred(page, 3).astype(np.float32) - 128) * 0.4).astype(np.uint8)
    assert softness(faint) == pytest.approx(found[2], rel=0.15)


def test_a_page_in_focus_stays_as_it_is() -> None:
    page = tiny.draw(["abc cab", "cc"])
    assert sharp(page) is page


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blurred_page_comes_nearer_to_what_it_was(channels: int) -> None:
    page = tiny.draw(["abc cab", "cc"])
    page = page[:, :, 0] if channels == 1 else page
    soft = _blurred(page, 2.5)
    made = sharp(soft)
    assert (made.shape, made.dtype) == (page.shape, np.uint8)
    before, after = (np.square(page.astype(float) - other).mean() for other in (soft, made))
    assert after < 0.9 * before


def test_noise_is_not_taken_for_a_blur() -> None:
    soft = _blurred(tiny.draw(["abc cab", "cc"]), 2.5).astype(np.float32)
    noisy = np.clip(soft + np.random.default_rng(0).normal(0, 40, soft.shape), 0, 255).astype(np.uint8)
    assert sharp(noisy) is noisy


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_any_page_has_a_softness(page: np.ndarray) -> None:
    assert softness(page) >= 0
    assert sharp(page).shape == page.shape
