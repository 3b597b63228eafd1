"""Jobs are read to their end, whoever dies, leaves or gets in their way."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bentos.api.problems import Refusal
from bentos.jobs import runner
from bentos.jobs.desk import Desk, JobSettings
from bentos.jobs.job import MOST_TRIES, Ask, Bounds, Entry, ReadPage
from bentos.jobs.redis import RedisJobs
from bentos.jobs.runner import Runner, _rest, failure_of
from bentos.jobs.sqlite import SqliteJobs
from bentos.jobs.webhook import Webhooks
from bentos.sealed import Sealer
from bentos.store import Store
from bentos.usage import Allowance
from ocr_ops.core.errors import ModelAway, ModelFailed, UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.core.release import Release
from ocr_ops.runtime.decoders import Decoders
from ocr_ops.runtime.documents import Limits
from tests.bentos.engines import OPTIONS, WatchedEngine, document
from tests.bentos.jobs.test_webhook import Receiver, verified
from tests.redis_server import RedisServer
from tests.runtime.test_decoders import MOST_PAGES
from tests.tiny import build_bundle

PAGES = ["abc ab", "cab", "ba ac", "cc", "a b c"]
DOCUMENT = document(*([line] for line in PAGES))
SETTINGS = JobSettings(Limits(), Bounds(unfinished=10, each=5, size=2**30), kept_seconds=600, seconds=120)
KEY = os.urandom(32)
AWAY = ModelAway("model service", "gone", "an answer", "try again")
FAILED = ModelFailed("model service", "ServerDisconnectedError, 3 times", "an answer", "try again")


def desk_in(folder: Path, settings: JobSettings = SETTINGS) -> Desk:
    return Desk(SqliteJobs(folder / "jobs"), Sealer(KEY, "jobs"), Webhooks(anywhere=True), settings)


@asynccontextmanager
async def running(
    engine: object,
    desk: Desk,
    busy: Callable[[], bool] = lambda: False,
    allowance: Callable[[Ask], Allowance | None] = lambda _ask: None,
) -> AsyncIterator[Runner]:
    one = Runner(engine, desk, at_once=1, busy=busy, allowance=allowance)  # type: ignore[arg-type]
    one.start()
    try:
        yield one
    finally:
        await one.close()


async def submitted(desk: Desk, data: bytes = DOCUMENT, **more: object) -> Entry:
    ask = Ask(**{"name": "a.tif", "options": OPTIONS, "caller": "ann", **more})  # type: ignore[arg-type]
    found = await desk.submit(ask, data)
    assert isinstance(found, Entry)
    return found


async def until(desk: Desk, job: Entry, condition: Callable[[Entry], bool]) -> Entry:
    async with asyncio.timeout(90):
        while True:
            found = await desk.find("ann", job.id)
            assert found is not None
            if condition(found):
                return found
            await asyncio.sleep(0.05)


def over(entry: Entry) -> bool:
    return entry.state in ("done", "failed", "cancelled")


def run(work: Awaitable[None]) -> None:
    async def main() -> None:
        await work

    asyncio.run(main())


def test_a_job_is_read_and_told(tmp_path: Path, tiny_release: Release) -> None:
    """All its pages, in their order; the webhook comes after it, signed, and says nothing of the document."""
    receiver = Receiver(500)

    async def work(url: str) -> None:
        desk = desk_in(tmp_path)
        async with running(WatchedEngine(tiny_release), desk):
            job = await submitted(desk, webhook=url)
            found = await until(desk, job, over)
            assert (found.state, found.done, found.total) == ("done", 5, 5)
            assert (await desk.reading(found)).text == "\f".join(PAGES)
            assert await desk.document(found) == DOCUMENT
            assert (await until(desk, job, lambda entry: entry.notice == "sent")).notices == 2
        await desk.store.close()
        for headers, body in receiver.got:
            assert verified(headers, body, desk.secret(job))
            assert json.loads(body)["job"] == job.id
            assert b"abc" not in body
            assert b"a.tif" not in body

    original, runner.BACK_OFF = runner.BACK_OFF, (0.2,)
    try:
        with receiver.running() as url:
            run(work(url))
    finally:
        runner.BACK_OFF = original


def test_receivers_that_never_answer_hold_nobody_up(tmp_path: Path, tiny_release: Release) -> None:
    """Another caller is told while all tries that one may have at a time still wait for an answer."""
    receiver, jobs = Receiver(), runner.TOLD_EACH + 2
    settings = replace(SETTINGS, bounds=replace(SETTINGS.bounds, each=jobs))
    waiting: set[asyncio.StreamWriter] = set()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.add(writer)
        await reader.read()  # to the end: who called has given up
        waiting.discard(writer)
        writer.close()

    async def work(url: str) -> None:
        desk = desk_in(tmp_path, settings)
        async with await asyncio.start_server(silent, "127.0.0.1") as server:
            never = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with running(WatchedEngine(tiny_release), desk):
                for _ in range(jobs):
                    await submitted(desk, document(["a"]), webhook=never)
                async with asyncio.timeout(90):
                    while len(waiting) < runner.TOLD_EACH:  # noqa: ASYNC110  the receiver sets no event
                        await asyncio.sleep(0.05)
                job = await submitted(desk, document(["a"]), caller="bob", webhook=url)
                async with asyncio.timeout(90):
                    while (found := await desk.find("bob", job.id)) is None or found.notice != "sent":  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                assert len(waiting) == runner.TOLD_EACH
        await desk.store.close()

    with receiver.running() as url:
        run(work(url))


def test_a_webhook_that_cannot_be_sent_is_given_up(
    tmp_path: Path, tiny_release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that goes wrong."""
    monkeypatch.setattr(runner, "BACK_OFF", (0.1, 0.1))

    class Broken(Webhooks):
        async def send(self, *_: object) -> bool:
            raise RuntimeError

    async def work() -> None:
        desk = desk_in(tmp_path)
        desk.webhooks = Broken()
        async with running(WatchedEngine(tiny_release), desk):
            job = await submitted(desk, webhook="https://example.org/")
            found = await until(desk, job, lambda entry: entry.notice == "given-up")
        assert (found.state, found.notices) == ("done", 3)
        await desk.store.close()

    run(work())


