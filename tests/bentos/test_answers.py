"""Cache and single flight, around a real engine, in this process and across replicas with a real Redis."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Self

import pytest
from prometheus_client import REGISTRY

from bentos.answers import Answers, _Question
from bentos.cache import Cache, MemoryCache, RedisCache
from bentos.deadline import Deadline
from bentos.sealed import Sealer
from bentos.store import Store
from ocr_ops.core import metrics
from ocr_ops.core.errors import ModelAway, StoreAway, TooLate, UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings
from tests.bentos.engines import OPTIONS, WatchedEngine, document
from tests.redis_server import RedisServer
from tests.tiny import build_bundle

DOCUMENT = document(["abc ab"], ["cab"], ["ba ac"])
LINES = "abc ab\fcab\fba ac"
KEY = os.urandom(32)
QUESTION = _Question(DOCUMENT, "a.tif", OPTIONS, Deadline.after(3600))
AWAY = ModelAway("model service", "gone", "an answer", "try again")


def memory(**options: object) -> MemoryCache:
    given = {"most": 2**20, "seconds": 60.0, **options}
    return MemoryCache(Sealer.of_this_process("cache"), **given)  # type: ignore[arg-type]


def soon() -> Deadline:
    return Deadline.after(60)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  it is what is being tested that would tell
            await asyncio.sleep(0.01)


async def read(answers: Answers, data: bytes = DOCUMENT, options: ReadOptions = OPTIONS, **more: bool) -> Reading:
    return await answers.read(data, "a.tif", options, soon(), **more)


def counted(result: str) -> float:
    return REGISTRY.get_sample_value(metrics.CACHE_ASKED, {"result": result}) or 0.0


Work = Callable[[Answers, WatchedEngine], Awaitable[None]]
Answering = Callable[[Work], None]


@pytest.fixture(params=["memory", "redis"])
def answering(request: pytest.FixtureRequest, tiny_release: Release) -> Answering:
    """Runs a test's work with answers over each kind of cache."""

    def run(work: Work) -> None:
        async def main() -> None:
            engine = WatchedEngine(tiny_release)
            async with AsyncExitStack() as held:
                cache: Cache = memory()
                if request.param == "redis":
                    store = Store(request.getfixturevalue("redis_server").url, seconds=5.0)
                    held.push_async_callback(store.close)
                    cache = RedisCache(store, Sealer(KEY, "cache"), seconds=60)
                answers = Answers(engine, cache)
                held.push_async_callback(answers.close)
                await work(answers, engine)

        asyncio.run(main())

    if request.param == "redis":
        request.getfixturevalue("redis_server")
    return run


def test_what_was_read_is_not_read_again(answering: Answering) -> None:
    """The same answer to the letter, by stream too; and it is counted."""

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        hits, misses = counted("hit"), counted("miss")
        first = await read(answers)
        assert first.text == LINES
        await answers.close()
        assert await read(answers) == first
        assert tuple([page async for page in answers.stream(DOCUMENT, "b.tif", OPTIONS, soon())]) == first.pages
        assert engine.calls == 1
        assert (counted("hit") - hits, counted("miss") - misses) == (2, 1)

    answering(work)


def test_another_question_is_another_answer(answering: Answering) -> None:
    async def work(answers: Answers, engine: WatchedEngine) -> None:
        for data, options in [
            (DOCUMENT, OPTIONS),
            (DOCUMENT + b"\0", OPTIONS),
            (DOCUMENT, ReadOptions(orientation=False, contrast=False)),
        ]:
            assert (await read(answers, data, options)).text == LINES
        assert engine.calls == 3

    answering(work)


def test_ten_who_ask_at_once_are_answered_by_one_reading(answering: Answering) -> None:
    async def work(answers: Answers, engine: WatchedEngine) -> None:
        found = await asyncio.gather(*(read(answers) for _ in range(10)))
        assert {reading.text for reading in found} == {LINES}
        assert engine.calls == 1

    answering(work)


def test_a_leader_that_leaves_leaves_the_others_their_reading(answering: Answering) -> None:
    async def work(answers: Answers, engine: WatchedEngine) -> None:
        engine.gate.clear()
        tasks = [asyncio.create_task(read(answers)) for _ in range(4)]
        await until(lambda: engine.calls == 1)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.wait(tasks[:1])
        engine.gate.set()
        assert (await tasks[1]).text == (await tasks[3]).text == LINES
        assert engine.calls == 1

    answering(work)


def test_when_all_have_left_the_reading_ends(answering: Answering) -> None:
    """And what was half done is nobody's answer."""

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        engine.gate.clear()
        tasks = [asyncio.create_task(read(answers)) for _ in range(3)]
        await until(lambda: engine.calls == 1)
        for task in tasks:
            task.cancel()
        await until(lambda: engine.left == 1)
        engine.gate.set()
        assert (await read(answers)).text == LINES
        assert engine.calls == 2

    answering(work)


