"""What every store of jobs promises, kept by each of them."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bentos.jobs import redis
from bentos.jobs.job import MOST_TRIES, Bounds, Claim, Entry, JobStore
from bentos.jobs.redis import RedisJobs
from bentos.jobs.sqlite import _ORPHAN_SECONDS, SqliteJobs
from bentos.store import Store
from ocr_ops.core.errors import StoreAway
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[3]
BOUNDS = Bounds(unfinished=100, each=100, size=2**30)
Work = Callable[[JobStore, JobStore], Awaitable[None]]
Kept = Callable[[Work], None]


@pytest.fixture(params=["sqlite", "redis"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    """Runs a test's work with two processes' worth of one store."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")

    async def main(work: Work) -> None:
        if request.param == "sqlite":
            both: list[JobStore] = [SqliteJobs(tmp_path / "jobs") for _ in range(2)]
            clients: list[Store] = []
        else:
            clients = [Store(server.url, seconds=10.0) for _ in range(2)]
            both = [RedisJobs(client) for client in clients]
        try:
            await work(both[0], both[1])
        finally:
            for held in (*both, *clients):
                await held.close()

    return lambda work: asyncio.run(main(work))


def entry(job: str, owner: str = "ann", **changes: object) -> Entry:
    now = time.time()
    whole = Entry(id=job, owner=owner, asked="asked", ask=b"\0ask\xff", size=3, created=now, expires=now + 60)
    return replace(whole, **changes)  # type: ignore[arg-type]


async def added(store: JobStore, *jobs: Entry, document: bytes = b"doc") -> None:
    for job in jobs:
        assert await store.add(job, document, BOUNDS) == job


async def claimed(store: JobStore, lease: float = 60.0) -> Claim:
    claim = await store.claim(lease)
    assert claim is not None
    return claim


async def failed(store: JobStore, job: str) -> bool:
    found = await store.get(job)
    return found is not None and found.state == "failed"


async def soon(ask: Callable[[], Awaitable[Claim | None]]) -> Claim:
    async with asyncio.timeout(20):
        while (claim := await ask()) is None:  # noqa: ASYNC110  leases run out by the clock
            await asyncio.sleep(0.02)
    return claim


def test_a_job_is_kept_as_it_was_given(kept: Kept) -> None:
    """For other processes too; its document of any size, whole."""

    async def work(one: JobStore, other: JobStore) -> None:
        job, document = entry("a", webhook=True, total=7), os.urandom(3 * 2**20 + 1)
        await added(one, job, document=document)
        assert await other.get("a") == job
        assert await other.document("a") == document
        assert await other.pages("a") == []
        assert await other.get("b") is None
        assert await other.document("b") is None

    kept(work)


def test_from_waiting_to_done(kept: Kept) -> None:
    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"))
        claim = await claimed(other)
        assert (claim.entry.state, claim.entry.tries) == ("running", 1)
        pages = [os.urandom(5000) for _ in range(20)]
        for number, page in enumerate(pages, 1):
            assert await other.page(claim, number, page, 20 if number > 1 else None)
        found = await one.get("a")
        assert found is not None
        assert (found.state, found.done, found.total, found.tries) == ("running", 20, 20, 0)
        expires = time.time() + 90
        assert await other.finish(claim, "done", b"", expires)
        found = await one.get("a")
        assert found is not None
        assert found.finished is not None
        assert (found.state, found.expires, found.notice) == ("done", expires, "none")
        assert abs(found.finished - time.time()) < 60
        assert await one.pages("a") == pages
        assert await one.claim(60) is None

    kept(work)


def test_a_job_is_done_by_one_at_a_time(kept: Kept) -> None:
    """Many who ask at once get different jobs, in their order."""

    async def work(one: JobStore, other: JobStore) -> None:
        jobs = [entry(f"job-{number}") for number in range(12)]
        await added(one, *jobs)
        claims = await asyncio.gather(*((one, other)[number % 2].claim(60) for number in range(20)))
        found = [claim.entry.id for claim in claims if claim is not None]
        assert sorted(found) == sorted(job.id for job in jobs)

    kept(work)


def test_owners_take_turns(kept: Kept) -> None:
    """A hundred jobs of one are no reason to wait for another's one."""

    async def work(one: JobStore, _other: JobStore) -> None:
        await added(one, *(entry(f"a{number}") for number in range(5)), entry("b0", "bob"), entry("b1", "bob"))
        found = [(await claimed(one)).entry.id for _ in range(7)]
        assert found == ["a0", "b0", "a1", "b1", "a2", "a3", "a4"]

    kept(work)