def test_nothing_of_a_document_is_kept_in_the_clear(tmp_path: Path, tiny_release: Release) -> None:
    async def work() -> None:
        desk = desk_in(tmp_path)
        async with running(WatchedEngine(tiny_release), desk):
            await until(desk, await submitted(desk), over)
        await desk.store.close()

    run(work())
    held = b"".join(file.read_bytes() for file in (tmp_path / "jobs").iterdir())
    assert len(held) > 1000
    for secret in (b"abc ab", b"a.tif", b'"lines"', DOCUMENT[:64]):
        assert secret not in held


def test_a_job_half_read_goes_on_where_it_was(tmp_path: Path, tiny_release: Release) -> None:
    """Its first reader ends, as at a restart; the second reads only the pages that are left."""

    async def work() -> None:
        desk = desk_in(tmp_path)
        engine = WatchedEngine(tiny_release)
        job = await submitted(desk)

        def busy() -> bool:
            if engine.given:  # after the first page
                engine.gate.clear()
            return False

        async with running(engine, desk, busy):
            await until(desk, job, lambda entry: entry.done == 1)
        second = WatchedEngine(tiny_release)
        async with running(second, desk):
            found = await until(desk, job, over)
        assert (found.state, found.done, found.total) == ("done", 5, 5)
        assert (await desk.reading(found)).text == "\f".join(PAGES)
        assert second.given == 4
        assert [(page.number, page.of) for page in (await desk.reading(found)).pages] == [(n, 5) for n in range(1, 6)]
        await desk.store.close()

    run(work())


def test_a_document_is_read_by_one_release(tmp_path: Path, tiny_release: Release) -> None:
    """Promoted in the middle of a job: it is begun anew, and no page is the predecessor's."""
    bundle = build_bundle(tmp_path / "b", "recognition", charset="xyz ")
    promoted = Release.write(tmp_path / "promoted", tiny_release.detection, bundle)

    async def work() -> None:
        desk = desk_in(tmp_path)
        engine = WatchedEngine(tiny_release)
        job = await submitted(desk)

        def busy() -> bool:
            if engine.given:  # after the first page
                engine.gate.clear()
            return False

        async with running(engine, desk, busy):
            await until(desk, job, lambda entry: entry.done == 1)
        async with running(WatchedEngine(promoted), desk):
            found = await until(desk, job, over)
        assert (found.state, found.done, found.total) == ("done", 5, 5)
        assert (await desk.reading(found)).text == "\f".join(PAGES).translate(str.maketrans("abc", "xyz"))
        await desk.store.close()

    run(work())


