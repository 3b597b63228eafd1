import asyncio

import pytest

from bentos.deadline import HEADER, Deadline
from ocr_ops.core.errors import TooLate, UsageError


def test_what_remains_goes_over_a_hop_whatever_the_clocks_say() -> None:
    first = Deadline.after(30)
    second = Deadline.from_header(first.header, most=600)
    assert 29 < second.remaining() <= 30


def test_nobody_is_given_more_than_the_most() -> None:
    assert Deadline.from_header("999999999", most=5).remaining() <= 5
    assert 4 < Deadline.from_header(None, most=5).remaining() <= 5


def test_whose_deadline_passed_is_told() -> None:
    """The caller's, who can give more time; or that of the service, which is then slow."""
    assert Deadline.from_header("1000", most=5).too_late("page.png").http_status == 504
    assert Deadline.from_header("9000", most=5).too_late("page.png").http_status == 503
    assert Deadline.from_header(None, most=5).too_late("page.png").http_status == 503


@pytest.mark.parametrize("value", ["", "soon", "-1", "1.5", "１２", "9" * 12])
def test_other_headers_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match=HEADER):
        Deadline.from_header(value, most=5)


def test_what_has_passed_has_passed() -> None:
    passed = Deadline.after(-1)
    assert passed.header == "0"
    with pytest.raises(TooLate, match=r"page\.png: not done") as late:
        passed.require("page.png")
    assert late.value.http_status == 503
    Deadline.after(5).require("page.png")

    async def wait() -> None:
        async with Deadline.after(0.01).timeout():
            await asyncio.sleep(20)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
