import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocr_ops.core.reading import Page
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.layout import assemble


def read(text: str, confidence: float = 0.9) -> Decoded:
    edges = np.linspace(0, 1, len(text) + 1).tolist()
    return Decoded(text, (confidence,) * len(text), tuple(pairwise(edges)))


def box(x: float, y: float, width: float, height: float = 20, degrees: float = 0) -> NDArray[np.float32]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    return ((corners - 400) @ np.array([[cos, sin], [-sin, cos]]) + 400).astype(np.float32)


def page(pieces: list[tuple[NDArray[np.float32], str]]) -> Page:
    return assemble(800, 800, [polygon for polygon, _ in pieces], [read(text) for _, text in pieces])


@pytest.mark.parametrize("degrees", [0, 2, -4])
def test_rows_read_from_left_to_right_whatever_their_gaps(degrees: float) -> None:
    """An article and its price far to the right are one line, also on a skewed page."""
    rows = [("COFFEE LARGE", "1", "3.50"), ("TEA", "2", "12.00"), ("TOTAL", "", "15.50")]
    pieces = [
        (box(x, 100 + 26 * i, 12 * len(text), 20, degrees), text)
        for i, row in enumerate(rows)
        for x, text in zip((100, 400, 600), row, strict=True)
        if text
    ]
    order = np.random.default_rng(3).permutation(len(pieces))
    found = page([pieces[i] for i in order])
    assert found.text == "COFFEE LARGE 1 3.50\nTEA 2 12.00\nTOTAL 15.50"


def test_words_stand_where_their_characters_were() -> None:
    """A word's box is its share of the piece; the line's holds them all."""
    found = page([(box(100, 100, 110), "hello world")])
    (line,) = found.lines
    assert [word.text for word in line.words] == ["hello", "world"]
    first, second = (word.polygon for word in line.words)
    assert first[0] == (100, 100)
    assert first[1][0] == pytest.approx(150, abs=2)
    assert second[0][0] == pytest.approx(160, abs=2)
    assert line.polygon == ((100, 100), (210, 100), (210, 120), (100, 120))


def test_a_tall_heading_does_not_swallow_two_rows() -> None:
    """Pieces over each other are two rows, though both overlap a large neighbour."""
    found = page([(box(100, 100, 200, 44), "Big"), (box(400, 100, 90), "upper"), (box(400, 124, 90), "lower")])
    assert sorted(word for line in found.lines for word in line.text.split()) == ["Big", "lower", "upper"]
    assert not any("upper" in line.text and "lower" in line.text for line in found.lines)


def test_a_bent_row_stays_one() -> None:
    """Each piece need only overlap its nearest neighbour."""
    found = page([(box(50 + 100 * i, 200 + 5 * i, 90), f"w{i}") for i in range(7)])
    assert [line.text for line in found.lines] == ["w0 w1 w2 w3 w4 w5 w6"]


def test_text_across_the_lines_stands_alone() -> None:
    """A column of text beside three rows joins none of them."""
    column = np.roll(box(700, 100, 20, 200), -1, axis=0)
    rows = [(box(100, 100 + 40 * i, 300), f"row{i}") for i in range(4)]
    found = page([*rows, (column, "down")])
    assert sorted(line.text for line in found.lines) == ["down", "row0", "row1", "row2", "row3"]
    (down,) = (line for line in found.lines if line.text == "down")
    assert down.polygon[0] == (720, 100)


def test_a_page_on_its_side_has_its_lines_in_order() -> None:
    """When all text runs downwards, lines go from right to left."""
    columns = [(np.roll(box(600 - 40 * i, 100, 20, 300), -1, axis=0), f"line{i}") for i in range(4)]
    assert page(columns).text == "line0\nline1\nline2\nline3"


def test_pieces_without_text_are_dropped() -> None:
    """A page of none is a page without lines."""
    assert page([]).lines == ()
    assert page([(box(10, 10, 50), "")]).lines == ()


def test_confidence_is_the_mean_of_the_characters() -> None:
    """Long words weigh more than short ones."""
    polygons = [box(100, 100, 100), box(300, 100, 20)]
    found = assemble(800, 800, polygons, [read("abcd", 1.0), read("e", 0.75)])
    assert found.lines[0].confidence == pytest.approx(0.95)


coordinates = st.floats(-50, 900, width=32)


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.lists(coordinates, min_size=8, max_size=8), st.text("ab ", max_size=6).map(lambda t: " ".join(t.split()))
        ),
        max_size=12,
    )
)
def test_any_pieces_make_a_sound_page(pieces: list[tuple[list[float], str]]) -> None:
    """Twisted, empty and outlying polygons still give finite corners inside the page, and lose no word."""
    polygons = [np.array(numbers, np.float32).reshape(4, 2) for numbers, _ in pieces]
    found = assemble(800, 600, polygons, [read(text) for _, text in pieces])
    words = sorted(word for _, text in pieces for word in text.split())
    assert sorted(found.text.split()) == words
    for line in found.lines:
        for polygon in (line.polygon, *(word.polygon for word in line.words)):
            assert len(polygon) == 4
            assert all(0 <= x <= 800 and 0 <= y <= 600 for x, y in polygon)
            assert all(round(value, 1) == value for corner in polygon for value in corner)


def test_what_nobody_could_read_is_left_out() -> None:
    """A logo's guess is dropped, also from the middle of a good line; a line of nothing else goes with it."""
    doubtful = read("TOTAL xq")
    doubtful = Decoded(doubtful.text, (0.9,) * 6 + (0.3,) * 2, doubtful.spans)
    boxes = [box(100, 100, 110), box(100, 140, 110)]
    found = assemble(800, 800, boxes, [doubtful, read("smudge", 0.4)])
    assert [line.text for line in found.lines] == ["TOTAL"]
    assert found.lines[0].confidence == pytest.approx(0.9)