def test_a_lease_that_ran_out_is_anothers(kept: Kept) -> None:
    """What was read stays; whoever had it before is not heard any more."""

    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"))
        first = await claimed(one, 0.2)
        assert await one.page(first, 1, b"1", 3)
        assert await one.hold(first, 0.3)
        second = await soon(lambda: other.claim(60))
        assert (second.entry.id, second.entry.done, second.entry.total) == ("a", 1, 3)
        assert not await one.hold(first, 60)
        assert not await one.page(first, 2, b"x", 3)
        assert not await one.finish(first, "done", b"", time.time() + 60)
        assert await other.page(second, 2, b"2", 3)
        assert await one.pages("a") == [b"1", b"2"]

    kept(work)


def test_a_job_given_back_is_free_at_once(kept: Kept) -> None:
    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"))
        first = await claimed(one)
        assert await other.claim(60) is None
        assert await one.hold(first, 0)
        second = await claimed(other)
        assert not await one.page(first, 1, b"1", None)
        assert await other.page(second, 1, b"1", None)

    kept(work)


def test_a_job_given_back_waits_and_owes_nothing(kept: Kept) -> None:
    """Nor is anything owed to it, where a page was read meanwhile."""

    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"))
        for read in (False, True):
            claim = await claimed(one)
            assert claim.entry.tries == 1
            assert not read or await one.page(claim, 1, b"1", None)
            assert await one.hold(claim, 0)
            found = await other.get("a")
            assert found is not None
            assert (found.state, found.tries) == ("waiting", 0)
        assert (await claimed(other)).entry.tries == 1

    kept(work)


def test_a_job_left_for_a_while_waits_and_its_try_counts(kept: Kept) -> None:
    """Others of its owner come before it."""

    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"), entry("b"))
        first = await claimed(one)
        assert await one.leave(first, 2.0)
        assert not await one.leave(first, 2.0)
        found = await other.get("a")
        assert found is not None
        assert (found.state, found.tries) == ("waiting", 1)
        assert (await claimed(other)).entry.id == "b"
        again = await soon(lambda: other.claim(60))
        assert (again.entry.id, again.entry.tries) == ("a", 2)
        assert not await one.page(first, 1, b"1", None)

    kept(work)


def test_a_document_begun_anew_has_no_page_of_before(kept: Kept) -> None:
    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"))
        claim = await claimed(one)
        for number in range(1, 4):
            assert await one.page(claim, number, b"old", 5)
        for number, pages in ((1, [b"new"]), (2, [b"new"] * 2)):
            assert await one.page(claim, number, b"new", 5)
            found = await other.get("a")
            assert found is not None
            assert found.done == number
            assert await other.pages("a") == pages

    kept(work)


def test_a_page_that_fells_its_readers_is_given_up(kept: Kept) -> None:
    """But only one that does so again and again, without a page between."""

    async def work(one: JobStore, _other: JobStore) -> None:
        await added(one, entry("a", webhook=True))
        for number in range(1, 3):
            for _ in range(MOST_TRIES - 1):
                await soon(lambda: one.claim(0.05))
            claim = await soon(lambda: one.claim(0.5))
            assert await one.page(claim, number, b"p", None)
        for _ in range(MOST_TRIES + 2):
            await one.hold(await soon(lambda: one.claim(60)), 0)  # given back in peace
        for _ in range(MOST_TRIES):
            await soon(lambda: one.claim(0.05))
        async with asyncio.timeout(20):
            while (await one.claim(60)) is None and not await failed(one, "a"):  # noqa: ASYNC110  as above
                await asyncio.sleep(0.02)
        assert await one.claim(60) is None
        found = await one.get("a")
        assert found is not None
        assert (found.state, found.done, found.failure, found.notice) == ("failed", 2, b"", "due")

    kept(work)


def test_cancelled_is_cancelled(kept: Kept) -> None:
    """Waiting or running; its document is gone at once, and its reader told."""

    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"), entry("b"))
        claim = await claimed(one)
        assert await one.page(claim, 1, b"1", None)
        for job in ("a", "b"):
            found = await other.cancel(job, time.time() + 60)
            assert found is not None
            assert found.state == "cancelled"
            assert await other.document(job) is None
            assert await other.pages(job) == []
        assert not await one.hold(claim, 60)
        assert not await one.page(claim, 2, b"2", None)
        assert await one.claim(60) is None
        assert await other.cancel("nobody", time.time()) is None

    kept(work)


