import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocr_ops.core.reading import Page
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.layout import assemble, placed

Piece = tuple[NDArray[np.float32], str]


def read(text: str, confidence: float = 0.9) -> Decoded:
    edges = np.linspace(0, 1, len(text) + 1).tolist()
    return Decoded(text, (confidence,) * len(text), tuple(pairwise(edges)))


def box(x: float, y: float, width: float, height: float = 20, degrees: float = 0) -> NDArray[np.float32]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    return ((corners - 400) @ np.array([[cos, sin], [-sin, cos]]) + 400).astype(np.float32)


def page(pieces: list[tuple[NDArray[np.float32], str]], pixels: NDArray[np.uint8] | None = None) -> Page:
    return assemble(800, 800, [polygon for polygon, _ in pieces], [read(text) for _, text in pieces], pixels)


def column(x: float, lines: list[str], y: float = 200, pitch: float = 24, degrees: float = 0) -> list[Piece]:
    """Lines of text, ten pixels a character, above each other."""
    return [(box(x, y + pitch * i, 10 * len(text), 20, degrees), text) for i, text in enumerate(lines)]


def prose(name: str, count: int) -> list[str]:
    """Lines of a column that differ a little in length."""
    return [f"{name}{i} is a line of running text"[: 28 + i % 3].strip() for i in range(count)]


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


def test_rules_drawn_in_dots_or_dashes_are_no_text() -> None:
    """Dots that lead to a number stay, as high as the text beside them; so does a dash that stands for nothing."""
    pieces = [
        (box(100, 100, 200), "Chapter one"),
        (box(320, 100, 200), ". . . . . ."),
        (box(540, 100, 40), "17"),
        (box(100, 140, 480), ". . . . . . . . . . . ."),
        (box(100, 180, 480), "- - - - - - - - -"),
        (box(100, 220, 480), "_______________"),
        (box(100, 260, 200), "Chapter two"),
        (box(320, 264, 200, height=5), ". . . . ."),
        (box(540, 260, 12), "-"),
        (box(100, 300, 12), "-"),
    ]
    assert page(pieces).text == "Chapter one . . . . . . 17\nChapter two -\n-"
    assert page([(box(100, 100, 200), ". . . .")]).text == ""


def test_confidence_is_the_mean_of_the_characters() -> None:
    """Long words weigh more than short ones."""
    polygons = [box(100, 100, 100), box(300, 100, 20)]
    found = assemble(800, 800, polygons, [read("abcd", 1.0), read("e", 0.75)])
    assert found.lines[0].confidence == pytest.approx(0.95)


@pytest.mark.parametrize("degrees", [0, 3, -5])
@pytest.mark.parametrize("shift", [0, 9])
def test_columns_are_read_one_after_the_other(degrees: float, shift: float) -> None:
    """Below the heading across both and before the line below them; in step with each other or not, skewed or not."""
    left, right = prose("left", 9), prose("right", 9)
    pieces = [
        (box(60, 120, 680, 34, degrees), "A heading across all columns"),
        *column(60, left, degrees=degrees),
        *column(410, right, 200 + shift, degrees=degrees),
        (box(60, 460, 620, 20, degrees), "and one more line that goes across all of the page, below"),
    ]
    order = np.random.default_rng(4).permutation(len(pieces))
    found = page([pieces[i] for i in order])
    assert [line.text for line in found.lines] == [pieces[0][1], *left, *right, pieces[-1][1]]
    assert [block.kind for block in found.blocks] == ["heading", "text", "text", "text"]
    assert [len(block.lines) for block in found.blocks] == [1, 9, 9, 1]


@pytest.mark.parametrize("long", [3, 9, 16])
def test_one_long_line_does_not_cut_ragged_columns(long: int) -> None:
    """The white beside it is narrower; the columns go on above and below."""
    left = ["a short line of ragged text"] * 20
    left[long] += " and a"
    right = ["the other column of text here"] * 20
    pieces = column(60, left) + column(60 + 10 * len(left[long]) + 18, right)
    assert page(pieces).text == "\n".join(left + right)


def test_a_piece_across_the_gutter_is_parted_there() -> None:
    """A detector may take two columns' lines for one: each word still goes to its own column."""
    left, right = prose("left", 9), prose("right", 9)
    pieces = [*column(60, left), *column(410, right)]
    joined = "left4 is a line of runni" + " " * 11 + "right4 is a line of running"
    text = " ".join(joined.split())
    edges = [
        (i / len(joined), (i + 1) / len(joined)) for i, char in enumerate(joined) if char != " " or joined[i - 1] != " "
    ]
    polygons = [polygon for i, (polygon, _) in enumerate(pieces) if i not in {4, 13}]
    texts = [read(text) for i, (_, text) in enumerate(pieces) if i not in {4, 13}]
    whole = box(60, 200 + 24 * 4, 10 * len(joined))
    found = assemble(800, 800, [*polygons, whole], [*texts, Decoded(text, (0.9,) * len(text), tuple(edges))])
    assert found.lines[4].text == "left4 is a line of runni"
    assert found.lines[13].text == "right4 is a line of running"
    assert found.lines[4].polygon[1][0] < 330
    assert found.lines[13].polygon[0][0] > 380


