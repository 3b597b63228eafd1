import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bentos.packing import pack, pack_boxes, pack_texts, unpack, unpack_boxes, unpack_texts
from ocr_ops.core.errors import UsageError
from ocr_ops.runtime.ctc import Decoded

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 90)), st.tuples(st.integers(1, 40), st.integers(1, 90), st.just(3))
)


def _picture(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@given(st.lists(SHAPES, max_size=8))
def test_pictures_come_out_as_they_went_in(shapes: list[tuple[int, ...]]) -> None:
    pictures = [_picture(shape) for shape in shapes]
    found = unpack(pack(pictures))
    assert len(found) == len(pictures)
    assert all(np.array_equal(one, other) for one, other in zip(found, pictures, strict=True))


def test_pictures_that_are_views_come_out_whole() -> None:
    page = _picture((60, 80))
    [found] = unpack(pack([page[10:50:2, 5:70]]))
    assert np.array_equal(found, page[10:50:2, 5:70])


@given(st.binary(max_size=200))
def test_any_bytes_are_pictures_or_an_error(body: bytes) -> None:
    """Nothing else, and nothing larger than what was sent."""
    for head in (b"", b"OCR1"):
        try:
            found = unpack(head + body)
        except UsageError:
            continue
        assert sum(picture.nbytes for picture in found) <= len(body)


@given(st.data())
def test_damaged_bytes_are_pictures_or_an_error(data: st.DataObject) -> None:
    whole = bytearray(pack([_picture((8, 9)), _picture((5, 4, 3))]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = unpack(cut)
    except UsageError:
        return
    assert sum(picture.nbytes for picture in found) <= len(cut)


def test_more_pictures_than_any_page_has_are_refused() -> None:
    with pytest.raises(UsageError, match="pictures"):
        unpack(b"OCR1" + (2**32 - 1).to_bytes(4, "little"))


def test_boxes_come_out_as_they_went_in() -> None:
    boxes = np.random.default_rng(1).random((5, 4, 2), np.float32)
    assert np.array_equal(unpack_boxes(pack_boxes(boxes)), boxes)
    assert unpack_boxes(b"").shape == (0, 4, 2)


@pytest.mark.parametrize("body", [bytes(31), np.full(8, np.nan, "<f4").tobytes()])
def test_other_bytes_are_no_boxes(body: bytes) -> None:
    with pytest.raises(UsageError, match="hop"):
        unpack_boxes(body)


NUMBERS = st.floats(0, 1)
TEXTS = st.text(max_size=9).flatmap(
    lambda text: st.builds(
        Decoded,
        st.just(text),
        st.tuples(*[NUMBERS] * len(text)),
        st.tuples(*[st.tuples(NUMBERS, NUMBERS)] * len(text)),
    )
)


@given(st.lists(TEXTS, max_size=5))
def test_texts_come_out_to_the_last_bit(texts: list[Decoded]) -> None:
    assert unpack_texts(pack_texts(texts)) == texts


@given(st.data())
def test_damaged_bytes_are_texts_or_an_error(data: st.DataObject) -> None:
    whole = bytearray(pack_texts([Decoded("aé", (0.1, 1 / 3), ((0.0, 0.5), (0.5, 1.0))), Decoded("", (), ())]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = unpack_texts(cut)
    except UsageError:
        return
    assert all(len(text.text) == len(text.confidences) == len(text.spans) for text in found)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'[{"text": 1}]',
        b'[["a"]]',
        b"\x80\x04",
        b'["a"]\n',
        b'["a"]\n' + bytes(25),
        b"[" * 100_000,
        b'["a"]\n' + np.array([np.nan, 0, 1]).tobytes(),
    ],
)
def test_other_bytes_are_no_texts(body: bytes) -> None:
    with pytest.raises(UsageError, match="hop"):
        unpack_texts(body)
