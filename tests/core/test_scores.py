"""Scores count what a person would count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.scores import Match, cer, edit_distance, match_words, normalise

words = st.text(alphabet="abAB é", max_size=12)


@pytest.mark.parametrize(
    ("left", "right", "distance"), [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
)
def test_edit_distance_of_known_pairs(left: str, right: str, distance: int) -> None:
    """Textbook pairs."""
    assert edit_distance(left, right) == distance


@given(words, words, words)
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    """Symmetric, zero only on equals, and no detour is shorter."""
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_words_match_as_a_multiset() -> None:
    """A word read twice but written once is one hit."""
    match = match_words("TOTAL 12.00 12.00", "total 12.00 cash", fold=True)
    assert match == Match(hits=2, found=3, expected=3)
    assert match.f1 == pytest.approx(2 / 3)


def test_case_counts_unless_folded() -> None:
    """Folding is a choice of the data set."""
    assert match_words("Total", "TOTAL").hits == 0
    assert match_words("Total", "TOTAL", fold=True).hits == 1


def test_nothing_expected_and_nothing_read_is_no_evidence() -> None:
    """An empty page proves nothing."""
    assert match_words("", "").f1 is None
    assert cer([]) is None
    assert cer([("", "")]) is None


def test_cer_weighs_by_characters() -> None:
    """One wrong character in ten is a tenth, however many lines they stand on."""
    assert cer([("abcde", "abcde"), ("fghij", "fghix")]) == pytest.approx(0.1)


def test_normalise_joins_compatible_forms() -> None:
    """Ligatures and wide forms compare equal to what they look like."""
    assert normalise("ﬁle\u3000 Ａ") == "file A"
