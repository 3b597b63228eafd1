import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ocr_ops.bench.degrade import blurred, grainy, rotated
from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.preprocess import AS_IT_IS, STEPS, levelled, prepared, skew

Picture = NDArray[np.uint8]
ALL = ReadOptions(contrast=True, sharpen=True, deskew=True, denoise=True, upscale=True)


def written(width: int = 1100, height: int = 1400) -> Picture:
    """A page of dark words on white paper."""
    page = np.full((height, width, 3), 255, np.uint8)
    rng = np.random.default_rng(5)
    for y in range(100, height - 150, 44):
        x = 100
        while x < width - 250:
            length = int(rng.integers(20, 130))
            page[y : y + 16, x : x + length] = 20
            x += length + 14
    return page


def test_a_page_with_nothing_to_mend_stays_as_it_is() -> None:
    """Level, dark on white, without specks, and large enough: not a pixel is copied."""
    page = written()
    view = prepared(page, ALL)
    assert view.pixels is page
    assert view.back is AS_IT_IS


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_done_only_when_asked_for(name: str) -> None:
    """What each step would mend stays where its option is off."""
    poor = rotated(np.ascontiguousarray(written()[:650, :650]), 6)
    poor = np.asarray(200 + poor * 0.2, np.uint8)
    if name == "sharpen":
        poor = blurred(poor, 4)
    else:  # specks are sharp
        poor[np.random.default_rng(2).random(poor.shape[:2]) < 0.02] = 160
    off = dict.fromkeys(STEPS, False)
    assert prepared(poor, ReadOptions(**off)).pixels is poor
    assert prepared(poor, ReadOptions(**{**off, name: True})).pixels is not poor


@pytest.mark.parametrize("degrees", [-9.5, -3, -1, 0, 2, 7.5])
@pytest.mark.parametrize("side", [False, True])
def test_skew_is_what_the_page_was_turned_by(degrees: float, *, side: bool) -> None:
    """Also of a page that lies on its side."""
    page = rotated(written(), degrees)
    assert skew(np.ascontiguousarray(np.rot90(page)) if side else page) == pytest.approx(degrees, abs=0.2)


def test_an_empty_page_has_no_skew() -> None:
    assert skew(np.full((400, 300), 250, np.uint8)) == 0


def test_points_find_their_way_back() -> None:
    """A mark on a small, crooked page is where the way back says, to a pixel."""
    page = rotated(np.ascontiguousarray(written()[:700, :700]), 5)
    page[300:304, 200:204] = (255, 0, 0)
    view = prepared(page, ALL).then(levelled)
    assert max(view.pixels.shape) > 1400
    red = (view.pixels[:, :, 0].astype(int) - view.pixels[:, :, 1]) > 128
    x, y = np.argwhere(red).mean(axis=0)[::-1] + 0.5
    assert view.back @ [x, y, 1] == pytest.approx([202, 302], abs=1)


def test_dots_of_small_print_stay() -> None:
    """However many there are: paper without print tells whether a page is specked."""
    page = np.full((1000, 800, 3), 255, np.uint8)
    page[100:900:16, 100:300:6] = 0
    page[104:904:16, 100:300] = 0
    assert prepared(page, ReadOptions(denoise=True)).pixels is page


def test_grain_is_left_to_the_networks() -> None:
    page = grainy(written(), 25)
    assert prepared(page, ReadOptions(denoise=True, sharpen=False)).pixels is page


def test_specks_are_taken_out() -> None:
    """Ink of words stays."""
    page = written()
    specked = page.copy()
    specked[np.random.default_rng(2).random(page.shape[:2]) < 0.02] = 0
    cleaned = prepared(specked, ReadOptions(denoise=True)).pixels
    wrong = np.abs(cleaned[:, :, 1].astype(int) - page[:, :, 1]) > 100
    assert wrong.mean() < 0.02 / 5
    assert cv2.absdiff(cleaned, specked).any()
