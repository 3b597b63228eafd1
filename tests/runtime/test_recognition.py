from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocr_ops.core.errors import CorruptBundle
from ocr_ops.core.release import Release
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime.recognition import Recognizer, parts_of, prepare_crop
from tests import tiny

SPEC = InputSpec(height=32, stride=4, max_side=320)


def box(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float32]:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def crop_of(text: str) -> NDArray[np.uint8]:
    page = tiny.draw([text])
    ink = np.flatnonzero((page[..., 0] < 200).any(axis=0))
    return prepare_crop(page, box(ink[0] - 4, 32, ink[-1] + 5, 32 + tiny.LINE), SPEC)


texts = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3).map(" ".join)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts, min_size=1, max_size=12))
def test_neighbours_change_nothing(tiny_release: Release, lines: list[str]) -> None:
    """A crop reads the same alone and in any company, down to the spans."""
    recognizer = Recognizer(tiny_release.recognition)
    crops = [crop_of(line) for line in lines]
    together = recognizer.recognize(crops)
    assert [read.text for read in together] == lines
    for crop, read in zip(crops, together, strict=True):
        (alone,) = recognizer.recognize([crop])
        assert alone.text == read.text
        assert alone.spans == read.spans
        assert alone.confidences == pytest.approx(read.confidences, abs=1e-5)


def test_threads_may_share_a_recogniser(tiny_release: Release) -> None:
    """Calls from many threads give each its own answer."""
    recognizer = Recognizer(tiny_release.recognition)
    lines = ["a", "ab", "abc", "b c", "ca cb", "c"] * 8
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda line: recognizer.recognize([crop_of(line)])[0].text, lines))
    assert read == lines


def test_no_crops_no_text(tiny_release: Release) -> None:
    """An empty page is an ordinary page."""
    assert Recognizer(tiny_release.recognition).recognize([]) == []


def test_logits_must_fit_the_charset(tiny_release: Release, tmp_path: Path) -> None:
    """A graph with more classes than its manifest has characters is refused, not misread."""
    bundle = tiny.build_bundle(tmp_path / "odd", "recognition", charset="abc")
    with pytest.raises(CorruptBundle, match="logits"):
        Recognizer(bundle).recognize([np.zeros((32, 64), np.uint8)])


def test_a_crop_keeps_its_proportions_and_its_place() -> None:
    """Left is left and up is up; the width is in whole strides and never above the widest."""
    page = np.full((200, 400), 255, np.uint8)
    page[50:75, 100:200] = 200
    page[50:75, 100:120] = 0
    crop = prepare_crop(page, box(100, 50, 200, 75), SPEC)
    assert crop.shape[0] == 32
    assert crop.shape[1] % 4 == 0
    assert crop.shape[1] == pytest.approx(32 * 100 / 25, abs=8)
    assert crop[16, 8] < 60
    assert crop[16, -10] == pytest.approx(200, abs=10)
    assert prepare_crop(page, box(0, 90, 400, 95), SPEC).shape == (32, 320)


def test_a_skewed_crop_is_levelled() -> None:
    """The polygon's own frame counts, not the page's."""
    page = np.zeros((200, 200), np.uint8)
    corners = np.array([[60, 40], [140, 80], [130, 100], [50, 60]], np.float32)
    cv2.fillPoly(page, [corners.astype(np.int32)], 255)
    crop = prepare_crop(page, corners, SPEC)
    assert crop[:, 8:-8].mean() > 245


def test_large_text_is_averaged_not_sampled() -> None:
    """A fine check pattern under a large box comes out grey: no aliasing."""
    page = (np.indices((256, 512)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = prepare_crop(page, box(0, 0, 512, 120), SPEC)
    assert crop[4:-4, 8:-8].std() < 40
    assert crop.mean() == pytest.approx(127.5, abs=5)


def test_the_first_side_comes_on_top() -> None:
    """A polygon that begins at its top-right corner holds text running downwards."""
    page = np.full((120, 40), 255, np.uint8)
    page[10:40] = 0  # the beginning of the text
    crop = prepare_crop(page, np.roll(box(10, 10, 30, 110), -1, axis=0), SPEC)
    assert crop.shape[1] > 100
    assert crop[:, 10].mean() < 30
    assert crop[:, -10].mean() > 225


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_have_the_channels_of_the_model(channels: int) -> None:
    """Grey and colour pages serve both kinds of models."""
    spec = InputSpec(
        channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels, height=32, stride=4, max_side=320
    )  # type: ignore[arg-type]
    for page in (np.zeros((50, 90), np.uint8), np.zeros((50, 90, 3), np.uint8)):
        assert prepare_crop(page, box(5, 5, 85, 45), spec).shape[2:] == (() if channels == 1 else (3,))


@pytest.mark.parametrize("corners", [np.zeros((4, 2)), box(5, 5, 5, 40), box(5, 5, 80, 5), box(-50, -50, 500, 500)])
def test_degenerate_boxes_give_some_crop(corners: NDArray[np.float32]) -> None:
    """No area, or outside the page: still a picture of the right height."""
    crop = prepare_crop(np.zeros((50, 90), np.uint8), corners, SPEC)
    assert crop.shape[0] == 32
    assert 8 <= crop.shape[1] <= 320


def test_parts_of_a_polygon_follow_its_shares() -> None:
    """The whole crop is the whole polygon, and halves meet in the middle."""
    corners = box(100, 50, 300, 70)
    whole, first, second = parts_of(corners, np.array([[0, 1], [0, 0.5], [0.5, 1]]))
    assert whole == pytest.approx(corners)
    assert first == pytest.approx(box(100, 50, 200, 70))
    assert second == pytest.approx(box(200, 50, 300, 70))


@pytest.mark.parametrize(("right", "columns", "ink_rows"), [(62, 70, 32), (302, 128, 14)])
def test_a_fixed_width_shrinks_a_crop_as_a_whole(right: int, columns: int, ink_rows: int) -> None:
    """What is too long for it gets lower, and stands on black; what is not keeps its height."""
    spec = InputSpec(height=32, width=128, stride=4, max_side=128, padding="black")
    crop = prepare_crop(np.full((100, 400), 200, np.uint8), box(2, 20, right, 50), spec)
    assert crop.shape[0] == 32
    assert abs(crop.shape[1] - columns) <= 4
    assert abs(int((crop[:, 0] > 0).sum()) - ink_rows) <= 1
