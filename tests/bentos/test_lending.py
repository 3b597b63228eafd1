"""What is lent is seen as it was, by those it is lent to, while it is lent."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.lending import GROUP, borrowed, lent
from ocr_ops.core.errors import OutsideSystem


@pytest.fixture(autouse=True, scope="module")
def group() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(GROUP, "/nowhere")
        yield


def test_what_is_lent_is_seen_and_stays_when_it_is_taken_back() -> None:
    with lent(b"a page" * 1000) as name:
        seen = borrowed(name)
    assert seen[:] == b"a page" * 1000
    with pytest.raises(OutsideSystem):
        borrowed(name)


def test_a_number_that_is_anothers_by_now_is_not_taken_for_it() -> None:
    with lent(b"one") as name:
        pass
    with lent(b"other") as other:
        assert other.split()[:2] == name.split()[:2]
        with pytest.raises(OutsideSystem, match="gone"):
            borrowed(name)


def test_what_could_still_change_is_not_looked_at() -> None:
    number = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    try:
        os.write(number, b"pixels")
        with pytest.raises(OutsideSystem, match="not sealed"):
            borrowed(f"{os.getpid()} {number} {os.fstat(number).st_ino}".encode())
    finally:
        os.close(number)


def test_nothing_is_borrowed_outside_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GROUP)
    with lent(b"a page") as name, pytest.raises(OutsideSystem, match="another group"):
        borrowed(name)


@given(st.binary(max_size=40) | st.from_regex(r"[0-9]{1,12} [0-9]{1,12} [0-9]{1,22}", fullmatch=True).map(str.encode))
def test_any_bytes_are_a_name_or_an_error(name: bytes) -> None:
    with pytest.raises(OutsideSystem):
        borrowed(name)
