"""Counters: tokens and pages of every caller, on this machine or in Redis, each step whole."""

import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from bentos.shared import Shared, transaction
from bentos.store import Store
from ocr_ops.core.errors import StoreAway

T = TypeVar("T")
KEPT_SECONDS = 40 * 86_400
"""Longer than any period lasts."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one request against a bucket."""

    limit: int
    """Tokens a full bucket holds."""
    allowed: bool
    remaining: int
    wait: float
    """Seconds until there is another token; 0 while there is one."""


@dataclass(frozen=True, slots=True)
class Period:
    """A span in which so many pages may be read."""

    name: str
    """As `2026-11-26`."""
    limit: int


class Counters(Protocol):
    async def take(self, caller: str, per_minute: int) -> Taken:
        """One token of a bucket that holds `per_minute` and fills in a minute."""

    async def add(
        self, caller: str, pages: int, periods: Mapping[str, Period], *, force: bool
    ) -> dict[str, int] | None:
        """Adds pages to all periods; what each then holds. None, and nothing added, where one would overflow."""


class LocalCounters:
    """In a file, so that the gateway's workers share them and a restart forgets nothing; in memory while that fails,
    which is not added to the file later.
    """

    def __init__(self, path: Path) -> None:
        self.file = Shared(path, _prepare, "counting in memory")
        self._memory: sqlite3.Connection | None = None

    async def take(self, caller: str, per_minute: int) -> Taken:
        return await self._whole(lambda database: _take(database, caller, per_minute, time.time()))

    async def add(
        self, caller: str, pages: int, periods: Mapping[str, Period], *, force: bool
    ) -> dict[str, int] | None:
        return await self._whole(lambda database: _add(database, caller, pages, periods, force=force))

    async def _whole(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self.file.run(work)
        except StoreAway:
            if self._memory is None:
                self._memory = sqlite3.connect(":memory:", isolation_level=None)
                _prepare(self._memory)
            with transaction(self._memory) as database:
                return work(database)


class RedisCounters:
    """In Redis, for replicas. `StoreAway` when it does not answer in time."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def take(self, caller: str, per_minute: int) -> Taken:
        key = self.store.key("rate", caller)
        allowed, millitokens = await self.store.script(_TAKE, [key], [per_minute])
        return _taken(bool(allowed), int(millitokens) / 1000, per_minute)

    async def add(
        self, caller: str, pages: int, periods: Mapping[str, Period], *, force: bool
    ) -> dict[str, int] | None:
        keys = [self.store.key("pages", caller, period.name) for period in periods.values()]
        limits = [period.limit for period in periods.values()]
        found = await self.store.script(_ADD, keys, [pages, int(force), KEPT_SECONDS, *limits])
        return dict(zip(periods, map(int, found), strict=True)) if found else None


def _prepare(database: sqlite3.Connection) -> None:
    # A power cut may lose the last seconds of counting; nothing is worth an fsync on every request.
    database.executescript(
        "PRAGMA synchronous = OFF;"
        "CREATE TABLE IF NOT EXISTS buckets (caller TEXT PRIMARY KEY, tokens REAL, at REAL) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS pages (caller TEXT, period TEXT, count INTEGER, at REAL,"
        " PRIMARY KEY (caller, period)) WITHOUT ROWID;"
    )
    database.execute("DELETE FROM pages WHERE at < ?", (time.time() - KEPT_SECONDS,))
    database.execute("DELETE FROM buckets WHERE at < ?", (time.time() - 3600,))


def _take(database: sqlite3.Connection, caller: str, per_minute: int, now: float) -> Taken:
    row = database.execute("SELECT tokens, at FROM buckets WHERE caller = ?", (caller,)).fetchone()
    tokens, at = row or (float(per_minute), now)
    # A clock set back gives nothing and takes nothing.
    tokens = min(per_minute, tokens + max(0.0, now - at) * per_minute / 60)
    allowed = tokens >= 1
    tokens -= allowed
    database.execute("REPLACE INTO buckets VALUES (?, ?, ?)", (caller, tokens, now))
    return _taken(allowed, tokens, per_minute)


def _taken(allowed: bool, tokens: float, per_minute: int) -> Taken:
    return Taken(per_minute, allowed, math.floor(tokens), max(0.0, 1 - tokens) * 60 / per_minute)


def _add(
    database: sqlite3.Connection, caller: str, pages: int, periods: Mapping[str, Period], *, force: bool
) -> dict[str, int] | None:
    found = {}
    for kind, period in periods.items():
        query = "SELECT count FROM pages WHERE caller = ? AND period = ?"
        row = database.execute(query, (caller, period.name)).fetchone()
        found[kind] = max(0, (row[0] if row else 0) + pages)
        if not force and found[kind] > period.limit:
            return None
    now = time.time()
    rows = [(caller, period.name, found[kind], now) for kind, period in periods.items()]
    database.executemany("REPLACE INTO pages VALUES (?, ?, ?, ?)", rows)
    return found


_TAKE = """
local limit = tonumber(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(kept[1]) or limit
tokens = math.min(limit, tokens + math.max(0, now - (tonumber(kept[2]) or now)) * limit / 60)
local allowed = tokens >= 1 and 1 or 0
tokens = tokens - allowed
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], 120)
return {allowed, math.floor(tokens * 1000)}
"""
"""By Redis's own clock: those of replicas differ."""

_ADD = """
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = math.max(0, (tonumber(redis.call('GET', key)) or 0) + ARGV[1])
  if ARGV[2] == '0' and found[i] > tonumber(ARGV[3 + i]) then
    return {}
  end
end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, found[i], 'EX', ARGV[3])
end
return found
"""
