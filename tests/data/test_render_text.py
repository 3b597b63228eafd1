import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.data import render_text

SEEDS = st.integers(0, 2**32 - 1)


def test_the_charset_holds_each_character_once_and_all_of_ascii() -> None:
    assert len(set(render_text.CHARSET)) == len(render_text.CHARSET)
    assert {chr(code) for code in range(0x20, 0x7F)} <= set(render_text.CHARSET)


def test_every_character_is_written_sooner_or_later() -> None:
    rng = np.random.default_rng(0)
    seen = set().union(*(render_text.line(rng) for _ in range(6000)))
    assert seen == set(render_text.CHARSET)


@given(SEEDS)
def test_a_line_is_never_empty_and_has_single_spaces_inside_only(seed: int) -> None:
    text = render_text.line(np.random.default_rng(seed))
    assert text
    assert text == " ".join(text.split())
    assert set(text) <= set(render_text.CHARSET)


@given(SEEDS)
def test_a_smaller_charset_is_kept_to(seed: int) -> None:
    assert set(render_text.line(np.random.default_rng(seed), "0123456789. ")) <= set("0123456789. ")


@given(SEEDS, st.integers(1, 14), st.integers(0, 4))
def test_digits_have_the_length_asked_for(seed: int, low: int, more: int) -> None:
    text = render_text.digits(np.random.default_rng(seed), low, low + more)
    assert text.isdecimal()
    assert low <= len(text) <= low + more


def test_the_same_seed_writes_the_same() -> None:
    first, second = ([render_text.line(np.random.default_rng(i)) for i in range(50)] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("theme", ["english", "receipt", "company", "place", *render_text.FOREIGN])
def test_each_theme_has_words_without_spaces(theme: str) -> None:
    words = render_text.word_lists()[theme]
    assert len(words) >= 20
    assert all(word and " " not in word for word in words)