def test_what_is_over_cannot_be_cancelled(kept: Kept) -> None:
    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"))
        claim = await claimed(one)
        await one.page(claim, 1, b"1", None)
        await one.finish(claim, "done", b"", time.time() + 60)
        found = await other.cancel("a", time.time() + 60)
        assert found is not None
        assert found.state == "done"
        assert await other.pages("a") == [b"1"]

    kept(work)


def test_submitted_again_it_is_the_same_job(kept: Kept) -> None:
    """Also by many at once; what differs is refused."""

    async def work(one: JobStore, other: JobStore) -> None:
        first = entry("a")
        found = await asyncio.gather(*((one, other)[turn % 2].add(first, b"doc", BOUNDS) for turn in range(8)))
        assert found == [first] * 8
        await claimed(one)
        again = await other.add(entry("a"), b"again", BOUNDS)
        assert isinstance(again, Entry)
        assert (again.state, again.created) == ("running", first.created)
        assert await other.document("a") == b"doc"
        assert await other.add(entry("a", asked="another"), b"other", BOUNDS) == "asked"
        assert await one.claim(60) is None

    kept(work)


def test_what_may_be_kept_is_bounded(kept: Kept) -> None:
    async def work(one: JobStore, other: JobStore) -> None:
        async def add(job: Entry, **bounds: int) -> object:
            return await one.add(job, b"doc", replace(BOUNDS, **bounds))

        await added(other, entry("a"), entry("b"))
        assert await add(entry("c"), each=2) == "each"
        assert await add(entry("c"), unfinished=2) == "unfinished"
        assert await add(entry("c"), size=8) == "size"
        assert isinstance(await add(entry("c", "bob"), each=2, unfinished=3, size=9), Entry)
        assert isinstance(await add(entry("a"), each=1), Entry), "one that is there is not one more"
        claim = await claimed(one)
        await one.finish(claim, "done", b"", time.time() + 60)
        assert await add(entry("d"), size=9) == "size", "what is over still takes room"
        assert isinstance(await add(entry("d"), each=2, unfinished=3, size=18), Entry)
        await other.cancel("d", time.time() + 60)
        assert await add(entry("e"), size=12) == "share"
        await other.erase("a")
        assert isinstance(await add(entry("e"), size=12), Entry)

    kept(work)


def test_pages_take_room_as_long_as_they_are_kept(kept: Kept) -> None:
    """Each as it is: one read again takes the place of the one before, and a document begun anew that of all."""

    async def work(one: JobStore, other: JobStore) -> None:
        async def room(size: int) -> bool:
            """Whether a document of three bytes finds room where `size` bytes more may be kept."""
            found = await other.add(entry("b", "bob"), b"doc", replace(BOUNDS, size=size + 3))
            await other.erase("b")
            return isinstance(found, Entry)

        async def takes(size: int) -> bool:
            return await room(size) and not await room(size - 1)

        await added(one, entry("a"))
        claim = await claimed(one)
        assert await takes(3)
        for number, page, size in (
            (1, b"p" * 10, 13),
            (2, b"p" * 5, 18),
            (2, b"p" * 7, 20),
            (1, b"p", 4),
            (2, b"pp", 6),
        ):
            assert await one.page(claim, number, page, None)
            assert await takes(size)
        await one.finish(claim, "done", b"", time.time() + 60)
        assert await takes(6)
        await one.erase("a")
        assert await takes(0)

    kept(work)


def test_nobody_takes_the_room_of_all(kept: Kept) -> None:
    """An owner's documents take what is left free, at most: the next finds as much room as all before have each."""

    async def work(one: JobStore, other: JobStore) -> None:
        taken = {}
        for owner in ("ann", "bob", "eve"):
            for number in range(9):
                found = await one.add(entry(f"{owner}{number}", owner), b"doc", replace(BOUNDS, size=24))
                if not isinstance(found, Entry):
                    taken[owner] = (number, found)
                    break
        assert taken == {"ann": (4, "share"), "bob": (2, "share"), "eve": (1, "share")}
        await other.erase("ann0")
        assert isinstance(await one.add(entry("eve9", "eve"), b"doc", replace(BOUNDS, size=24)), Entry)

    kept(work)