def test_a_leader_that_fails_hands_over(answering: Answering) -> None:
    """Its failure is its own; the next in line reads, once, for all who are left."""

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        engine.failures = [(0, AWAY)]
        found = await asyncio.gather(*(read(answers) for _ in range(5)), return_exceptions=True)
        assert sum(one is AWAY for one in found) == 1
        assert [one.text for one in found if isinstance(one, Reading)] == [LINES] * 4
        assert engine.calls == 2

    answering(work)


def test_when_all_fail_all_are_told(answering: Answering) -> None:
    async def work(answers: Answers, engine: WatchedEngine) -> None:
        engine.failures = [(1, AWAY)] * 5
        found = await asyncio.gather(*(read(answers) for _ in range(5)), return_exceptions=True)
        assert found == [AWAY] * 5
        assert (await read(answers)).text == LINES

    answering(work)


def test_a_stream_taken_over_goes_on_where_it_was(answering: Answering) -> None:
    """After two pages the leader's reading fails: the follower gets each page once, in order."""

    async def stream(answers: Answers) -> str:
        pages = answers.stream(DOCUMENT, "a.tif", OPTIONS, soon())
        return Reading(pages=tuple([page async for page in pages])).text

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        engine.gate.clear()
        engine.failures = [(2, AWAY)]
        tasks = [asyncio.create_task(stream(answers)) for _ in range(3)]
        await until(lambda: [flight.passengers for flight in answers._flights.values()] == [3])
        engine.gate.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert (found.count(AWAY), found.count(LINES)) == (1, 2)
        assert engine.calls == 2

    answering(work)


def test_a_leader_whose_time_is_up_hands_over(answering: Answering) -> None:
    """Its deadline is its own; and a follower whose time is up leaves the others alone."""

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        engine.gate.clear()
        hasty = [answers.read(DOCUMENT, "a.tif", OPTIONS, Deadline.after(seconds)) for seconds in (0.3, 60, 0.4)]
        tasks = [asyncio.create_task(one) for one in hasty]
        for late in (tasks[0], tasks[2]):
            with pytest.raises(TooLate):
                await late
        engine.gate.set()
        assert (await tasks[1]).text == LINES

    answering(work)


def test_a_stream_gives_its_pages_as_they_come(answering: Answering) -> None:
    """To one who joins later, too; and one who does not listen holds up nobody."""

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        async with (
            aclosing(answers.stream(DOCUMENT, "a.tif", OPTIONS, soon())) as deaf,
            aclosing(answers.stream(DOCUMENT, "a.tif", OPTIONS, soon())) as keen,
        ):
            await anext(deaf)
            assert [page.text async for page in keen] == LINES.split("\f")
        assert engine.calls == 1

    answering(work)


def test_a_document_that_cannot_be_read_is_told_to_all_at_once(answering: Answering) -> None:
    """It is the document's fault: nobody tries again. To each by the name that they gave it."""

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        names = [f"{number}.tif" for number in range(5)]
        asked = (answers.read(DOCUMENT[:400], name, OPTIONS, soon()) for name in names)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, UnreadableDocument) for one in found)
        assert [one.subject for one in found if isinstance(one, UnreadableDocument)] == names
        assert engine.calls == 1

    answering(work)


def test_nothing_is_kept_of_one_who_asks_for_it(answering: Answering) -> None:
    """Nor is an answer of another's shared with them."""

    async def work(answers: Answers, engine: WatchedEngine) -> None:
        for _ in range(2):
            assert (await read(answers, cached=False)).text == LINES
        await read(answers)
        await read(answers, cached=False)
        assert engine.calls == 4

    answering(work)


def test_a_purge_forgets_also_what_is_just_being_read(answering: Answering) -> None:
    async def work(answers: Answers, engine: WatchedEngine) -> None:
        await read(answers)
        engine.gate.clear()
        other = asyncio.create_task(read(answers, DOCUMENT + b"\0"))
        await until(lambda: engine.calls == 2)
        await answers.purge()
        engine.gate.set()
        await other
        await answers.close()
        await read(answers)
        await read(answers, DOCUMENT + b"\0")
        assert engine.calls == 4

    answering(work)


