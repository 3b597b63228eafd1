"""Items fall into the slices their pixels and labels show."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocr_ops.bench.degrade import rotated
from ocr_ops.bench.slices import contrast, line_slices, noise, page_slices, region_slices, script, slope
from ocr_ops.data.labels import Region
from tests.tiny import draw

Image = NDArray[np.uint8]


def line(text: str, *, ink: int = 0) -> Image:
    """A printed line, uint8 (48, w)."""
    image = np.full((48, 30 + 20 * len(text)), 230, np.uint8)
    cv2.putText(image, text, (10, 34), cv2.FONT_HERSHEY_DUPLEX, 0.9, (ink,), 1, cv2.LINE_AA)
    return image


def noisy(image: Image, sigma: float) -> Image:
    grain = np.random.default_rng(0).normal(0, sigma, image.shape)
    return np.asarray(np.clip(image + grain, 0, 255), np.uint8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Total 42", "latin"),
        ("Привет, world of мир", "cyrillic"),
        ("發 No. 7", "latin"),
        ("發票號碼 7a", "han"),
        ("12.50", "digits"),
        ("---", "signs"),
        ("", "signs"),
    ],
)
def test_the_script_of_most_letters_counts(text: str, expected: str) -> None:
    """And of digits alone, or of nothing, that."""
    assert script(text) == expected


@given(st.text())
def test_any_text_has_one_script(text: str) -> None:
    """Named in lower case."""
    assert script(text).islower()


def test_a_clean_level_line() -> None:
    """One value of each kind."""
    assert line_slices(line("a level line of text"), "a level line") == (
        "script: latin",
        "width: medium",
        "rotation: level",
        "noise: low",
        "contrast: strong",
    )
    assert line_slices(line("abc"), "abc")[1] == "width: short"
    assert line_slices(line("many words " * 4), "abc")[1] == "width: long"


@pytest.mark.parametrize("sigma", [0, 3, 10])
def test_noise_is_measured_beside_the_strokes(sigma: float) -> None:
    """In grey levels, within a fifth."""
    assert noise(noisy(line("Strokes are edges"), sigma)) == pytest.approx(sigma, abs=0.2 * sigma + 0.3)


@pytest.mark.parametrize("degrees", [-4, -2, 0, 2, 4])
def test_the_slope_of_a_line_is_seen(degrees: float) -> None:
    """Within a degree, clockwise."""
    page = np.full((160, 500, 3), 230, np.uint8)
    page[60:108, 20:450] = cv2.cvtColor(line("NUMBER 42 AND MORE NN"), cv2.COLOR_GRAY2RGB)[:, :430]
    turned = cv2.cvtColor(rotated(page, degrees), cv2.COLOR_RGB2GRAY)
    assert slope(np.asarray(turned, np.uint8)[50:-50]) == pytest.approx(degrees, abs=1)


def test_faint_ink_is_faint() -> None:
    """Little between ink and paper."""
    assert contrast(line("faint", ink=180)) < 60
    assert "contrast: faint" in line_slices(line("faint", ink=180), "faint")


def test_a_region_is_seen_where_it_lies() -> None:
    """Its sides tell its width, its first side its turn, also upside-down and off the page."""
    page = draw(("abc cab abc", "cc"))
    flat = np.array([[28, 32], [400, 32], [400, 56], [28, 56]], np.float32)
    assert region_slices(page, flat, "abc")[:3] == ("script: latin", "width: long", "rotation: level")
    assert "rotation: turned" in region_slices(page, np.roll(flat, 2, axis=0), "abc")
    assert region_slices(page, flat + 10_000, "abc")[3:] == ("noise: low", "contrast: faint")


def test_a_page_is_what_prevails_on_it() -> None:
    """Ignored regions do not count; a page without labels is level and holds few words."""
    page = draw(("abc cab", "cc"))
    straight = ((0, 0), (90, 0), (90, 9), (0, 9))
    tilted = ((0, 0), (90, 4), (90, 13), (0, 9))
    regions = [Region(polygon=straight, text="###"), Region(polygon=tilted, text="12 " * 60)]
    assert page_slices(page, regions)[:3] == ("script: digits", "words: some", "rotation: tilted")
    assert page_slices(page, [])[:3] == ("script: signs", "words: few", "rotation: level")


def test_the_smallest_crops_have_slices() -> None:
    """A pixel is an image too."""
    assert len(line_slices(np.zeros((1, 1), np.uint8), "")) == 5