def test_a_receipt_is_read_across() -> None:
    """Names and amounts are no columns, however long the list; they are a table."""
    names = ["COFFEE LARGE ICED", "TEA", "TOAST AND BUTTER", "EGGS", "WATER STILL 0.5 L", "CAKE", "TOTAL"]
    amounts = ["3.50", "12.00", "4.20", "2.80", "1.90", "3.10", "27.50"]
    found = page([*column(60, names), *column(600, amounts)])
    assert [line.text for line in found.lines] == [f"{n} {a}" for n, a in zip(names, amounts, strict=True)]
    (block,) = found.blocks
    assert block.table is not None
    assert (block.table.rows, block.table.columns) == (7, 2)
    cells = {(cell.row, cell.column): cell.text for cell in block.table.cells}
    assert cells[1, 0] == "TEA"
    assert cells[6, 1] == "27.50"


def test_paragraphs_are_parted_by_white_and_by_indents() -> None:
    """Three of two lines each."""
    lines = [
        (60, 100, "The first paragraph fills its lines quite well and"),
        (60, 124, "ends here."),
        (60, 172, "After some white comes the second one, which goes on"),
        (60, 196, "for another line that is about as long as the first"),
        (90, 220, "The third one is only told apart by its indent, for"),
        (60, 244, "nothing else sets it off."),
    ]
    found = page([(box(x, y, 10 * len(text)), text) for x, y, text in lines])
    assert [block.lines for block in found.blocks] == [(0, 1), (2, 3), (4, 5)]


def ruled(x: list[int], y: list[int]) -> NDArray[np.uint8]:
    """A page with a printed grid."""
    pixels = np.full((800, 800), 240, np.uint8)
    for at in x:
        pixels[y[0] : y[-1] + 2, at : at + 2] = 40
    for at in y:
        pixels[at : at + 2, x[0] : x[-1] + 2] = 40
    return pixels


def test_a_ruled_table_comes_as_cells() -> None:
    """Words are put into the boxes they stand in, of which one goes over two columns and another has two lines."""
    x, y = [60, 260, 460, 660], [100, 140, 200, 240]
    pixels = ruled(x, y)
    pixels[102:140, 260:262] = 240
    words = [
        (70, 110, "heading over two"), (470, 110, "third"),
        (70, 146, "a cell of"), (70, 170, "two lines"), (270, 158, "plain"), (470, 158, "12.50"),
        (70, 210, "last"), (270, 210, "row"), (470, 210, "7.00"),
    ]  # fmt: skip
    pieces = [(box(a, b, 10 * len(text)), text) for a, b, text in words]
    above = (box(60, 40, 300), "Text above the table")
    found = page([*pieces, above, (box(60, 300, 300), "and text below it"[:30])], pixels)
    assert [block.kind for block in found.blocks] == ["text", "table", "text"]
    table = found.blocks[1].table
    assert table is not None
    assert (table.rows, table.columns) == (3, 3)
    cells = {(cell.row, cell.column): cell for cell in table.cells}
    assert (cells[0, 0].text, cells[0, 0].column_span) == ("heading over two", 2)
    assert cells[1, 0].text == "a cell of two lines"
    assert cells[2, 2].text == "7.00"
    assert np.abs(np.array(cells[1, 1].polygon) - [[261, 141], [461, 141], [461, 201], [261, 201]]).max() <= 3
    assert found.lines[-2].text == "last row 7.00"


def test_letters_close_to_each_other_are_no_rules() -> None:
    """Nor do they tell how wide a table is that is open at its right."""
    x, y = [60, 180, 300, 420], [100, 160, 200, 240]
    pixels = ruled(x, y)
    for at in y:
        pixels[at : at + 2, x[-1] : 540] = 40
    texts = [["one header", "two lines"], ["of one line"], ["and of one"], ["open"]]
    words = [
        (a + 6, 120 - 14 * (len(lines) - 1) + 28 * i, text)
        for a, lines in zip(x, texts, strict=True)
        for i, text in enumerate(lines)
    ]
    words += [(a + 6, b + 10, f"{name} {b}") for b in y[1:-1] for a, name in zip(x, "abcd", strict=True)]
    pieces = [(box(a, b, 108), text) for a, b, text in words]
    for a, b, _ in words:
        pixels[b + 8 : b + 12, a + 1 : a + 107] = 40
    (block,) = page(pieces, pixels).blocks
    assert block.table is not None
    rows = [[" ".join(lines) for lines in texts], *([f"{name} {b}" for name in "abcd"] for b in y[1:-1])]
    cells = [(cell.row, cell.column, cell.text) for cell in block.table.cells]
    assert cells == [(row, column, text) for row, made in enumerate(rows) for column, text in enumerate(made)]


def test_a_moved_page_takes_its_blocks_and_cells_along() -> None:
    """Every corner of every part."""
    found = page([*column(60, ["one", "two", "three"]), *column(600, ["1.00", "2.00", "3.00"])])
    there = placed(found, np.array([[0.5, 0, 10], [0, 0.5, 20]]), 500, 500)
    assert (there.width, there.height) == (500, 500)
    (before,), (after,) = found.blocks, there.blocks
    assert before.table is not None
    assert after.table is not None
    pairs = [(before, after), *zip(before.table.cells, after.table.cells, strict=True)]
    for one, other in pairs:
        assert np.abs(np.array(one.polygon) / 2 + [10, 20] - other.polygon).max() <= 0.1


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
    assert [i for block in found.blocks for i in block.lines] == list(range(len(found.lines)))
    for block in found.blocks:
        assert (block.kind == "table") == (block.table is not None)
        for cell in block.table.cells if block.table else ():
            assert cell.text == " ".join(found.lines[line].words[word].text for line, word in cell.words)
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