def test_where_pages_are_never_turned_asking_for_it_changes_nothing(tiny_release: Release) -> None:
    async def work() -> None:
        engine = WatchedEngine(tiny_release, orient=False)
        answers = Answers(engine, memory())
        await read(answers, options=ReadOptions())
        await read(answers, options=OPTIONS)
        assert engine.calls == 1

    asyncio.run(work())


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    async def put(cache: MemoryCache, key: str, value: bytes) -> None:
        async with cache.turn(key, 0) as turn:
            turn.kept = value

    async def get(cache: MemoryCache, key: str) -> bytes | None:
        async with cache.turn(key, 0) as turn:
            return turn.value

    async def work() -> None:
        cache = memory(most=40_000)
        for number in range(100):
            await put(cache, str(number), os.urandom(2000))
            assert await get(cache, "0") is not None
            assert cache.bytes <= 40_000
        held = [number for number in range(100) if await get(cache, str(number)) is not None]
        assert held == [0, *range(100 - len(held) + 1, 100)]
        assert len(held) > 10
        await put(cache, "large", os.urandom(6000))
        assert await get(cache, "large") is None
        assert await get(cache, "0") is not None
        await put(cache, "0", b"small")
        assert await get(cache, "0") == b"small"

    asyncio.run(work())


def test_what_is_kept_expires() -> None:
    async def work() -> None:
        cache = memory(seconds=0.05)
        async with cache.turn("a", 0) as turn:
            turn.kept = b"1"
        end = time.monotonic() + 0.06
        await until(lambda: time.monotonic() > end)
        async with cache.turn("a", 0) as turn:
            assert turn.value is None
        assert cache.bytes == 0

    asyncio.run(work())


def test_a_purge_reaches_every_process_of_the_machine(tmp_path: Path) -> None:
    """Two caches, as in two workers, with the same mark."""

    async def work() -> None:
        caches = [memory(mark=tmp_path / "home" / "purged") for _ in range(2)]
        for _ in range(3):
            for cache in caches:
                async with cache.turn("a", 0) as turn:
                    assert turn.value is None
                    turn.kept = b"1"
            await caches[0].purge()

    asyncio.run(work())


