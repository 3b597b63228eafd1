"""Counters: tokens and pages of every caller, on this machine or in Redis, each step whole."""

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from bentos.store import Store

T = TypeVar("T")
KEPT_SECONDS = 40 * 86_400
"""Longer than any period lasts."""
BUSY_SECONDS = 2.0
"""For which a step waits for those of other processes."""
AGAIN_SECONDS = 5.0
"""After which a file that failed is tried again: until then nobody waits for it."""

log = logging.getLogger("bentoml.ocr_ops")


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
    """In a file, so that the gateway's workers share them and a restart forgets nothing; in memory while that fails.

    What was counted in memory is not added to the file later. One log line tells each change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: sqlite3.Connection | None = None
        self._memory: sqlite3.Connection | None = None
        self._again = 0.0
        """When the file is tried again, on the monotonic clock."""
        self._well = True
        self._pool = ThreadPoolExecutor(1, "counters")

    async def take(self, caller: str, per_minute: int) -> Taken:
        return await self._aside(lambda database: _take(database, caller, per_minute, time.time()))

    async def add(
        self, caller: str, pages: int, periods: Mapping[str, Period], *, force: bool
    ) -> dict[str, int] | None:
        return await self._aside(lambda database: _add(database, caller, pages, periods, force=force))

    async def _aside(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._whole, work)

    def _whole(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """All of it or nothing, on the one thread that has the connections."""
        if time.monotonic() >= self._again:
            try:
                self._file = self._file or _opened(self.path)
                found = _transaction(self._file, work)
            except (OSError, sqlite3.Error) as error:
                self._failed(error)
            else:
                if not self._well:
                    log.warning("%s: counting in it again", self.path)
                self._well = True
                return found
        self._memory = self._memory or _opened(None)
        return _transaction(self._memory, work)

    def _failed(self, error: Exception) -> None:
        if self._well:
            log.warning("%s: %s; counting in memory until it can be used again", self.path, error)
        self._well = False
        self._again = time.monotonic() + AGAIN_SECONDS
        if self._file is not None:
            self._file.close()  # with whatever it left half done; the next attempt opens it anew
            self._file = None


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


def _opened(path: Path | None) -> sqlite3.Connection:
    """The counters in a file, or in memory. `OSError` or `sqlite3.Error` where the file cannot be used."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # A power cut may lose the last seconds of counting; nothing is worth an fsync on every request.
        database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
            "CREATE TABLE IF NOT EXISTS buckets (caller TEXT PRIMARY KEY, tokens REAL, at REAL) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS pages (caller TEXT, period TEXT, count INTEGER, at REAL,"
            " PRIMARY KEY (caller, period)) WITHOUT ROWID;"
        )
        database.execute("DELETE FROM pages WHERE at < ?", (time.time() - KEPT_SECONDS,))
        database.execute("DELETE FROM buckets WHERE at < ?", (time.time() - 3600,))
    except sqlite3.Error:
        database.close()
        raise
    return database


def _transaction(database: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    database.execute("BEGIN IMMEDIATE")
    try:
        result = work(database)
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
    return result


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