def test_an_owner_sees_their_own(kept: Kept) -> None:
    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a"), entry("b", "bob"), entry("c"))
        assert [job.id for job in await other.mine("ann")] == ["c", "a"]
        assert [job.id for job in await other.mine("bob")] == ["b"]
        assert await other.mine("eve") == []

    kept(work)


def test_what_expires_leaves_nothing(kept: Kept, tmp_path: Path) -> None:
    """It is gone from view at once, and from everywhere with the next sweep."""

    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a", expires=time.time() + 0.3), entry("b"))
        claim = await claimed(one)
        assert claim.entry.id == "a"
        await one.page(claim, 1, b"1", None)
        async with asyncio.timeout(20):
            while await other.get("a") is not None:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.05)
        assert [job.id for job in await other.mine("ann")] == ["b"]
        await other.sweep()
        assert await one.document("a") is None
        assert await one.pages("a") == []
        assert not await one.page(claim, 2, b"2", None)
        assert isinstance(await one.add(entry("c"), b"doc", replace(BOUNDS, each=2, size=9)), Entry)
        await other.sweep()
        assert await one.document("b") == b"doc"

    kept(work)


def test_a_webhook_is_due_when_its_job_is_over(kept: Kept) -> None:
    """Claimed by one, tried again when it says so, and then no more."""

    async def work(one: JobStore, other: JobStore) -> None:
        await added(one, entry("a", webhook=True), entry("b"))
        assert await one.claim_notice(60, 9) is None
        for _ in range(2):
            await one.finish(await claimed(one), "done", b"", time.time() + 60)
        notice = await soon(lambda: one.claim_notice(0.2, 9))
        assert (notice.entry.id, notice.entry.notices) == ("a", 1)
        again = await soon(lambda: other.claim_notice(60, 9))
        assert again.entry.notices == 2
        assert not await one.noticed(notice, "sent", 0), "the lease had run out"
        assert await other.noticed(again, "due", 0.2)
        assert await one.claim_notice(60, 9) is None
        last = await soon(lambda: one.claim_notice(60, 9))
        assert await one.noticed(last, "sent", 0)
        found = await other.get("a")
        assert found is not None
        assert (found.notice, found.notices) == ("sent", 3)
        assert await other.claim_notice(60, 9) is None

    kept(work)


def test_webhooks_of_one_owner_leave_room_for_others(kept: Kept) -> None:
    """However many are due; those that are tried again later, and those whose teller died, count no more."""

    async def work(one: JobStore, other: JobStore) -> None:
        for job in [*(entry(f"a{number}", webhook=True) for number in range(4)), entry("b", "bob", webhook=True)]:
            await added(one, job)
            await one.finish(await claimed(one), "done", b"", time.time() + 60)
        first = await soon(lambda: one.claim_notice(60, 2))
        died = await soon(lambda: other.claim_notice(0.2, 2))
        assert {first.entry.owner, died.entry.owner} == {"ann"}
        bobs = await soon(lambda: other.claim_notice(60, 1))
        assert bobs.entry.owner == "bob"
        again = await soon(lambda: other.claim_notice(60, 2))
        assert await other.claim_notice(60, 2) is None
        assert await one.noticed(first, "due", 60)
        third = await soon(lambda: other.claim_notice(60, 2))
        assert len({first.entry.id, again.entry.id, third.entry.id}) == 3
        assert await other.claim_notice(60, 2) is None
        assert await one.noticed(third, "sent", 0)
        assert (await soon(lambda: one.claim_notice(60, 2))).entry.owner == "ann"

    kept(work)