def test_a_document_is_read_by_one_release_whichever_comes_back(tmp_path: Path, tiny_release: Release) -> None:
    """Promoted, and rolled back a page later: what the first had read is not gone on with."""
    bundle = build_bundle(tmp_path / "b", "recognition", charset="xyz ")
    promoted = Release.write(tmp_path / "promoted", tiny_release.detection, bundle)

    async def work() -> None:
        desk = desk_in(tmp_path)
        job = await submitted(desk)

        async def read(release: Release, pages: int) -> None:
            engine = WatchedEngine(release)

            def busy() -> bool:
                if engine.given == pages:
                    engine.gate.clear()
                return False

            async with running(engine, desk, busy):
                await until(desk, job, lambda entry: entry.done == pages)

        await read(tiny_release, 3)
        await read(promoted, 1)
        last = WatchedEngine(tiny_release)
        async with running(last, desk):
            found = await until(desk, job, over)
        assert (found.state, found.done, last.given) == ("done", 5, 5)
        assert (await desk.reading(found)).text == "\f".join(PAGES)
        await desk.store.close()

    run(work())


def test_a_reader_is_who_read_the_last_page_that_counts(tmp_path: Path) -> None:
    """Pages beyond it may be another's, as they were kept before."""

    async def work() -> None:
        desk = desk_in(tmp_path)
        job = await submitted(desk)
        claim = await desk.store.claim(60)
        assert claim is not None
        assert await desk.reader(claim.entry) is None
        for number, reader in enumerate(("new", "old"), 1):
            page = ReadPage(reader=reader, page=Page(width=1, height=1, lines=()))
            assert await desk.store.page(claim, number, desk.sealed_page(job.id, number, page), 5)
        assert await desk.reader(replace(job, done=1)) == "new"
        assert await desk.reader(replace(job, done=2)) == "old"
        assert await desk.reader(replace(job, done=3)) is None
        await desk.store.close()

    run(work())


