"""Limits: pages are charged as they are read, and Redis is not needed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.api.problems import Refusal
from bentos.auth import Caller
from bentos.counters import LocalCounters, Period, RedisCounters
from bentos.limits import Meter, Pages
from bentos.store import Store
from bentos.usage import Usage
from ocr_ops.core.keys import Limits


def caller(**limits: int) -> Caller:
    return Caller("ann", frozenset({"read"}), Limits(**limits))


def metered(work: Callable[[Meter], Awaitable[None]], path: Path, **defaults: int) -> None:
    async def whole() -> None:
        await work(Meter(Limits(**defaults), LocalCounters(path), None))

    asyncio.run(whole())


async def used(meter: Meter, who: Caller) -> int:
    """Pages charged to a caller today."""
    pages = meter.allowance(who)
    assert pages
    found = await meter.add(who, 0, pages.periods, force=True)
    assert found
    return found["pages-day"]


def test_a_callers_own_limits_go_before_the_services(tmp_path: Path) -> None:
    """Nought is none."""

    async def work(meter: Meter) -> None:
        assert meter.limits_of(caller()).requests_per_minute == 5
        assert meter.limits_of(caller(requests_per_minute=7)).requests_per_minute == 7
        assert await meter.take(caller(requests_per_minute=0)) is None
        assert meter.allowance(caller()) is None

    metered(work, tmp_path / "limits.db", requests_per_minute=5, pages_per_day=0)


async def _refused(usage: Usage, length: int) -> Refusal | None:
    """Reads a document of so many pages as an operation does."""
    try:
        assert usage.allowance
        await usage.allowance.cover(1)
        for _ in range(length):
            await usage.read()
    except Refusal as refusal:
        return refusal
    return None


@settings(max_examples=40)
@given(quota=st.integers(1, 60), documents=st.lists(st.integers(0, 40), max_size=6))
def test_pages_are_charged_as_they_were_read_and_never_past_the_quota_by_more_than_one(
    tmp_path_factory: pytest.TempPathFactory, quota: int, documents: list[int]
) -> None:
    """Whatever documents come: the refusal comes at the very page that the quota does not hold."""
    who = caller(pages_per_day=quota)

    async def work(meter: Meter) -> None:
        charged = 0
        for length in documents:
            pages = meter.allowance(who)
            assert pages
            usage = Usage(allowance=pages)
            refusal = await _refused(usage, length)
            if refusal is not None:
                assert refusal.status == 429
                assert 0 < int(refusal.headers["Retry-After"]) <= 86_400
            assert (refusal is not None) == (charged + max(1, usage.pages) > quota)
            await pages.settle(usage.pages)
            charged += usage.pages
            assert await used(meter, who) == charged <= quota + 1

    metered(work, tmp_path_factory.mktemp("limits") / "limits.db")


def test_many_documents_at_once_share_a_quota(tmp_path: Path) -> None:
    """Each page is granted once."""
    who = caller(pages_per_day=100)

    async def work(meter: Meter) -> None:
        async def document() -> int:
            pages = meter.allowance(who)
            assert pages
            usage = Usage(allowance=pages)
            try:
                for _ in range(7):
                    await usage.read()
                    await asyncio.sleep(0)
            except Refusal:
                usage.pages -= 1  # the one that was not to be read
            await pages.settle(usage.pages)
            return usage.pages

        read = await asyncio.gather(*(document() for _ in range(20)))
        assert sum(read) == 100
        assert await used(meter, who) == sum(read)

    metered(work, tmp_path / "limits.db")


def test_a_worker_that_dies_has_charged_what_was_read(tmp_path: Path) -> None:
    """It settles nothing."""
    who = caller(pages_per_day=100)

    async def work(meter: Meter) -> None:
        usage = Usage(allowance=meter.allowance(who))
        for read in range(1, 40):
            assert await _refused(usage, 1) is None
            assert await used(meter, who) == read

    metered(work, tmp_path / "limits.db")


def test_a_caller_who_leaves_while_a_page_is_charged_is_given_it_back(tmp_path: Path) -> None:
    """What is being counted at that moment is."""

    class Slow(LocalCounters):
        async def add(
            self, caller: str, pages: int, periods: Mapping[str, Period], *, force: bool
        ) -> dict[str, int] | None:
            found = await super().add(caller, pages, periods, force=force)
            added.set()
            await go.wait()
            return found

    added, go = asyncio.Event(), asyncio.Event()
    who = caller(pages_per_day=100)

    async def work() -> None:
        meter = Meter(Limits(), Slow(tmp_path / "limits.db"), None)
        pages = meter.allowance(who)
        assert pages
        left = asyncio.create_task(pages.cover(1))
        await added.wait()
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        go.set()
        await pages.settle(0)
        assert await used(meter, who) == 0

    asyncio.run(work())


@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=8))
def test_a_batch_is_read_to_its_end_where_the_quota_holds_it(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int]
) -> None:
    """To the page, though its documents are read at the same time."""
    who = caller(pages_per_day=sum(lengths))

    async def work(meter: Meter) -> None:
        pages = meter.allowance(who)
        assert pages
        usage = Usage(allowance=pages)

        async def document(length: int) -> None:
            for _ in range(length):
                await usage.read()

        await pages.cover(1)
        await asyncio.gather(*(document(length) for length in lengths))
        assert pages.held == usage.pages == sum(lengths)
        await pages.settle(usage.pages)
        assert await used(meter, who) == sum(lengths)
        with pytest.raises(Refusal):
            await usage.read()

    metered(work, tmp_path_factory.mktemp("limits") / "limits.db")


def test_periods_end_with_the_day_and_the_month(tmp_path: Path) -> None:
    """UTC; also in December."""
    meter = Meter(Limits(), LocalCounters(tmp_path / "limits.db"), None)
    for text, day, month in (
        ("2026-12-31T23:59:30+00:00", 30, 30),
        ("2026-02-27T12:00:00+00:00", 43_200, 43_200 + 86_400),
        ("2026-01-01T00:00:00+00:00", 86_400, 31 * 86_400),
    ):
        pages = Pages(meter, caller(), {"pages-day": Period("x", 1)}, datetime.fromisoformat(text).astimezone(UTC))
        assert (pages.reset("pages-day"), pages.reset("pages-month")) == (day, month)


def test_without_redis_each_machine_counts_for_itself(tmp_path: Path, free_tcp_port: int) -> None:
    """Nobody waits for it, and no request fails."""

    async def whole() -> None:
        store = Store(f"redis://127.0.0.1:{free_tcp_port}")
        meter = Meter(Limits(), LocalCounters(tmp_path / "limits.db"), RedisCounters(store))
        who = caller(requests_per_minute=2, pages_per_day=1)
        try:
            taken = [await meter.take(who) for _ in range(3)]
            assert [one.allowed for one in taken if one] == [True, True, False]
            pages = meter.allowance(who)
            assert pages
            await pages.cover(1)
            with pytest.raises(Refusal):
                await pages.cover(2)
        finally:
            await store.close()

    asyncio.run(whole())
