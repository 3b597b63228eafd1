"""What was read wrong is marked, no more and no less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.bench.marks import Piece, inert, marked, strays, visible
from ocr_ops.core.scores import match_words, normalise


def test_each_reading_is_marked_where_it_differs_and_the_expected_where_any_does() -> None:
    expected, right, wrong, short = marked("TOTAL 12.00", ["TOTAL 12.00", "TOTA1 12.00", "TOTAL 12"], fold=False)
    assert right == (Piece("TOTAL 12.00", wrong=False),)
    assert wrong == (Piece("TOTA", wrong=False), Piece("1", wrong=True), Piece(" 12.00", wrong=False))
    assert short == (Piece("TOTAL 12", wrong=False), Piece("", wrong=True))  # a gap, for what is missing
    assert [piece.text for piece in expected if piece.wrong] == ["L", ".00"]


def test_case_counts_unless_the_labels_tell_none() -> None:
    assert not any(piece.wrong for piece in marked("TOTAL", ["Total"], fold=True)[1])
    assert [piece.text for piece in marked("TOTAL", ["Total"], fold=False)[1] if piece.wrong] == ["otal"]


def test_a_letter_keeps_its_accents() -> None:
    """A mark inside a cluster would tear it apart on the page: here a vowel sign of Devanagari."""
    pieces = marked("नि", ["नी"], fold=False)[1]
    assert pieces == (Piece("नी", wrong=True),)


@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=3))
def test_marks_never_change_the_text(expected: str, readings: list[str]) -> None:
    shown = marked(expected, readings, fold=False)
    assert ["".join(piece.text for piece in pieces) for pieces in shown] == [
        normalise(text) for text in (expected, *readings)
    ]
    for reading, pieces in zip(readings, shown[1:], strict=True):
        assert any(piece.wrong for piece in pieces) == (normalise(reading) != normalise(expected))


@given(st.text("ab ", max_size=20), st.text("abA ", max_size=20), st.booleans())
def test_strays_are_what_the_score_counts(expected: str, reading: str, fold: bool) -> None:
    missed, invented = strays(expected, reading, fold=fold)
    match = match_words(expected, reading, fold=fold)
    assert len(missed) == match.expected - match.hits
    assert len(invented) == match.found - match.hits


@pytest.mark.parametrize("text", ["a|b", "`x`", "<script>", "*b*", "[a](http://b)", "@all", "#1", "![x](y)", "a\x1bb"])
def test_inert_text_is_no_markup(text: str) -> None:
    told = inert(text)
    assert "<" not in told
    assert "\x1b" not in told
    assert all(
        told[place - 1] == "\\" for place, char in enumerate(told) if char in "|`*[#" and told[place:][:4] != "#64;"
    )
    assert "@" not in told


def test_control_characters_are_seen() -> None:
    assert visible("a\x1b[0m\x7f\u0085b") == "a\u241b[0m\ufffd\ufffdb"
