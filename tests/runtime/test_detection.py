import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ocr_ops.core.errors import BadInput
from ocr_ops.core.release import Release
from ocr_ops.core.spec import BoxSpec, InputSpec
from ocr_ops.runtime.detection import LONGEST, NARROW, Detector, polygons, prepare_page
from tests import tiny

SPEC = InputSpec(stride=32, max_side=640)
WIDTH, HEIGHT, RATIO = 640, 448, 2


def rectangle(x: float, y: float, width: float, height: float, degrees: float = 0) -> NDArray[np.float64]:
    """Corners (4, 2) of a rectangle about (x, y), clockwise from its top-left."""
    half = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return half @ np.array([[cos, sin], [-sin, cos]]) + [x, y]


def probability_map(boxes: list[tuple[float, ...]]) -> NDArray[np.float32]:
    """What a perfect detector answers: each box less a quarter of its shorter side all round, with its outline."""
    canvas = np.zeros((HEIGHT // RATIO, WIDTH // RATIO), np.float32)
    for x, y, width, height, degrees in boxes:
        inward = min(width, height) / 2
        corners = rectangle(x, y, width - inward, height - inward, degrees) / RATIO - 0.5
        cv2.fillPoly(canvas, [np.round(corners * 16).astype(np.int32)], 1.0, shift=4)
    return canvas


@settings(max_examples=60)
@given(st.floats(30, 400), st.floats(9, 48), st.floats(-12, 12), st.floats(-3, 3), st.floats(-3, 3))
def test_a_shrunk_rectangle_grows_back(width: float, height: float, degrees: float, dx: float, dy: float) -> None:
    """Text boxes of any size and skew come back within two or three pixels of the page, whatever the map's grid."""
    width = max(width, 1.5 * height)
    box = (WIDTH / 2 + dx, HEIGHT / 2 + dy, width, height, degrees if width > 6 * height else 0.0)
    found = polygons(probability_map([box]), WIDTH, HEIGHT)
    assert len(found) == 1
    assert np.abs(found[0] - rectangle(*box)).max() < 3


def test_every_region_gets_its_own_box() -> None:
    """Boxes are apart, in page pixels, clockwise from the top-left."""
    boxes = [(120.0, 40.0 + 30 * i, 200.0, 18.0, 0.0) for i in range(10)] + [(450.0, 60.0, 120.0, 30.0, 0.0)]
    found = polygons(probability_map(boxes), WIDTH, HEIGHT)
    assert len(found) == len(boxes)
    for box in boxes:
        assert np.abs(found - rectangle(*box)).max(axis=(1, 2)).min() < 2


def test_a_short_word_takes_the_direction_of_the_page() -> None:
    """A square region has no direction of its own; the long lines around it have."""
    boxes = [(300.0, 100.0 + 40 * i, 400.0, 20.0, 5.0) for i in range(4)] + [(300.0, 350.0, 24.0, 20.0, 5.0)]
    found = polygons(probability_map(boxes), WIDTH, HEIGHT)
    sides = found[:, 1] - found[:, 0]
    assert np.degrees(np.arctan2(sides[:, 1], sides[:, 0])) == pytest.approx(5, abs=0.5)


def test_a_line_broken_at_a_space_is_one_again() -> None:
    """Regions whose boxes would overlap are one line; those a letter apart, or a row apart, are not."""
    broken = [(120.0, 50.0, 110.0, 24.0, 0.0), (230.0, 51.0, 114.0, 24.0, 0.0), (345.0, 50.0, 120.0, 24.0, 0.0)]
    apart = [(120.0, 120.0, 110.0, 24.0, 0.0), (230.0, 120.0, 80.0, 24.0, 0.0), (120.0, 142.0, 110.0, 24.0, 0.0)]
    found = polygons(probability_map([*broken, *apart]), WIDTH, HEIGHT)
    assert len(found) == 4
    assert np.abs(found - rectangle(235, 50.3, 340, 24)).max(axis=(1, 2)).min() < 3


def test_vertical_text_begins_at_the_top_right() -> None:
    """A column of text among lines is turned; a lone narrow character, as tall as the lines, is not."""
    lines = [(220.0, 60.0 + 40 * i, 300.0, 24.0, 0.0) for i in range(4)]
    column, one = (500.0, 200.0, 24.0, 200.0, 0.0), (420.0, 60.0, 11.0, 24.0, 0.0)
    found = polygons(probability_map([*lines, column, one]), WIDTH, HEIGHT)
    assert np.abs(found - np.roll(rectangle(*column), -1, axis=0)).max(axis=(1, 2)).min() < 3
    assert np.abs(found - rectangle(*one)).max(axis=(1, 2)).min() < 3


def test_a_page_on_its_side_is_read_downwards() -> None:
    """All its lines are columns then."""
    boxes = [(60.0 + 40 * i, 220.0, 20.0, 300.0, 0.0) for i in range(6)]
    found = polygons(probability_map(boxes), WIDTH, HEIGHT)
    assert len(found) == 6
    assert (found[:, 1, 1] - found[:, 0, 1] > 290).all()


def test_faint_and_tiny_regions_are_no_text() -> None:
    """A region must be sure on the whole, and larger than a speck."""
    faint = probability_map([(300, 200, 200, 20, 0)]) * 0.4
    speck = np.zeros_like(faint)
    speck[10, 10:12] = 1
    assert polygons(faint, WIDTH, HEIGHT).shape == (0, 4, 2)
    assert polygons(speck, WIDTH, HEIGHT).shape == (0, 4, 2)
    assert polygons(np.zeros_like(faint), WIDTH, HEIGHT).shape == (0, 4, 2)


@settings(max_examples=60)
@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.floats(0, 1, width=32)))
def test_any_map_gives_boxes_inside_the_page(probability: NDArray[np.float32]) -> None:
    """Noise of any size never breaks the geometry."""
    found = polygons(probability, 64, 96)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= [64, 96]).all()


