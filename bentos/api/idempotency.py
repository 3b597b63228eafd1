"""Idempotency keys: a request sent again is answered as it was the first time, and done once.

A key is its caller's own. Only successes are kept: what failed may be sent again, corrected, under the same key.
"""

import asyncio
import logging
import re
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from bentos.api.form import Asked
from bentos.api.problems import Refusal
from bentos.sealed import Sealer, configured_keys, kept_keys
from bentos.shared import Shared
from bentos.store import Store
from ocr_ops.core.errors import StoreAway
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.workspace import Workspace

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_SECONDS = 24 * 3600
KEPT_BYTES = 32 * 2**20
"""In a process or a file; of one answer in a file or Redis a quarter of it."""

PATTERN = r'^("[ !#-\[\]-~]{1,255}"|[!#-\[\]-~]{1,255})$'
"""A key, as JSON Schema has it: in quotes, as a structured header, or bare."""
_KEY = re.compile(PATTERN)
_CLAIMED = """
local found = redis.call('GET', KEYS[1])
if not found then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return found
"""
_HELD = """
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0
"""
LEASE, BEAT = 10.0, 2.0
"""Seconds: how long a key waits for a process that died while it answered, and how often one that lives says so."""
_OVERHEAD = 300
"""Bytes an entry takes beside its value."""

log = logging.getLogger("bentoml.ocr_ops")


class Place(Protocol):
    """Where keys are kept: values by name, for a time."""

    async def claim(self, name: str, value: bytes, seconds: float) -> bytes | None:
        """Puts `value` there unless there is one, which is returned."""

    async def hold(self, name: str, value: bytes, seconds: float) -> None:
        """Keeps `value` there for so long from now on, if that is what there is."""

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """Puts `value` there, whatever there is."""

    async def drop(self, name: str) -> None:
        """Forgets the name."""


@dataclass(slots=True)
class Here:
    """In this process; the oldest go when there are too many bytes."""

    most: int = KEPT_BYTES
    held: int = 0
    """Bytes."""
    _entries: OrderedDict[str, tuple[float, bytes]] = field(default_factory=OrderedDict)

    async def claim(self, name: str, value: bytes, seconds: float) -> bytes | None:
        until, found = self._entries.get(name, (0.0, b""))
        if until > time.monotonic():
            return found
        await self.put(name, value, seconds)
        return None

    async def hold(self, name: str, value: bytes, seconds: float) -> None:
        if name in self._entries and self._entries[name][1] == value:
            self._entries[name] = (time.monotonic() + seconds, value)

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        await self.drop(name)
        self._entries[name] = (time.monotonic() + seconds, value)
        self.held += len(value) + _OVERHEAD
        while self.held > self.most:
            await self.drop(next(iter(self._entries)))

    async def drop(self, name: str) -> None:
        _, found = self._entries.pop(name, (0.0, None))
        if found is not None:
            self.held -= len(found) + _OVERHEAD


@dataclass(frozen=True, slots=True)
class There:
    """In Redis, for all replicas; while it is away, in this process."""

    store: Store
    here: Here

    async def claim(self, name: str, value: bytes, seconds: float) -> bytes | None:
        at, milliseconds = self._at(name), round(seconds * 1000)
        try:
            found: bytes | None = await self.store.script(_CLAIMED, [at], [value, milliseconds])
        except StoreAway:
            return await self.here.claim(name, value, seconds)
        return found

    async def hold(self, name: str, value: bytes, seconds: float) -> None:
        await self.here.hold(name, value, seconds)
        with suppress(StoreAway):
            await self.store.script(_HELD, [self._at(name)], [value, round(seconds * 1000)])

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        if len(value) > KEPT_BYTES // 4:
            await self.drop(name)
            return
        try:
            await self.store.run("SET", self._at(name), value, "PX", round(seconds * 1000))
        except StoreAway:
            await self.here.put(name, value, seconds)

    async def drop(self, name: str) -> None:
        await self.here.drop(name)
        with suppress(StoreAway):
            await self.store.run("DEL", self._at(name))

    def _at(self, name: str) -> str:
        return self.store.key("idempotency", name)


class Beside:
    """In a file, for the workers of one machine; while it cannot be used, in this process. The oldest go when there are
    too many bytes, and those whose time is over when others come.
    """

    def __init__(self, path: Path, here: Here, most: int = KEPT_BYTES) -> None:
        self.file = Shared(path, _prepare, "idempotency keys are each worker's own")
        self.here, self.most = here, most

    async def claim(self, name: str, value: bytes, seconds: float) -> bytes | None:
        def claim(database: sqlite3.Connection) -> bytes | None:
            query = "SELECT value FROM answers WHERE name = ? AND until > ?"
            row = database.execute(query, (name, time.time())).fetchone()
            if row is not None:
                return bytes(row[0])
            self._put(database, name, value, seconds)
            return None

        try:
            return await self.file.run(claim)
        except StoreAway:
            return await self.here.claim(name, value, seconds)

    async def hold(self, name: str, value: bytes, seconds: float) -> None:
        await self.here.hold(name, value, seconds)
        update, values = (
            "UPDATE answers SET until = ? WHERE name = ? AND value = ?",
            (time.time() + seconds, name, value),
        )
        with suppress(StoreAway):
            await self.file.run(lambda database: database.execute(update, values))

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        if len(value) > self.most // 4:
            await self.drop(name)
            return
        try:
            await self.file.run(lambda database: self._put(database, name, value, seconds))
        except StoreAway:
            await self.here.put(name, value, seconds)

    async def drop(self, name: str) -> None:
        await self.here.drop(name)
        with suppress(StoreAway):
            await self.file.run(lambda database: database.execute("DELETE FROM answers WHERE name = ?", (name,)))

    def _put(self, database: sqlite3.Connection, name: str, value: bytes, seconds: float) -> None:
        now = time.time()
        database.execute("DELETE FROM answers WHERE name = ? OR until <= ?", (name, now))
        values = (name, now + seconds, len(value) + _OVERHEAD, value)
        database.execute("INSERT INTO answers (name, until, size, value) VALUES (?, ?, ?, ?)", values)
        (held,) = database.execute("SELECT sum(size) FROM answers").fetchone()
        while held > self.most:
            number, size = database.execute("SELECT number, size FROM answers ORDER BY number LIMIT 1").fetchone()
            database.execute("DELETE FROM answers WHERE number = ?", (number,))
            held -= size