def test_a_document_that_is_cut_off_is_not_kept(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sender leaves; or is slower than its pieces are kept, which is not long: nobody may be left to erase them."""
    monkeypatch.setattr(redis, "_PIECE", 1024)

    async def work() -> None:
        store = Store(redis_server.url, seconds=10.0)
        jobs = RedisJobs(store)
        with redis_server.client() as client:

            async def half_sent() -> tuple[asyncio.Task[object], bytes]:
                adding = asyncio.create_task(jobs.add(entry("a"), bytes(2**22), BOUNDS))
                async with asyncio.timeout(20):
                    while not (keys := client.keys("*:coming:*")):  # noqa: ASYNC110  nobody tells
                        await asyncio.sleep(0)
                assert not adding.done()
                assert 0 < client.ttl(keys[0]) <= 60
                return adding, keys[0]

            adding, _ = await half_sent()
            adding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adding
            assert client.keys("*:coming:*") == []
            adding, key = await half_sent()
            client.delete(key)
            with pytest.raises(StoreAway, match="submit it again"):
                await adding
            assert client.keys("*:coming:*") == []
            assert await jobs.get("a") is None
            await added(jobs, entry("a"))
            assert client.ttl(client.keys("*:document:a")[0]) > 60
        await store.close()

    asyncio.run(work())


def test_what_is_refused_is_not_sent_to_redis(redis_server: RedisServer) -> None:
    async def work() -> None:
        store = Store(redis_server.url, seconds=10.0)
        jobs = RedisJobs(store)
        await added(jobs, entry("a"))
        with redis_server.client() as client:
            before = client.info("stats")["total_net_input_bytes"]
            for job in (entry("b"), entry("a", asked="another")):
                assert await jobs.add(job, bytes(2**22), replace(BOUNDS, each=1)) in ("each", "asked")
            assert client.info("stats")["total_net_input_bytes"] - before < 2**20
        await store.close()

    asyncio.run(work())


KILLED = """
import os, signal, sys
from pathlib import Path
from bentos.jobs.sqlite import SqliteJobs
from tests.bentos.jobs.test_stores import BOUNDS, entry

os.fsync = lambda _file: os.kill(os.getpid(), signal.SIGKILL)
SqliteJobs(Path(sys.argv[1]))._add(entry("a"), b"doc", BOUNDS)
"""


def test_documents_that_were_never_entered_are_swept(tmp_path: Path) -> None:
    """Once they are old: whoever writes them may still do so. A key that is being written stays."""
    folder = tmp_path / "jobs"
    code = subprocess.run([sys.executable, "-c", KILLED, folder], cwd=ROOT, check=False).returncode
    assert code == -signal.SIGKILL

    async def work() -> None:
        jobs = SqliteJobs(folder)
        await added(jobs, entry("b"))
        (folder / "c.document").write_bytes(b"doc")
        (folder / ".key.1234567").write_bytes(b"key")
        before = {file.name for file in folder.iterdir()}
        [cut] = folder.glob(".a.*")
        await jobs.sweep()
        assert {file.name for file in folder.iterdir()} == before
        for file in folder.iterdir():
            os.utime(file, (0, time.time() - 2 * _ORPHAN_SECONDS))
        await jobs.sweep()
        assert {file.name for file in folder.iterdir()} == before - {cut.name, "c.document"}
        await jobs.close()

    asyncio.run(work())


def test_a_gateway_waits_for_another_that_makes_the_database(tmp_path: Path) -> None:
    """SQLite itself would call it locked, and the gateway would end."""
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        opened = pool.submit(SqliteJobs, tmp_path)
        with pytest.raises(TimeoutError):
            opened.result(0.2)
        other.execute("ROLLBACK")
        store = opened.result()
        assert asyncio.run(store.mine("ann")) == []
        asyncio.run(store.close())


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    async def work() -> None:
        jobs = SqliteJobs(tmp_path / "jobs")
        await added(jobs, entry("a"))
        files = [tmp_path / "jobs", *(tmp_path / "jobs").iterdir()]
        assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files} == {0}
        assert (tmp_path / "jobs" / "a.document").exists()
        await jobs.close()

    asyncio.run(work())


def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    """As a store that is away: it is no fault of the caller's, and it may pass."""

    async def work() -> None:
        jobs = SqliteJobs(tmp_path / "jobs")
        jobs.folder = Path("/dev/full")
        with pytest.raises(StoreAway, match="expected room"):
            await jobs.add(entry("a"), b"doc", BOUNDS)
        assert await jobs.get("a") is None
        await jobs.close()

    asyncio.run(work())


def test_a_job_is_still_there_after_a_restart(tmp_path: Path) -> None:
    """Its lease was the life of a process before: the machine has started anew since."""

    async def work() -> None:
        first = SqliteJobs(tmp_path / "jobs")
        await added(first, entry("a"))
        await first.page(await claimed(first, 3600), 1, b"1", None)
        await first.close()
        second = SqliteJobs(tmp_path / "jobs")
        assert await second.claim(60) is None
        second._boot = "another"
        assert (await claimed(second)).entry.done == 1
        await second.close()

    asyncio.run(work())