def test_the_resolution_of_the_map_is_free() -> None:
    """A full-size map and a half-size one give the same box."""
    half = probability_map([(320, 224, 300, 24, 0)])
    full = cv2.resize(half, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    one, two = (polygons(m, WIDTH, HEIGHT)[0] for m in (half, full))
    assert np.abs(one - two).max() < 2


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_a_prepared_page_fits_the_network(width: int, height: int) -> None:
    """Sides are multiples of the stride within the cap, and polygons find back to the page."""
    page = np.zeros((height, 1), np.uint8).repeat(width, axis=1)
    prepared = prepare_page(page, SPEC)
    rows, columns = prepared.pixels.shape
    assert rows % 32 == columns % 32 == 0
    assert min(rows, columns) >= 32
    strip = max(width, height) > NARROW * min(width, height)
    assert max(rows, columns) <= SPEC.max_side * (LONGEST if strip else 1)
    assert rows * columns <= (SPEC.max_side + 32) ** 2
    corner = prepared.restore(np.full((1, 4, 2), (columns, rows), np.float32))
    missed = np.array([width, height]) - corner[0, 0]  # what is no whole block at the page's end, if it shrinks much
    assert (missed > -0.01).all()
    assert (missed * [prepared.scale_x, prepared.scale_y] < 1).all()


def test_small_pages_are_enlarged_only_so_far() -> None:
    """The limit is an argument."""
    page = np.zeros((100, 100, 3), np.uint8)
    assert prepare_page(page, SPEC).pixels.shape == (192, 192)
    assert prepare_page(page, SPEC, max_enlargement=1).pixels.shape == (96, 96)
    colour = InputSpec(channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, stride=32, max_side=640)
    assert prepare_page(page, colour).pixels.shape == (192, 192, 3)


def test_the_network_finds_lines(tiny_release: Release) -> None:
    """Pages of different sizes in one call, each answered for itself."""
    detector = Detector(tiny_release.detection)
    spec = tiny_release.detection.manifest.input
    pages = [prepare_page(tiny.draw(["abc", "ab"]), spec), prepare_page(tiny.draw(["c"], height=320), spec)]
    found = detector.detect([page.pixels for page in pages])
    assert [len(boxes) for boxes in found] == [2, 1]
    heights = found[0][:, 3, 1] - found[0][:, 0, 1]
    assert heights == pytest.approx(tiny.LINE, abs=1.5)
    assert detector.detect([]) == []


def test_a_recogniser_is_no_detector(tiny_release: Release) -> None:
    """A graph whose output is no map is refused with one line."""
    with pytest.raises(BadInput):
        Detector(tiny_release.recognition).detect([np.zeros((32, 64), np.uint8)])


@pytest.mark.parametrize(("width", "height"), [(200, 12), (40, 16), (90, 90)])
def test_unclipping_has_a_closed_form(width: int, height: int) -> None:
    """Each side of a rectangle moves out by ratio * area / outline, as DB's clipping library would have it."""
    probability = np.zeros((HEIGHT, WIDTH), np.float32)
    probability[100 : 100 + height, 50 : 50 + width] = 1
    (found,) = polygons(probability, WIDTH, HEIGHT, BoxSpec(growth="area", ratio=1.6))
    grown = 1.6 * width * height / (2 * (width + height))
    assert found[0] == pytest.approx([50 - grown, 100 - grown], abs=1)
    assert found[2] == pytest.approx([50 + width + grown, 100 + height + grown], abs=1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((400, 600), (736, 1088)), ((900, 1200), (896, 1216)), ((3000, 1500), (1984, 992)), ((300, 3000), (192, 1984))],
)
def test_a_least_shorter_side(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """PP-OCR's rule: small pages are enlarged to it, others keep their size, none passes the cap."""
    spec = InputSpec(stride=32, max_side=2000, min_side=736)
    assert prepare_page(np.zeros(shape, np.uint8), spec).pixels.shape == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2560, 640), (640, 160)),  # as long as a page may be
        ((5120, 640), (1280, 160)),  # as wide as that one, and twice as long
        ((640, 5120), (160, 1280)),
        ((25600, 640), (3392, 96)),  # no more pixels than a page
        ((60000, 10), (5120, 32)),
    ],
)
def test_print_on_a_strip_is_not_shrunk_away(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """A screenshot of many screens, a till roll: by its longer side alone nothing of it could be read."""
    assert prepare_page(np.zeros(shape, np.uint8), SPEC).pixels.shape == expected


def test_a_fixed_size_is_padded() -> None:
    """The page keeps its proportions at the top left; boxes go back to where they were."""
    spec = InputSpec(stride=32, max_side=640, height=640, width=640, padding="black")
    prepared = prepare_page(np.full((400, 800), 255, np.uint8), spec)
    assert prepared.pixels.shape == (640, 640)
    assert prepared.pixels[319].min() == 255
    assert prepared.pixels[321].max() == 0
    corner = np.array([[[640, 320]] * 4], np.float32)
    assert prepared.restore(corner)[0, 0] == pytest.approx([800, 400])