def test_a_failing_model_is_tried_again(tmp_path: Path, tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the page it failed at. What is wrong with a document is told at once."""
    monkeypatch.setattr(runner, "_AGAIN", 0.1)

    async def work() -> None:
        desk = desk_in(tmp_path)
        engine = WatchedEngine(tiny_release)
        engine.failures = [(2, AWAY), (1, AWAY)]
        async with running(engine, desk):
            found = await until(desk, await submitted(desk), over)
            assert found.state == "done"
            assert (await desk.reading(found)).text == "\f".join(PAGES)
            assert engine.calls == 3
            broken = await until(desk, await submitted(desk, DOCUMENT[:300]), over)
            assert broken.state == "failed"
            assert desk.failure(broken).kind == "unreadable-document"
        await desk.store.close()

    run(work())


def test_a_page_that_fails_the_model_each_time_fails_its_job(
    tmp_path: Path, tiny_release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as many tries as one that fells its reader; its owner's other jobs are read between them."""
    monkeypatch.setattr(runner, "_AGAIN", 2.0)

    async def work() -> None:
        desk = desk_in(tmp_path)
        engine = WatchedEngine(tiny_release)
        first, second = await submitted(desk), await submitted(desk)
        engine.failures = [(1, FAILED), (99, FAILED), *[(0, FAILED)] * MOST_TRIES]
        async with running(engine, desk):
            found = await until(desk, second, over)
            assert found.state == "done"
            before = await desk.find("ann", first.id)
            assert before is not None
            assert (before.state, before.done) == ("waiting", 1)
            found = await until(desk, first, over)
        assert (found.state, found.done, engine.calls) == ("failed", 1, 2 + MOST_TRIES)
        failure = desk.failure(found)
        assert (failure.kind, failure.status) == ("unreadable-document", 422)
        assert failure.found == f"page 2 had a model fail {MOST_TRIES} times"
        await desk.store.close()

    run(work())


def test_a_cancelled_job_is_let_go(tmp_path: Path, tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HEARTBEAT", 0.1)

    async def work() -> None:
        desk = desk_in(tmp_path)
        engine = WatchedEngine(tiny_release)
        engine.gate.clear()
        async with running(engine, desk):
            job = await submitted(desk)
            await until(desk, job, lambda _entry: engine.calls == 1)
            assert (await desk.remove(job)).state == "cancelled"
            async with asyncio.timeout(60):
                while not engine.left:  # noqa: ASYNC110  it is what is being tested
                    await asyncio.sleep(0.02)
        await desk.store.close()

    run(work())


def test_jobs_give_way(tmp_path: Path, tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody waits for documents a job reads a page now and then; and then it hurries."""
    monkeypatch.setattr(runner, "GIVE_WAY", 1.0)

    async def work() -> None:
        desk = desk_in(tmp_path)
        waited = [True]
        async with running(WatchedEngine(tiny_release), desk, lambda: waited[0]):
            job = await submitted(desk)
            await until(desk, job, lambda entry: entry.done == 1)
            start = time.monotonic()
            await until(desk, job, lambda entry: entry.done == 3)
            assert time.monotonic() - start > 1.5
            waited[0] = False
            await until(desk, job, over)
        await desk.store.close()

    run(work())


def test_a_caller_sees_their_own_jobs_only(tmp_path: Path, tiny_release: Release) -> None:
    async def work() -> None:
        desk = desk_in(tmp_path)
        job = await submitted(desk)
        assert await desk.find("bob", job.id) is None
        assert await desk.mine("bob") == []
        assert [one.id for one in await desk.mine("ann")] == [job.id]
        assert desk.secret(job) != desk.secret(await submitted(desk, caller="bob"))
        await desk.store.close()

    run(work())


def test_nobody_who_writes_to_redis_can_hand_a_job_to_another(redis_server: RedisServer, tiny_release: Release) -> None:
    """Whose it is stands sealed with what was asked: nothing of it is told, read or signed for whom the store says."""

    async def work() -> None:
        store = Store(redis_server.url, seconds=10.0)
        desk = Desk(RedisJobs(store), Sealer(KEY, "jobs"), Webhooks(), SETTINGS)
        job, bobs = await submitted(desk), await submitted(desk, caller="bob")
        waiting = await submitted(desk)
        async with running(WatchedEngine(tiny_release), desk):
            await until(desk, job, over)
            await store.run("HSET", store.key("jobs", f"job:{waiting.id}"), "owner", bobs.owner)
            for one in (waiting, bobs):
                async with asyncio.timeout(90):
                    while (found := await desk.store.get(one.id)) is None or not over(found):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
        await store.run("HSET", store.key("jobs", f"job:{job.id}"), "owner", bobs.owner)
        handed = await desk.find("bob", job.id)
        assert handed is not None
        failed = replace(handed, failure=desk.sealed_failure(job.id, failure_of(AWAY)))
        for use in (desk.ask, desk.secret):
            with pytest.raises(UnreadableDocument, match="another caller's"):
                use(handed)
        with pytest.raises(UnreadableDocument, match="another caller's"):
            await desk.reading(handed)
        with pytest.raises(UnreadableDocument, match="another caller's"):
            desk.failure(failed)
        assert await desk.find("ann", job.id) is None
        assert desk.ask(bobs).caller == "bob"
        await store.close()

    run(work())


@pytest.mark.parametrize("kept", ["here", "redis"])
def test_jobs_outlive_the_key_they_were_sealed_with(
    tmp_path: Path, tiny_release: Release, request: pytest.FixtureRequest, kept: str
) -> None:
    """As long as it is among those that open: listed, read to their end, signed as was told; and no others are."""
    url = request.getfixturevalue("redis_server").url if kept == "redis" else ""
    stores: list[Store] = []

    def redis_jobs() -> RedisJobs:
        stores.append(Store(url, seconds=10))
        return RedisJobs(stores[-1])

    def desk_with(*keys: bytes) -> Desk:
        places = redis_jobs() if kept == "redis" else SqliteJobs(tmp_path / "jobs")
        return Desk(places, Sealer(keys[0], "jobs", keys[1:]), Webhooks(), SETTINGS)

    async def work() -> None:
        old, new = KEY, bytes(reversed(KEY))
        ask = Ask(name="a.tif", options=OPTIONS, caller="ann")
        before, both, after = desk_with(old), desk_with(new, old), desk_with(new)
        job = await before.submit(ask, DOCUMENT, "monday")
        assert isinstance(job, Entry)
        again = await both.submit(ask, DOCUMENT, "monday")
        assert isinstance(again, Entry)
        assert again.id == job.id
        assert await both.submit(ask, DOCUMENT + b"\0", "monday") == "asked"
        assert both.secret(job) == before.secret(job)
        newer = await both.submit(ask, DOCUMENT, "tuesday")
        assert isinstance(newer, Entry)
        assert [one.id for one in await both.mine("ann")] == [newer.id, job.id]
        assert await both.find("bob", job.id) is None
        async with running(WatchedEngine(tiny_release), both):
            for one in (job, newer):
                assert (await until(both, one, over)).state == "done"
        found = await both.find("ann", job.id)
        assert found is not None
        assert (await both.reading(found)).text.split("\f") == PAGES
        assert [one.id for one in await after.mine("ann")] == [newer.id]
        assert await after.find("ann", job.id) is None
        with pytest.raises(UnreadableDocument):
            after.ask(found)
        for one in (before.store, both.store, after.store, *stores):
            await one.close()

    run(work())


def test_the_same_key_is_the_same_job(tmp_path: Path, tiny_release: Release) -> None:
    """Of one caller: another's key of that name is their own."""

    async def work() -> None:
        desk = desk_in(tmp_path)
        ask = Ask(name="a.tif", options=OPTIONS, caller="ann")
        first, again = [await desk.submit(ask, DOCUMENT, "monday") for _ in range(2)]
        others = await desk.submit(ask.model_copy(update={"caller": "bob"}), DOCUMENT, "monday")
        assert isinstance(first, Entry)
        assert isinstance(again, Entry)
        assert isinstance(others, Entry)
        assert first.id == again.id != others.id
        assert await desk.submit(ask, DOCUMENT + b"\0", "monday") == "asked"
        await desk.store.close()

    run(work())


def test_a_store_that_is_away_for_a_while_loses_nothing(redis_server: RedisServer, tiny_release: Release) -> None:
    """Redis answers nobody in the middle of a job: what is read meanwhile is kept once it does."""

    async def work() -> None:
        store = Store(redis_server.url, seconds=1.0)
        desk = Desk(RedisJobs(store), Sealer(KEY, "jobs"), Webhooks(), SETTINGS)
        engine = WatchedEngine(tiny_release)
        engine.gate.clear()
        async with running(engine, desk):
            job = await submitted(desk)
            await until(desk, job, lambda _entry: engine.calls == 1)
            redis_server.pause()
            engine.gate.set()
            async with asyncio.timeout(60):
                while store.up:  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0.02)
            redis_server.resume()
            async with asyncio.timeout(60):
                while not store.up:  # noqa: ASYNC110  as above
                    await asyncio.sleep(0.02)
            found = await until(desk, job, over)
            assert (found.state, found.done) == ("done", 5)
            assert (await desk.reading(found)).text == "\f".join(PAGES)
            assert engine.calls == 1
        await store.close()

    run(work())


def test_pages_of_a_job_are_of_its_callers_quota(tmp_path: Path, tiny_release: Release) -> None:
    """It ends where the quota does; what was read is charged, and no more."""
    usage: list[int] = []

    class Purse:
        async def cover(self, pages: int) -> None:
            if pages > 3:
                raise Refusal("quota", "used up", "3 pages", "wait", 429, "quota-used-up")

        async def settle(self, pages: int) -> None:
            usage.append(pages)

    async def work() -> None:
        desk = desk_in(tmp_path)
        async with running(WatchedEngine(tiny_release), desk, allowance=lambda _ask: Purse()):
            found = await until(desk, await submitted(desk), over)
        assert (found.state, found.done) == ("failed", 3)
        assert (desk.failure(found).kind, desk.failure(found).status) == ("quota-used-up", 429)
        assert usage == [3]
        await desk.store.close()

    run(work())


@pytest.mark.parametrize(
    ("pages", "done", "rest"),
    [
        (None, 0, None),
        (None, 3, "4-99999"),
        ("1-3,8", 2, "3,8"),
        ("8,1-3", 3, "8"),
        ("1-3,2-5,5", 4, "5"),
        ("2-4,7-9", 1, "3-4,7-9"),
        ("2", 1, "99999"),
    ],
)
def test_what_is_left_to_read(pages: str | None, done: int, rest: str | None) -> None:
    assert _rest(ReadOptions(pages=pages), done).pages == rest


@pytest.mark.parametrize("pages", MOST_PAGES)
def test_what_is_left_can_be_opened_however_many_pages_were_asked_for(pages: str) -> None:
    """It may take more room to tell than all of them took."""
    options, data, decoders = ReadOptions(pages=pages), document(*[["a"]] * 14), Decoders()
    wanted = [number for number in range(1, 15) if options.wants(number)]
    try:
        for done in range(len(wanted)):
            left = decoders.each_sheet(data, "a.tif", _rest(options, done))
            assert [sheet.number for sheet in left] == wanted[done:]
    finally:
        decoders.close()