def _prepare(database: sqlite3.Connection) -> None:
    # What is erased is overwritten. The index has the sizes: they are summed up without a look at the answers.
    database.executescript(
        "PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;"
        "CREATE TABLE IF NOT EXISTS answers"
        " (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, until REAL, size INTEGER, value BLOB);"
        "CREATE INDEX IF NOT EXISTS answers_until ON answers (until, size);"
    )


class Idempotency:
    """Of one gateway process."""

    def __init__(self, place: Place, sealer: Sealer) -> None:
        self.place = place
        self.sealer = sealer

    @classmethod
    def over(cls, store: Store | None, workers: int = 1) -> "Idempotency":
        """In Redis where there is one and a key to seal answers with; else in a file where this machine has several
        workers, any of which may be sent a request again; else in this process.
        """
        keys = configured_keys()
        if store is not None and keys:
            return cls(There(store, Here()), Sealer(keys[0], "idempotency", keys[1:]))
        if workers > 1:
            folder = Workspace.current().home / "idempotency"
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                keys = keys or kept_keys(folder / "key")
            except OSError as error:
                log.warning("%s: %s; idempotency keys are each worker's own", folder, error.strerror or error)
            else:
                return cls(Beside(folder / "answers.db", Here()), Sealer(keys[0], "idempotency", keys[1:]))
        return cls(Here(), Sealer.of_this_process("idempotency"))

    async def once(self, request: Request, asked: Asked, answer: Callable[[], Awaitable[Response]]) -> Response:
        """The answer, or that of before if the request has a key that asked for the same then.

        `Refusal`: 422 for no key, or one that came with another request; 409 while the first is being answered.
        """
        key = key_of(request)
        if key is None:
            return await answer()
        name = self.sealer.name(request.state.caller.id, request.url.path, key)
        mark = await asyncio.to_thread(self._mark, asked)
        found = await self.place.claim(name, mark, LEASE)
        if found is not None:
            return await self._again(key, found, name, mark) or await answer()
        kept, beat = None, asyncio.create_task(self._beat(name, mark))
        try:
            made = await answer()
            head = f"{made.status_code} {made.headers['content-type']}\n".encode()
            kept = mark + await asyncio.to_thread(self.sealer.seal, head + bytes(made.body), name)
            return made
        finally:
            beat.cancel()
            # Also of a caller who left: the key is free again.
            done = self.place.drop(name) if kept is None else self.place.put(name, kept, KEPT_SECONDS)
            await asyncio.shield(asyncio.ensure_future(done))

    async def _beat(self, name: str, mark: bytes) -> None:
        while True:
            await asyncio.sleep(BEAT)
            await self.place.hold(name, mark, LEASE)

    def _mark(self, asked: Asked) -> bytes:
        """Stands for all that decides the answer, and tells nothing of it."""
        documents = [part for one in asked.documents for part in (one.name, digest_bytes(one.data))]
        return self.sealer.name(asked.options.digest, asked.output, *documents).encode()

    async def _again(self, key: str, found: bytes, name: str, mark: bytes) -> Response | None:
        """The answer of before; None for one that can be read no more."""
        subject = f"{HEADER} `{key[:80]}`"
        if not found.startswith(mark):
            expected, remedy = "the request it came with first", "take a new key"
            raise Refusal(subject, "another request", expected, remedy, 422, "idempotency-conflict")
        if found == mark:
            expected, remedy = "patience", "send it again soon"
            retry = {"Retry-After": "1"}
            raise Refusal(subject, "being answered", expected, remedy, 409, "idempotency-in-flight", retry)
        data = await asyncio.to_thread(self.sealer.open, found[len(mark) :], name)
        if data is None:
            return None
        head, _, body = data.partition(b"\n")
        status, _, kind = head.decode().partition(" ")
        return Response(body, int(status), {REPLAYED: "true", "Content-Type": kind})


def key_of(request: Request) -> str | None:
    """What the header names; None without one. A 422 `Refusal` for what is no key."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        expected = "1 to 255 visible characters, in quotes or without"
        raise Refusal(f"header `{HEADER}`", repr(given[:40]), expected, "correct it", 422, "invalid-header")
    return given.strip('"')
