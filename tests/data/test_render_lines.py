import numpy as np
import pytest

from ocr_ops.data import render_augment as augment
from ocr_ops.data.render_lines import LineRenderer, line_digest, to_height
from ocr_ops.data.render_text import CHARSET


def test_lines_are_a_pure_function_of_the_seed() -> None:
    one, other = LineRenderer(CHARSET), LineRenderer(CHARSET)
    assert line_digest(one, 3) == line_digest(other, 3)
    assert line_digest(one, 3) != line_digest(one, 4)


def test_a_line_is_a_grey_crop_with_a_text_of_the_charset() -> None:
    renderer = LineRenderer(CHARSET)
    for seed in range(200):
        crop, text = renderer.line(np.random.default_rng(seed), longest=512)
        assert crop.dtype == np.uint8
        assert 4 <= crop.shape[0] <= 140
        assert text
        assert set(text) <= set(CHARSET)
        assert crop.std() > 0, text


def test_a_blank_is_a_crop_like_any_other() -> None:
    renderer = LineRenderer(CHARSET)
    for seed in range(60):
        crop = renderer.blank(np.random.default_rng(seed))
        assert crop.dtype == np.uint8
        assert 10 <= crop.shape[0] < 48
        assert crop.shape[1] >= 16


@pytest.mark.parametrize(("shape", "width"), [((16, 40), 80), ((64, 104), 52), ((32, 5000), 512), ((30, 1), 4)])
def test_a_crop_gets_the_networks_height_and_a_whole_number_of_steps(shape: tuple[int, int], width: int) -> None:
    image = to_height(np.full(shape, 200, np.uint8), 32, 4, 512)
    assert image.shape == (32, width)


def test_wear_and_camera_keep_shape_and_type() -> None:
    """But for a line that loses pixels for good."""
    ink = LineRenderer(CHARSET).fonts[0][0].draw("Amount 12.00", 32)
    for seed in range(120):
        rng = np.random.default_rng(seed)
        seen = augment.camera(rng, augment.paper(rng, ink))
        assert seen.shape == ink.shape or 8 <= seen.shape[0] < 16
        for made in (augment.worn_ink(rng, ink), augment.dots(rng, ink)):
            assert made.shape == ink.shape
            assert made.dtype == seen.dtype == np.uint8


def test_the_worst_wear_leaves_a_grey_image() -> None:
    """A line may lose pixels for good; a page keeps its size, since its boxes are in pixels."""
    line = LineRenderer(CHARSET).fonts[0][0].draw("Amount 12.00", 32)
    sheet = np.full((300, 200), 255, np.uint8)
    for seed in range(80):
        rng = np.random.default_rng(seed)
        worn = augment.rough(rng, 255 - line)
        assert worn.dtype == np.uint8
        assert 8 <= worn.shape[0] <= line.shape[0]
        assert augment.rough(rng, sheet).shape == sheet.shape
        desk = augment.desk(rng, (300, 200))
        assert (desk.shape, desk.dtype) == (sheet.shape, np.uint8)


def test_reframing_never_cuts_more_than_two_columns() -> None:
    image = np.arange(100, dtype=np.uint8)[None].repeat(40, axis=0)
    for seed in range(100):
        made = augment.reframe(np.random.default_rng(seed), image, 0.5, 0.1)
        assert made[0, 0] <= 2
        assert made[0, -1] >= 97
