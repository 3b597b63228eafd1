import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ocr_ops.core.spec import TextSpec
from ocr_ops.runtime.ctc import Decoded, decode

CHARSET = "abcdé9 "


def encode(text: str, repeats: list[int], strength: float = 12.0) -> NDArray[np.float32]:
    """Logits that say `text`: each character held for some steps, blanks between equal neighbours."""
    labels: list[int] = [0]
    for i, char in enumerate(text):
        if i and text[i - 1] == char:
            labels.append(0)
        labels += [CHARSET.index(char) + 1] * repeats[i % len(repeats)]
    logits = np.zeros((len(labels), len(CHARSET) + 1), np.float32)
    logits[np.arange(len(labels)), labels] = strength
    return logits


@given(
    st.text(CHARSET.strip(), min_size=1, max_size=8).flatmap(
        lambda first: st.lists(st.text(CHARSET.strip(), min_size=1, max_size=6), max_size=4).map(
            lambda rest: " ".join([first, *rest])
        )
    ),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
)
def test_decoding_gives_back_what_was_encoded(text: str, repeats: list[int]) -> None:
    """Any text without idle spaces survives the round trip, with a sure character and a span for each."""
    read = decode(encode(text, repeats), CHARSET)
    assert read.text == text
    assert len(read.confidences) == len(read.spans) == len(text)
    assert read.confidence > 0.99
    assert " ".join(word.text for word in read.words) == text


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(0, 40), st.just(len(CHARSET) + 1)), elements=st.floats(-30, 30, width=32)
    )
)
def test_any_logits_give_a_sound_reading(logits: NDArray[np.float32]) -> None:
    """Confidences are probabilities, spans run forward inside the crop, spaces are single and inside."""
    read = decode(logits, CHARSET)
    assert read.text == " ".join(read.text.split())
    assert all(0 < value <= 1 for value in read.confidences)
    edges = [edge for span in read.spans for edge in span]
    assert edges == sorted(edges)
    assert all(0 <= edge <= 1 for edge in edges)
    assert 0 <= read.confidence <= 1
    assert all(word.text and " " not in word.text for word in read.words)


def test_idle_spaces_are_dropped() -> None:
    """Leading, trailing and repeated spaces are no text."""
    assert decode(encode("  a   b  ", [1]), CHARSET).text == "a b"
    assert decode(encode("   ", [2]), CHARSET) == Decoded("", (), ())


def test_confidence_is_the_softmax_at_the_peak() -> None:
    """Of several steps of one character the surest counts; spaces do not count for the line."""
    logits = np.log(np.array([[0.1, 0.9, 0.0], [0.4, 0.6, 0.0], [0.3, 0.0, 0.7], [0.5, 0.5, 0.0]]) + 1e-9).astype(
        np.float32
    )
    read = decode(logits + 100, "a ")
    assert read.text == "a"
    assert read.confidences == pytest.approx((0.9,), abs=1e-5)
    assert read.confidence == pytest.approx(0.9, abs=1e-5)


def test_characters_part_half_way_between_their_centres() -> None:
    """Spans cover the crop from end to end; a word's is that of its characters."""
    logits = np.full((10, 3), -9, np.float32)
    logits[:, 0] = 0
    logits[[1, 2, 7, 8], [1, 1, 2, 2]] = 9
    read = decode(logits, "ab")
    assert read.text == "ab"
    assert read.spans == ((0.0, 0.5), (0.5, 1.0))


def test_other_conventions_read_the_same() -> None:
    """The blank last, probabilities instead of logits: the same text, as sure, at the same places."""
    plain = encode("ab 9", [2, 3])
    exponents = np.exp(plain)
    probabilities = np.asarray(np.roll(exponents / exponents.sum(axis=1, keepdims=True), -1, axis=1), np.float32)
    ours = decode(plain, CHARSET)
    theirs = decode(probabilities, CHARSET, TextSpec(output="probabilities", blank="last"))
    assert (theirs.text, theirs.spans) == (ours.text, ours.spans)
    assert theirs.confidences == pytest.approx(ours.confidences)


def test_spans_are_shares_of_the_crop_not_of_its_padding() -> None:
    """A crop that takes half of the steps ends where its text does."""
    padding = np.zeros((6, len(CHARSET) + 1), np.float32)
    padding[:, 0] = 12
    logits = np.concatenate([encode("ab", [2]), padding])
    read = decode(logits, CHARSET, width=5 / 11)
    assert read.spans[0] == (0.0, pytest.approx(0.6))
    assert read.spans[1] == (pytest.approx(0.6), 1.0)


def test_thousands_of_classes_are_no_burden() -> None:
    """Only the steps that say something are looked at as a whole."""
    charset = "".join(map(chr, range(0x4E00, 0x4E00 + 18_000)))
    logits = np.zeros((100, len(charset) + 1), np.float32)
    logits[:, 0] = 5
    logits[10::20, 17_000] = 30
    assert decode(logits, charset).text == charset[16_999] * 5
