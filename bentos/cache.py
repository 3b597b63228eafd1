"""Cache: readings kept for a while, in this process or in Redis. Sealed, bounded, and never on a disk of ours."""

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bentos.champion import setting, switch
from bentos.sealed import KEY, Sealer, configured_keys
from bentos.store import Store
from ocr_ops.core.errors import StoreAway
from ocr_ops.core.workspace import Workspace
from ocr_ops.runtime import telemetry

PURGED = "cache-purged"
"""An empty file in the workspace; when it was last written, every worker of the machine emptied its cache."""
_OVERHEAD = 300
"""Bytes an entry takes beside its value."""
_LARGEST = 8 * 2**20
"""Bytes of a value in Redis: more would not be through in the time a call may take."""
_LEASE, _RENEW, _POLL = 6.0, 2.0, (0.02, 0.25)
"""Seconds: how long a replica that died keeps others waiting, and how often they look, at first and later."""
_RENEWED = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
_RELEASED = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"

log = logging.getLogger("bentoml.ocr_ops")


@dataclass(slots=True)
class Turn:
    """One's turn at a key: the value there is, or else the chance to say what it shall be."""

    value: bytes | None
    kept: bytes | None = field(default=None, init=False)
    """Set it to have it kept when the turn ends."""


class Cache(Protocol):
    """Values by key. The key is all that decides who shares a value: see `Answers`."""

    def turn(self, key: str, patience: float) -> AbstractAsyncContextManager[Turn]:
        """A turn; where another replica is about to have the value, it comes after at most `patience` seconds."""

    async def purge(self) -> None:
        """Forgets all values, also those of turns that began before."""


class MemoryCache:
    """In this process: what was not used for longest goes first.

    `most` bytes, `seconds` from when a value was kept. The time of `mark`, a file, tells all processes of a purge.
    """

    def __init__(self, sealer: Sealer, *, most: int, seconds: float, mark: Path | None = None) -> None:
        self.sealer, self.most, self.seconds, self.mark = sealer, most, seconds, mark
        self.bytes = 0
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._purges = 0
        self._marked = self._time_of_mark()

    @asynccontextmanager
    async def turn(self, key: str, patience: float) -> AsyncIterator[Turn]:  # noqa: ARG002  there is nobody to wait for
        self._heed_mark()
        name, purges = self.sealer.name(key), self._purges
        until, sealed = self._entries.get(name, (0.0, b""))
        if sealed and until <= time.monotonic():
            self._drop(name)
            sealed = b""
        if sealed:
            self._entries.move_to_end(name)
        turn = Turn(await asyncio.to_thread(self.sealer.open, sealed, key) if sealed else None)
        yield turn
        if turn.kept is not None:
            sealed = await asyncio.to_thread(self.sealer.seal, turn.kept, key)
            self._heed_mark()
            if self._purges == purges:
                self._keep(name, sealed)

    async def purge(self) -> None:
        self._forget()
        if self.mark is not None:
            self.mark.parent.mkdir(parents=True, exist_ok=True)
            self.mark.touch()
            os.utime(self.mark, ns=(0, max(time.time_ns(), self._marked + 1)))  # told apart, whatever the clock did
            self._marked = self._time_of_mark()

    def _keep(self, name: str, sealed: bytes) -> None:
        if len(sealed) > self.most // 8:  # one large document is no reason to forget all others
            return
        self._drop(name)
        self._entries[name] = (time.monotonic() + self.seconds, sealed)
        self.bytes += len(sealed) + _OVERHEAD
        while self.bytes > self.most:
            self._drop(next(iter(self._entries)))
        telemetry.cache_bytes(self.bytes)

    def _drop(self, name: str) -> None:
        found = self._entries.pop(name, None)
        if found is not None:
            self.bytes -= len(found[1]) + _OVERHEAD
            telemetry.cache_bytes(self.bytes)

    def _forget(self) -> None:
        self._entries.clear()
        self.bytes = 0
        self._purges += 1
        telemetry.cache_bytes(0)

    def _heed_mark(self) -> None:
        marked = self._time_of_mark()
        if marked != self._marked:
            self._marked = marked
            self._forget()

    def _time_of_mark(self) -> int:
        try:
            return self.mark.stat().st_mtime_ns if self.mark is not None else 0
        except OSError:
            return 0