class Replicas:
    """Two processes' worth of answers over one Redis."""

    def __init__(self, server: RedisServer, *releases: Release, key: bytes = KEY, seconds: float = 5.0) -> None:
        self.stores = [Store(server.url, seconds=seconds) for _ in releases]
        self.caches = [RedisCache(store, Sealer(key, "cache"), seconds=60) for store in self.stores]
        self.engines = [WatchedEngine(release) for release in releases]
        self.answers = [Answers(*both) for both in zip(self.engines, self.caches, strict=True)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for held in (*self.answers, *self.stores):
            await held.close()


def test_replicas_read_the_same_once(redis_server: RedisServer, tiny_release: Release) -> None:
    """Twenty requests at two replicas: the second waits for the first one's answer."""

    async def work() -> None:
        async with Replicas(redis_server, tiny_release, tiny_release) as both:
            both.engines[0].gate.clear()
            first = asyncio.create_task(read(both.answers[0]))
            await until(lambda: both.engines[0].calls == 1)
            others = [asyncio.create_task(read(both.answers[number % 2])) for number in range(20)]
            await asyncio.sleep(0.2)  # time to do the wrong thing
            both.engines[0].gate.set()
            assert {(await task).text for task in (first, *others)} == {LINES}
            assert [engine.calls for engine in both.engines] == [1, 0]

    asyncio.run(work())


def test_a_stream_waits_for_no_other_replica(redis_server: RedisServer, tiny_release: Release) -> None:
    """Its pages are wanted as they come."""

    async def work() -> None:
        async with Replicas(redis_server, tiny_release, tiny_release) as both:
            both.engines[0].gate.clear()
            first = asyncio.create_task(read(both.answers[0]))
            await until(lambda: both.engines[0].calls == 1)
            pages = both.answers[1].stream(DOCUMENT, "a.tif", OPTIONS, soon())
            assert [page.text async for page in pages] == LINES.split("\f")
            both.engines[0].gate.set()
            await first

    asyncio.run(work())


def test_a_replica_that_fails_hands_over_to_another(redis_server: RedisServer, tiny_release: Release) -> None:
    async def work() -> None:
        async with Replicas(redis_server, tiny_release, tiny_release) as both:
            both.engines[0].gate.clear()
            both.engines[0].failures = [(0, AWAY)]
            first = asyncio.create_task(read(both.answers[0]))
            await until(lambda: both.engines[0].calls == 1)
            second = asyncio.create_task(read(both.answers[1]))
            both.engines[0].gate.set()
            with pytest.raises(ModelAway):
                await first
            assert (await second).text == LINES

    asyncio.run(work())


def test_a_replica_that_died_keeps_nobody_for_long(redis_server: RedisServer, tiny_release: Release) -> None:
    """Its lease is renewed by nobody."""

    async def work() -> None:
        async with Replicas(redis_server, tiny_release) as one:
            [answers], [cache] = one.answers, one.caches
            name = cache.sealer.name(await answers._key(QUESTION))
            await one.stores[0].run("SET", cache._lease(name), b"dead", "PX", 800)
            start = time.monotonic()
            assert (await read(answers)).text == LINES
            assert 0.5 < time.monotonic() - start < 10

    asyncio.run(work())


def test_no_answer_outlives_its_release(redis_server: RedisServer, tmp_path: Path, tiny_release: Release) -> None:
    """Served by A, then promoted to B, then both side by side: each answers as itself, and B's letters are B's."""
    bundle = build_bundle(tmp_path / "b", "recognition", charset="xyz ")
    second = Release.write(tmp_path / "second", tiny_release.detection, bundle)

    async def work() -> None:
        for _ in range(2):
            async with Replicas(redis_server, tiny_release, second, tiny_release, second) as mixed:
                found = [(await read(answers)).text for answers in mixed.answers]
                for answers in mixed.answers:
                    await answers.close()
                assert found == [LINES, LINES.translate(str.maketrans("abc", "xyz"))] * 2
                calls = [engine.calls for engine in mixed.engines]
        assert calls == [0] * 4

    asyncio.run(work())


def test_nor_does_one_outlive_how_it_was_served(redis_server: RedisServer, tiny_release: Release) -> None:
    async def work() -> None:
        async with Replicas(redis_server, tiny_release) as one:
            await read(one.answers[0])
            tuned = WatchedEngine(tiny_release, ServingSettings(max_side=480))
            answers = Answers(tuned, one.caches[0])
            await read(answers)
            await answers.close()
            assert tuned.calls == 1

    asyncio.run(work())


def test_redis_holds_nothing_one_could_read_or_guess(redis_server: RedisServer, tiny_release: Release) -> None:
    """No text, no digest of a document; and an entry put in another's place is none."""
    other = document(["cc"])

    async def work() -> None:
        async with Replicas(redis_server, tiny_release) as one:
            [answers] = one.answers
            await read(answers)
            await read(answers, other)
            await answers.close()
            with redis_server.client() as client:
                names = client.keys("ocr-ops:cache:value:*")
                values = [client.get(name) for name in names]
                held = b"".join([*client.keys("*"), *values])
                key = await answers._key(QUESTION)
                # A line, not its word "abc": names are in hex, where chance writes that too.
                assert not any(part.encode() in held for part in ("abc ab", *key.split()))
                assert all(client.ttl(name) > 0 for name in names)
                for name, value in zip(names, reversed(values), strict=True):
                    client.set(name, value)
            assert (await read(answers)).text == LINES
            assert (await read(answers, other)).text == "cc"
            assert one.engines[0].calls == 4

    asyncio.run(work())


def test_without_the_key_of_those_before_nothing_is_found(redis_server: RedisServer, tiny_release: Release) -> None:
    async def work() -> None:
        for key in (KEY, b"2" * 32):
            async with Replicas(redis_server, tiny_release, key=key) as one:
                assert (await read(one.answers[0])).text == LINES
                assert one.engines[0].calls == 1

    asyncio.run(work())


@pytest.mark.parametrize("ill", ["gone", "slow", "full", "read-only"])
def test_without_redis_the_service_goes_on(redis_server: RedisServer, tiny_release: Release, ill: str) -> None:
    """Whatever ails it, half-way through too: every document is read, and asking Redis takes no time."""

    async def work() -> None:
        patience = 1.0 if ill == "slow" else 10.0  # a busy machine is no illness
        async with Replicas(redis_server, tiny_release, seconds=patience) as one:
            [answers], [engine], [store] = one.answers, one.engines, one.stores
            assert await store.run("PING")
            engine.gate.clear()
            halfway = asyncio.create_task(read(answers))
            await until(lambda: engine.calls == 1)
            break_down(redis_server, ill)
            engine.gate.set()
            assert (await halfway).text == LINES
            assert (await read(answers, DOCUMENT + b"\0")).text == LINES
            assert not store.up
            asked = (read(answers, DOCUMENT + bytes(2 + number)) for number in range(8))
            assert {one.text for one in await asyncio.gather(*asked)} == {LINES}
            with pytest.raises(StoreAway):
                await answers.purge()

    try:
        asyncio.run(work())
    finally:
        if ill == "slow":
            redis_server.resume()


def break_down(server: RedisServer, ill: str) -> None:
    if ill == "gone":
        server.kill()
    elif ill == "slow":
        server.pause()
    elif ill == "full":
        server.configure("maxmemory", "1")
    else:
        with server.client() as client:
            client.replicaof("127.0.0.1", 1)
