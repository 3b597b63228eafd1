"""Counters: one set of promises, kept by the file on this machine and by Redis alike."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bentos.counters import Counters, LocalCounters, Period, RedisCounters
from bentos.store import Store
from tests.redis_server import RedisServer

Run = Callable[[Callable[[Counters], Awaitable[None]]], None]
DAY, MONTH = Period("2026-11-26", 10), Period("2026-11", 25)
BOTH = {"day": DAY, "month": MONTH}


@pytest.fixture(params=["file", "redis"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a test with each kind."""

    def on_file(work: Callable[[Counters], Awaitable[None]]) -> None:
        asyncio.run(_as_coroutine(work, LocalCounters(tmp_path / "limits.db")))

    def on_redis(work: Callable[[Counters], Awaitable[None]]) -> None:
        server: RedisServer = request.getfixturevalue("redis_server")
        with server.client() as client:
            client.flushall()

        async def whole() -> None:
            store = Store(server.url, seconds=5.0)
            try:
                await work(RedisCounters(store))
            finally:
                await store.close()

        asyncio.run(whole())

    return on_file if request.param == "file" else on_redis


async def _as_coroutine(work: Callable[[Counters], Awaitable[None]], counters: Counters) -> None:
    await work(counters)


def test_a_bucket_empties_and_tells_when_it_is_fuller(run: Run) -> None:
    """Each caller has their own."""

    async def work(counters: Counters) -> None:
        taken = [await counters.take("a", 3) for _ in range(4)]
        assert [one.allowed for one in taken] == [True, True, True, False]
        assert [one.remaining for one in taken] == [2, 1, 0, 0]
        assert taken[0].wait == 0
        assert 15 < taken[3].wait <= 20
        assert (await counters.take("b", 3)).allowed

    run(work)


def test_a_bucket_fills_as_time_goes(run: Run) -> None:
    """Sixty thousand a minute are one a millisecond."""

    async def work(counters: Counters) -> None:
        while (await counters.take("a", 600)).allowed:
            pass
        taken = await counters.take("a", 600)
        await asyncio.sleep(taken.wait + 0.02)
        assert (await counters.take("a", 600)).allowed

    run(work)


def test_of_many_at_once_just_as_many_get_a_token_as_there_are(run: Run) -> None:
    """Not one more."""

    async def work(counters: Counters) -> None:
        taken = await asyncio.gather(*(counters.take("a", 7) for _ in range(60)))
        assert sum(one.allowed for one in taken) == 7

    run(work)


def test_pages_are_added_to_all_periods_or_to_none(run: Run) -> None:
    """What would overflow one is refused, unless it was read already."""

    async def work(counters: Counters) -> None:
        assert await counters.add("a", 10, BOTH, force=False) == {"day": 10, "month": 10}
        assert await counters.add("a", 1, BOTH, force=False) is None
        tomorrow = {"day": Period("2026-11-27", 10), "month": MONTH}
        assert await counters.add("a", 9, tomorrow, force=False) == {"day": 9, "month": 19}
        assert await counters.add("a", -4, tomorrow, force=True) == {"day": 5, "month": 15}
        assert await counters.add("a", 30, tomorrow, force=True) == {"day": 35, "month": 45}
        assert await counters.add("a", -99, tomorrow, force=True) == {"day": 0, "month": 0}
        assert await counters.add("b", 1, BOTH, force=False) == {"day": 1, "month": 1}

    run(work)


def test_of_many_at_once_just_as_many_pages_are_granted_as_there_are(run: Run) -> None:
    async def work(counters: Counters) -> None:
        found = await asyncio.gather(*(counters.add("a", 1, BOTH, force=False) for _ in range(60)))
        assert sum(one is not None for one in found) == 10

    run(work)


def test_workers_share_the_file_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Four at a time on one quota."""
    path = tmp_path / "home" / "limits.db"

    def worker(_: int) -> int:
        async def some() -> int:
            counters = LocalCounters(path)
            return sum([await counters.add("a", 1, BOTH, force=False) is not None for _ in range(5)])

        return asyncio.run(some())

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(worker, range(4))) == 10


def test_workers_that_make_the_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    """SQLite itself would tell all but one of them that the database is locked."""
    path, counters = tmp_path / "limits.db", LocalCounters(tmp_path / "limits.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        taken = pool.submit(lambda: asyncio.run(_as_coroutine(_take_one, counters)))
        with pytest.raises(TimeoutError):
            taken.result(0.2)
        other.execute("ROLLBACK")
        taken.result()
        assert other.execute("SELECT caller FROM buckets").fetchall() == [("a",)]


async def _take_one(counters: Counters) -> None:
    assert await counters.take("a", 60)


def test_a_file_that_is_busy_for_a_moment_loses_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it was open already or is not yet: meanwhile memory counts, and the log tells each change once."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("bentos.shared.BUSY_SECONDS", 0.01)
    monkeypatch.setattr("bentos.shared.AGAIN_SECONDS", 3600.0)
    path = tmp_path / "limits.db"

    async def work() -> None:
        first, second = LocalCounters(path), LocalCounters(path)
        assert await first.add("a", 10, BOTH, force=False)
        assert [(await first.take("b", 1)).allowed for _ in range(2)] == [True, False]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for one in (first, second):
                assert await one.add("a", 9, BOTH, force=False) == {"day": 9, "month": 9}
                assert await one.add("a", 2, BOTH, force=False) is None
                assert (await one.take("b", 1)).allowed
            assert caplog.text.count("counting in memory") == 2
            other.execute("ROLLBACK")
        for one in (first, second):
            one.file._again = 0.0
            assert await one.add("a", 1, BOTH, force=False) is None
            assert await one.add("a", 0, BOTH, force=True) == {"day": 10, "month": 10}
            assert not (await one.take("b", 1)).allowed
        assert caplog.text.count(": can be used again") == 2

    asyncio.run(work())


def test_without_a_disk_it_counts_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And says so: a folder that cannot be made, and a file that is none of ours."""
    (tmp_path / "plain").write_text("no folder, and no database either, but a text of some length")

    async def work(path: Path) -> None:
        counters = LocalCounters(path)
        assert [(await counters.take("a", 1)).allowed for _ in range(2)] == [True, False]

    for path in (tmp_path / "plain" / "limits.db", tmp_path / "plain"):
        asyncio.run(work(path))
        assert "in memory" in caplog.text
        caplog.clear()
