from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Line, Orientation, Page, Word
from ocr_ops.core.release import Release
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.orientation import Pieces, as_given, probes, turned
from ocr_ops.runtime.pipeline import Reader, finished, read_page

DETECTION = InputSpec(stride=32, max_side=640)
RECOGNITION = InputSpec(height=32, stride=4, max_side=640)
TURNS: tuple[Orientation, ...] = (0, 90, 180, 270)
HEIGHT = 24
PITCH = 12

Picture = NDArray[np.uint8]


def draw(lines: Sequence[tuple[int, int, int]], width: int = 640, height: int = 448) -> Picture:
    """A page of text at (x, y) of so many characters: bars, darker in their upper half, so that they have an up."""
    page = np.full((height, width), 255, np.uint8)
    for x, y, count in lines:
        page[y : y + HEIGHT, x : x + PITCH * count] = 150
        page[y : y + HEIGHT // 2, x : x + PITCH * count] = 20
    return page


class Toy:
    """Models of such bars. The detector frames any bar; of those that run down the page it makes squares, as one that
    never learnt them does, unless it `sees_down`. The recogniser is sure of an upright bar, as far as it is `able`,
    doubtful of one upside-down, and lost on anything else. Every call is counted.
    """

    def __init__(self, *, sees_down: bool = False, able: float = 1.0) -> None:
        self.sees_down, self.able = sees_down, able
        self.calls: list[str] = []

    async def detect(self, page: Picture) -> NDArray[np.float32]:
        self.calls.append("detect")
        _, _, stats, _ = cv2.connectedComponentsWithStats((page < 200).astype(np.uint8))
        boxes: list[Any] = []
        for x, y, w, h, _ in stats[1:].tolist():
            if h <= w:
                boxes.append([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
            elif self.sees_down:
                boxes.append([[x + w, y], [x + w, y + h], [x, y + h], [x, y]])
            else:
                boxes += [[[x, t], [x + w, t], [x + w, t + w], [x, t + w]] for t in range(y, y + h - w + 1, w)]
        return np.array(boxes, np.float32).reshape(-1, 4, 2)

    async def recognize(self, crops: Sequence[Picture]) -> list[Decoded]:
        self.calls.append("recognize")
        return [self._read(crop) for crop in crops]

    async def aside(self, work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)

    def _read(self, crop: Picture) -> Decoded:
        upper, lower = float(crop[4:13].mean()), float(crop[19:28].mean())
        count = max(round(crop.shape[1] * HEIGHT / crop.shape[0] / PITCH), 1)
        edges = np.linspace(0, 1, count + 1).tolist()
        sure = round(count * self.able)  # what it is able to read comes first, as a word of its own
        if lower > upper + 40:
            marks = (0.97,) * sure + (0.55,) * (count - sure)
            text = "u" * sure + "x" * (count - sure)
        else:
            marks = (0.7 if upper > lower + 40 else 0.4,) * count
            text = "n" * count
        return Decoded(text, marks, tuple(pairwise(edges)))


def read(page: Picture, models: Toy, *, orient: bool = True) -> Page:
    return finished(read_page(page, models, DETECTION, RECOGNITION, ReadOptions(orientation=orient)))


LETTER = [(40, 40, 20), (40, 80, 30), (40, 120, 8), (200, 120, 12), (40, 160, 25), (40, 200, 3)]


@pytest.mark.parametrize("degrees", TURNS)
@pytest.mark.parametrize("sees_down", [False, True])
def test_a_turned_page_reads_as_the_upright_one(degrees: Orientation, *, sees_down: bool) -> None:
    """The same text, with every word where it stands on the page as given."""
    upright = draw(LETTER)
    given_ = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    found = read(given_, Toy(sees_down=sees_down))
    assert found.orientation == degrees
    assert found.text == read(upright, Toy()).text
    assert (found.height, found.width) == given_.shape
    for line in found.lines:
        for word in line.words:
            corners = np.array(word.polygon)
            (left, top), (right, bottom) = corners.min(0).astype(int), corners.max(0).astype(int)
            assert (given_[top + 2 : bottom - 2, left + 2 : right - 2] < 200).mean() > 0.95
            # Its first corner is the text's own top-left: the dark half is on the side of the first two.
            inner = corners * 0.8 + corners.mean(0) * 0.2
            x, y = ((inner[0] + inner[1]) / 2).astype(int)
            assert given_[y, x] < 100


def test_an_upright_page_costs_nothing_more() -> None:
    """One call of each model."""
    models = Toy()
    assert read(draw(LETTER), models).orientation == 0
    assert models.calls == ["detect", "recognize"]


def test_the_search_can_be_turned_off() -> None:
    models = Toy()
    assert read(turned(draw(LETTER), 180), models, orient=False).orientation == 0
    assert models.calls == ["detect", "recognize"]


@pytest.mark.parametrize("degrees", TURNS)
@pytest.mark.parametrize("sees_down", [False, True])
@pytest.mark.parametrize(
    "lines",
    [[], [(100, 100, 5)], [(100, 100, 1)], [(40, 40, 3), (40, 100, 4)]],
    ids=["blank", "word", "1", "two words"],
)
def test_a_page_that_says_little_is_never_turned(
    degrees: Orientation, lines: list[tuple[int, int, int]], *, sees_down: bool
) -> None:
    """A word is no page: upside-down it may well be another one."""
    assert read(turned(draw(lines), degrees), Toy(sees_down=sees_down)).orientation == 0


@pytest.mark.parametrize("sees_down", [False, True])
@pytest.mark.parametrize("able", [1.0, 0.5])
def test_columns_on_their_side_do_not_turn_a_page(able: float, *, sees_down: bool) -> None:
    """A table with vertical heads, a sign beside the text: also where the text itself is hard to read."""
    heads = np.rot90(draw([(20, 40 * i, 14) for i in range(6)], 200, 240)[: 6 * 40])
    page = draw([(300, 240 + 40 * i, 20) for i in range(5)] + [(20, 240 + 40 * i, 20) for i in range(5)])
    page[10 : 10 + heads.shape[0], 300 : 300 + heads.shape[1]] = heads
    found = read(page, Toy(sees_down=sees_down, able=able))
    assert found.orientation == 0


def test_what_nobody_can_read_is_left_as_it_is() -> None:
    """A foreign script is as strange from every side."""
    assert {read(turned(draw(LETTER), degrees), Toy(able=0.0)).orientation for degrees in TURNS} == {0}


def test_text_without_an_up_is_left_as_it_is(tiny_release: Release) -> None:
    """The tiny release reads an upside-down a as a b, and is as sure of it."""
    from tests.tiny import draw as tiny_page  # noqa: PLC0415 (its name is taken here)

    page = tiny_page(["abc abc abc", "aab bba", "c b a c"])
    assert Reader(tiny_release).read_page(np.ascontiguousarray(page[::-1, ::-1])).orientation == 0


def test_probes_are_pieces_of_some_words() -> None:
    """Not specks, and neither rules nor whole paragraphs' widths, while there are others."""
    boxes = [[[0, 40 * i], [w, 40 * i], [w, 40 * i + 20], [0, 40 * i + 20]] for i, w in enumerate((10, 240, 900, 300))]
    assert probes(np.array(boxes, np.float32)).tolist() == [1, 3, 2, 0]
    assert probes(np.zeros((0, 4, 2), np.float32)).tolist() == []


def test_rows_of_dots_say_nothing_of_how_a_page_lies() -> None:
    """They look alike upside-down, and are as sure: a page of misread words among them is one to look at again."""
    edges = tuple((float(i), i + 1.0) for i in range(60))
    dots = Decoded("." * 60, (0.99,) * 60, edges)
    words = Decoded("nOA XNVHL", (0.6,) * 9, edges[:9])
    level = np.array([[[0, 0], [90, 0], [90, 10], [0, 10]]] * 2, np.float32)
    found = Pieces(level, [dots, words])
    assert found.clear == 0
    assert found.confidence == pytest.approx(0.6)
    assert found.doubtful
    assert not Pieces(level, [dots, dots]).clear


def test_most_of_the_length_tells_whether_text_runs_down() -> None:
    """Not the number of pieces: page numbers and marks stand upright anywhere."""
    down = np.array([[100, 0], [100, 400], [80, 400], [80, 0]], np.float32)
    level = np.array([[0, 0], [60, 0], [60, 20], [0, 20]], np.float32)
    texts = [Decoded("a", (0.9,), ((0.0, 1.0),))] * 4
    assert Pieces(np.stack([down, level, level, level]), texts).lying
    assert not Pieces(np.stack([level, level, level, level]), texts).lying
    assert not Pieces(np.zeros((0, 4, 2), np.float32), []).doubtful


corner = st.tuples(st.integers(0, 600).map(float), st.integers(0, 400).map(float))


@given(st.sampled_from(TURNS), st.tuples(corner, corner, corner, corner))
def test_four_quarter_turns_are_none(degrees: Orientation, polygon: tuple[tuple[float, float], ...]) -> None:
    """Corners stay on the page, and come back to where they were."""
    word = Word(text="a", confidence=1, polygon=polygon)
    page = Page(width=600, height=400, lines=(Line(text="a", confidence=1, polygon=polygon, words=(word,)),))
    there = as_given(page, degrees)
    assert all(0 <= x <= there.width and 0 <= y <= there.height for x, y in there.lines[0].polygon)
    back = as_given(there, TURNS[-degrees // 90 % 4])
    assert back.lines == page.lines
    assert (back.width, back.height) == (600, 400)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A reader of the weights in `models/`."""
    export = pytest.importorskip("ocr_ops.train.export").export
    root, folder = Path(__file__).parents[2] / "models", tmp_path_factory.mktemp("shipped")
    bundles = [export(root / f"{task}-tiny", folder / task) for task in ("detection", "recognition")]
    return Reader(Release.write(folder / "release", *bundles), threads=1)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["sroie/img/002.jpg", "sroie/img/144.jpg", "tesseract-test/phototest-rotated-R.png"])
def test_real_pages_read_as_well_however_they_lie(shipped: Reader, shared_data: Path, name: str) -> None:
    """The words of all four ways are the same, near enough."""
    page = cv2.cvtColor(cv2.imread(str(shared_data / name)), cv2.COLOR_BGR2RGB).astype(np.uint8)
    found = {degrees: shipped.read_page(np.ascontiguousarray(np.rot90(page, -degrees // 90))) for degrees in TURNS}
    first = 90 if "rotated-R" in name else 0
    assert {d: one.orientation for d, one in found.items()} == {d: (d + first) % 360 for d in TURNS}
    words = {degrees: Counter(one.text.split()) for degrees, one in found.items()}
    (upright,) = (words[degrees] for degrees, one in found.items() if not one.orientation)
    assert upright.total() > 40
    for other in words.values():
        assert 2 * (other & upright).total() / (other.total() + upright.total()) > 0.99
