"""API keys as the gateway checks them: followed in their file, remembered, bounded."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bentos import api_keys
from bentos.api_keys import FAILURES, ApiKeys
from ocr_ops.core.errors import BadRecord, Overloaded
from ocr_ops.core.keys import KeyRing, Limits, Secret, change_keys, now, read_keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def make(path: Path, name: str = "a", expires: timedelta | None = None) -> str:
    end = now() + expires if expires else None
    made = change_keys(path, lambda ring: ring.create(name, ("read",), Limits(), end, now()))
    assert made.secret
    return made.secret


def checked(path: Path, work: Callable[[ApiKeys], Awaitable[None]]) -> None:
    async def whole() -> None:
        await work(ApiKeys(path))

    asyncio.run(whole())


def forged(key: str) -> str:
    """Another secret under the same handle, its check sound: only the hash can tell."""
    from ocr_ops.core import keys  # noqa: PLC0415

    start = key[:13] + key[13:-6][::-1]
    return start + keys._check(start)


def test_the_ring_is_followed_without_a_restart(path: Path) -> None:
    """Keys that are made, rotated and taken back; a file that goes away lets nobody in."""

    async def work(keys: ApiKeys) -> None:
        assert not keys.any
        first = make(path)
        assert keys.any
        found = await keys.key(first, "")
        assert found
        rotated = change_keys(path, lambda ring: ring.rotate("a", timedelta(hours=1), now()))
        assert rotated.secret
        for secret in (first, rotated.secret):
            again = await keys.key(secret, "")
            assert again
            assert again.id == found.id
        change_keys(path, lambda ring: ring.revoke("a", now()))
        assert await keys.key(first, "") is None
        assert await keys.key(rotated.secret, "") is None
        second = make(path, "b")
        assert await keys.key(second, "")
        await asyncio.to_thread(path.unlink)
        assert await keys.key(second, "") is None
        assert keys.any

    checked(path, work)


def test_a_file_that_breaks_leaves_the_last_good_ring(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And is told, once."""

    async def work(keys: ApiKeys) -> None:
        key = make(path)
        assert await keys.key(key, "")
        await asyncio.to_thread(path.write_text, "{")
        for _ in range(3):
            assert await keys.key(key, "")
        assert caplog.text.count("stay in force") == 1

    checked(path, work)


@pytest.mark.parametrize("broken", ["{", '{"keys": 7}', "a link to itself"])
def test_a_file_that_nobody_can_read_closes_the_service(
    path: Path, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in a worker that starts then, and read it never; it opens to those with a key once the file is whole."""
    key = make(path)
    whole = path.read_bytes()

    def damage() -> None:
        path.unlink()
        if broken.startswith("{"):
            path.write_text(broken)
        else:
            path.symlink_to(path)

    def repair() -> None:
        path.unlink()
        path.write_bytes(whole)

    damage()

    async def work(keys: ApiKeys) -> None:
        for _ in range(3):
            assert keys.any
            assert await keys.key(key, "") is None
        assert caplog.text.count("nobody is let in until it is whole") == 1
        await asyncio.to_thread(repair)
        assert await keys.key(key, "")
        await asyncio.to_thread(path.unlink)
        assert keys.any

    checked(path, work)


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it did not change: no descriptor was left, say."""
    key, failures = make(path), [BadRecord(path, "too many open files", "a KeyRing", "check the file")]

    def read(path: Path) -> KeyRing:
        if failures:
            raise failures.pop()
        return read_keys(path)

    monkeypatch.setattr(api_keys, "read_keys", read)

    async def work(keys: ApiKeys) -> None:
        assert keys.any
        assert await keys.key(key, "")

    checked(path, work)


def test_expired_and_unknown_keys_cost_no_hash(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expired, key = make(path, "a", timedelta(seconds=-1)), make(path, "b")
    monkeypatch.setattr(Secret, "matches", lambda *_: pytest.fail("hashed"))

    async def work(keys: ApiKeys) -> None:
        for word in (expired, key[:-1], key + "x", "", "ocr_", f"ocr_{'0' * 8}_{'0' * 49}", key.replace("_", "-")):
            assert await keys.key(word, "") is None

    checked(path, work)


def test_a_key_is_hashed_once_also_when_it_comes_many_times_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards it costs microseconds: no more than a hundredth of the hash."""
    key, calls = make(path), 0
    matches = Secret.matches

    def counted(secret: Secret, word: str) -> bool:
        nonlocal calls
        calls += 1
        return matches(secret, word)

    monkeypatch.setattr(Secret, "matches", counted)

    async def work(keys: ApiKeys) -> None:
        start = time.perf_counter()
        found = await asyncio.gather(*(keys.key(key, "") for _ in range(50)))
        slow = time.perf_counter() - start
        assert all(found)
        start = time.perf_counter()
        for _ in range(200):
            assert await keys.key(key, "")
        assert (time.perf_counter() - start) / 200 < slow / 100
        assert calls == 1

    checked(path, work)


def test_the_event_loop_goes_on_while_a_key_is_hashed(path: Path) -> None:
    """Its longest pause is a small part of the hash."""
    key = make(path)

    async def work(keys: ApiKeys) -> None:
        start, pauses = time.perf_counter(), [0.0]
        check = asyncio.create_task(keys.key(key, ""))
        while not check.done():
            before = time.perf_counter()
            await asyncio.sleep(0)
            pauses.append(time.perf_counter() - before)
        took = time.perf_counter() - start
        assert len(pauses) > 20
        assert sorted(pauses)[-5] < took / 3

    checked(path, work)


def test_wrong_keys_are_bounded_by_address(path: Path) -> None:
    """The same one costs one hash; different ones end in a time to come back, which others do not feel."""
    key = make(path)
    wrong = [forged(key[:13] + f"{number:02d}" + key[15:]) for number in range(FAILURES + 1)]

    async def work(keys: ApiKeys) -> None:
        for _ in range(3):
            assert await keys.key(wrong[0], "192.0.2.1") is None
        for word in wrong[1:FAILURES]:
            assert await keys.key(word, "192.0.2.1") is None
        with pytest.raises(Overloaded) as caught:
            await keys.key(wrong[FAILURES], "192.0.2.1")
        assert 1 <= caught.value.retry_after <= 60
        assert await keys.key(key, "192.0.2.2")
        assert await keys.key(key, "192.0.2.1"), "who has the right one, once it is known, is not locked out"

    checked(path, work)


def test_a_crowd_of_unknown_keys_is_turned_away(path: Path) -> None:
    """Before it queues: each waits for at most so many others."""
    key = make(path)
    words = [forged(key[:13] + f"{number:03d}" + key[16:]) for number in range(40)]

    async def work(keys: ApiKeys) -> None:
        found = await asyncio.gather(
            *(keys.key(word, f"192.0.2.{number}") for number, word in enumerate(words)), return_exceptions=True
        )
        assert sum(isinstance(one, Overloaded) for one in found) == 24
        assert sum(one is None for one in found) == 16

    checked(path, work)