class RedisCache:
    """In Redis, for all replicas: whoever is first at a key computes, and the others wait for it.

    Redis bounds it, by `maxmemory` and each value's expiry. While Redis is away there is no cache, and no waiting.
    """

    def __init__(self, store: Store, sealer: Sealer, *, seconds: float) -> None:
        self.store, self.sealer, self.seconds = store, sealer, seconds

    @asynccontextmanager
    async def turn(self, key: str, patience: float) -> AsyncIterator[Turn]:
        name = self.sealer.name(key)
        token = os.urandom(16)
        epoch, value, ours = await self._found(name, key, token, patience)
        turn = Turn(value)
        if value is not None or epoch is None:
            yield turn
            return
        renewing = asyncio.create_task(self._renew(name, token)) if ours else None
        try:
            yield turn
            if turn.kept is not None:
                sealed = await asyncio.to_thread(self.sealer.seal, turn.kept, key, epoch.hex())
                if len(sealed) <= _LARGEST:
                    with suppress(StoreAway):
                        await self.store.run("SET", self._at(name), sealed, "PX", round(self.seconds * 1000))
        finally:
            if renewing is not None:
                renewing.cancel()
                with suppress(StoreAway):
                    await self.store.script(_RELEASED, [self._lease(name)], [token])

    async def purge(self) -> None:
        """`StoreAway` when Redis cannot be told."""
        # What is sealed for the epoch before opens no more, whatever becomes of it.
        await self.store.run("SET", self.store.key("cache", "epoch"), os.urandom(16))
        cursor = b"0"
        while True:
            cursor, names = await self.store.run("SCAN", cursor, "MATCH", self._at("*"), "COUNT", 500)
            if names:
                await self.store.run("UNLINK", *names)
            if int(cursor) == 0:
                return

    async def _found(
        self, name: str, key: str, token: bytes, patience: float
    ) -> tuple[bytes | None, bytes | None, bool]:
        """The epoch, None where Redis is away; the value, None where it is to be computed; whether others wait."""
        end, pause = time.monotonic() + patience, _POLL[0]
        epoch_key = self.store.key("cache", "epoch")
        try:
            while True:
                epoch, sealed, leased = await self.store.run("MGET", epoch_key, self._at(name), self._lease(name))
                if epoch is None:
                    # The first of all, or it was evicted: a new one, so that nothing purged comes back.
                    await self.store.run("SET", epoch_key, os.urandom(16), "NX")
                    continue
                if sealed is not None:
                    value = await asyncio.to_thread(self.sealer.open, sealed, key, epoch.hex())
                    if value is not None:
                        return epoch, value, False
                if leased is None:
                    milliseconds = round(_LEASE * 1000)
                    if await self.store.run("SET", self._lease(name), token, "NX", "PX", milliseconds):
                        return epoch, None, True
                elif time.monotonic() + pause > end:
                    return epoch, None, False
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _POLL[1])
        except StoreAway:
            return None, None, False

    async def _renew(self, name: str, token: bytes) -> None:
        while True:
            await asyncio.sleep(_RENEW)
            with suppress(StoreAway):
                await self.store.script(_RENEWED, [self._lease(name)], [token, round(_LEASE * 1000)])

    def _at(self, name: str) -> str:
        return self.store.key("cache", "value", name)

    def _lease(self, name: str) -> str:
        return self.store.key("cache", "lease", name)


def cache_from_environment(store: Store | None) -> Cache | None:
    """What `OCR_OPS_CACHE` and its like say: in Redis where there is one and a key for it; None: none at all."""
    if not switch("OCR_OPS_CACHE"):
        return None
    seconds = setting("OCR_OPS_CACHE_SECONDS", 3600)
    keys = configured_keys()
    if store is not None and keys:
        return RedisCache(store, Sealer(keys[0], "cache", keys[1:]), seconds=seconds)
    if store is not None:
        log.warning("%s is not set: readings are not cached in Redis, but in each process for itself", KEY)
    most = setting("OCR_OPS_CACHE_MB", 64) * 2**20
    mark = Workspace.current().home / PURGED
    return MemoryCache(Sealer.of_this_process("cache"), most=most, seconds=seconds, mark=mark)
