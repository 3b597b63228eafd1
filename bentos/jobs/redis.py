"""Jobs in Redis, for all replicas: a hash a job, one of the pieces of its document, a list of its pages.

Scripts do all that must not be half done. Their clock is Redis' own.
"""

import secrets
import time
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, get_args

from bentos.jobs.job import MOST_TRIES, Bounds, Claim, Entry, Notice, Refused, State
from bentos.store import Store
from ocr_ops.core.errors import StoreAway

_PIECE = 512 * 1024
"""Bytes of a document that go through at once, within the time a command may take."""
_PAGES = 8
"""The same for pages."""
_COMING = 60
"""Seconds that pieces of a document stay for the next one: nobody may be left to send it, nor to erase them."""
_TEXTS = {"id", "owner", "asked", "state", "notice"}
_TIMES = {"created", "expires", "finished"}
_MARGIN = 3600
"""Seconds beyond its expiry after which Redis erases by itself what no sweep has."""

_BRING = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""

# KEYS[1] is the prefix of all keys.
_BEGIN = """
local p = KEYS[1]
local function job(id) return p .. 'job:' .. id end
local function now() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end
local function get(id, name) return redis.call('HGET', job(id), name) end
local function unfinished(id) local s = get(id, 'state') return s == 'waiting' or s == 'running' end
local function live(id) local e = get(id, 'expires') return e and tonumber(e) * 1000 > now() end
local function ours(id, token) return token ~= '' and get(id, 'token') == token end
local function expire(id, at)
  for _, name in ipairs({'job:', 'document:', 'pages:'}) do
    redis.call('PEXPIREAT', p .. name .. id, math.floor(at * 1000) + %d) end
end
local function release(id)
  local size = redis.call('HGET', p .. 'sizes', id)
  if size then redis.call('HDEL', p .. 'sizes', id) redis.call('DECRBY', p .. 'size', size) end
  redis.call('UNLINK', p .. 'document:' .. id, p .. 'pages:' .. id)
end
local function forget(id)
  release(id)
  local owner = get(id, 'owner')
  if owner then redis.call('ZREM', p .. 'mine:' .. owner, id) redis.call('ZREM', p .. 'own:' .. owner, id) end
  for _, name in ipairs({'unfinished', 'notices', 'all'}) do redis.call('ZREM', p .. name, id) end
  redis.call('UNLINK', job(id))
end
local function over(id, state, failure, expires, finished)
  local owner, webhook = get(id, 'owner'), get(id, 'webhook')
  redis.call('ZREM', p .. 'unfinished', id)
  redis.call('ZREM', p .. 'own:' .. owner, id)
  redis.call('HSET', job(id), 'state', state, 'failure', failure, 'expires', expires, 'finished', finished,
    'token', '', 'lease', 0, 'notice', webhook == '1' and 'due' or 'none')
  redis.call('ZADD', p .. 'all', expires, id)
  if webhook == '1' then redis.call('ZADD', p .. 'notices', now(), id) end
  expire(id, expires)
end
local function sweep()
  local t = now() / 1000
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', p .. 'all', '-inf', t, 'LIMIT', 0, 100)) do forget(id) end
end
""" % (_MARGIN * 1000)  # noqa: UP031  braces abound

_ADMIT = (
    _BEGIN
    + """
local id, owner, asked, size, expires = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
sweep()
local known = get(id, 'asked')
if known then return known == asked and 'known' or 'asked' end
if redis.call('ZCARD', p .. 'own:' .. owner) >= tonumber(ARGV[6]) then return 'each' end
if redis.call('ZCARD', p .. 'unfinished') >= tonumber(ARGV[7]) then return 'unfinished' end
local free = tonumber(ARGV[8]) - tonumber(redis.call('GET', p .. 'size') or '0')
if size > free then return 'size' end
local share = size
for _, other in ipairs(redis.call('ZRANGE', p .. 'mine:' .. owner, 0, -1)) do
  share = share + tonumber(redis.call('HGET', p .. 'sizes', other) or '0')
end
if share > free then return 'share' end
if not ARGV[9] then return 'admitted' end
"""
)
_ADD = (
    _ADMIT
    + """
local coming = p .. 'coming:' .. ARGV[9]
if redis.call('HLEN', coming) ~= tonumber(ARGV[10]) then return 'lost' end
local turn = redis.call('INCR', p .. 'turn')
redis.call('HSET', job(id), 'token', '', 'lease', 0, unpack(ARGV, 11))
redis.call('RENAME', coming, p .. 'document:' .. id)
redis.call('HSET', p .. 'sizes', id, size)
redis.call('INCRBY', p .. 'size', size)
redis.call('ZADD', p .. 'unfinished', turn, id)
redis.call('ZADD', p .. 'own:' .. owner, turn, id)
redis.call('ZADD', p .. 'mine:' .. owner, turn, id)
redis.call('ZADD', p .. 'all', expires, id)
expire(id, expires)
return 'added'
"""
)
_CLAIM = (
    _BEGIN
    + """
local best, least
for _, id in ipairs(redis.call('ZRANGE', p .. 'unfinished', 0, -1)) do
  if not get(id, 'state') then redis.call('ZREM', p .. 'unfinished', id)
  elseif live(id) and tonumber(get(id, 'lease')) <= now() then
    if tonumber(get(id, 'tries')) >= tonumber(ARGV[3]) then
      over(id, 'failed', '', get(id, 'expires'), now() / 1000)
    else
      local running = 0
      for _, other in ipairs(redis.call('ZRANGE', p .. 'own:' .. get(id, 'owner'), 0, -1)) do
        if get(other, 'state') == 'running' then running = running + 1 end
      end
      if not least or running < least then best, least = id, running end
      if least == 0 then break end
    end
  end
end
if not best then return false end
redis.call('HINCRBY', job(best), 'tries', 1)
redis.call('HSET', job(best), 'state', 'running', 'token', ARGV[1], 'lease', now() + ARGV[2])
return best
"""
)
_HOLD = (
    _BEGIN
    + """
if not ours(ARGV[1], ARGV[2]) then return 0 end
redis.call('HSET', job(ARGV[1]), 'lease', now() + ARGV[3])
if tonumber(ARGV[3]) == 0 then
  -- A page has set them to 0 since it was claimed, perhaps.
  local tries = math.max(tonumber(get(ARGV[1], 'tries')) - 1, 0)
  redis.call('HSET', job(ARGV[1]), 'state', 'waiting', 'token', '', 'tries', tries)
end
return 1
"""
)
_LEAVE = (
    _BEGIN
    + """
if not ours(ARGV[1], ARGV[2]) then return 0 end
redis.call('HSET', job(ARGV[1]), 'state', 'waiting', 'token', '', 'lease', now() + ARGV[3])
return 1
"""
)
_PAGE = (
    _BEGIN
    + """
local id, number = ARGV[1], tonumber(ARGV[3])
if not ours(id, ARGV[2]) then return 0 end
local pages, more = p .. 'pages:' .. id, #ARGV[4]
-- A command may be run twice, and a page be read again: what is kept stays as many as are read.
if number == 1 then
  more = more - tonumber(get(id, 'paged') or '0')
  redis.call('UNLINK', pages)
end
if redis.call('LLEN', pages) >= number then
  more = more - #redis.call('LINDEX', pages, number - 1)
  redis.call('LSET', pages, number - 1, ARGV[4])
else redis.call('RPUSH', pages, ARGV[4]) end
for _, name in ipairs({'size', 'paged'}) do redis.call('HINCRBY', job(id), name, more) end
redis.call('HINCRBY', p .. 'sizes', id, more)
redis.call('INCRBY', p .. 'size', more)
redis.call('HSET', job(id), 'tries', 0, 'done', number)
if ARGV[5] ~= '' then redis.call('HSET', job(id), 'total', ARGV[5]) end
expire(id, tonumber(get(id, 'expires')))
return 1
"""
)
_FINISH = (
    _BEGIN
    + """
if not ours(ARGV[1], ARGV[2]) then return 0 end
over(ARGV[1], ARGV[3], ARGV[4], ARGV[5], now() / 1000)
return 1
"""
)
_CANCEL = (
    _BEGIN
    + """
if not live(ARGV[1]) then return 0 end
if unfinished(ARGV[1]) then
  over(ARGV[1], 'cancelled', '', ARGV[2], now() / 1000)
  release(ARGV[1])
end
return 1
"""
)
_ERASE = _BEGIN + "forget(ARGV[1])"
_SWEEP = _BEGIN + "sweep()"
_NOTICE = (
    _BEGIN
    + """
-- Of each owner, how many are just being delivered: they have a token, and a time to come.
local going = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', p .. 'notices', '(' .. now(), now() + ARGV[2])) do
  local owner, token = get(id, 'owner'), get(id, 'token')
  if owner and token ~= '' then going[owner] = (going[owner] or 0) + 1 end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', p .. 'notices', '-inf', now())) do
  if not live(id) or get(id, 'notice') ~= 'due' then redis.call('ZREM', p .. 'notices', id)
  elseif (going[get(id, 'owner')] or 0) < tonumber(ARGV[3]) then
    redis.call('ZADD', p .. 'notices', now() + ARGV[2], id)
    redis.call('HINCRBY', job(id), 'notices', 1)
    redis.call('HSET', job(id), 'token', ARGV[1])
    return id
  end
end
return false
"""
)
_NOTICED = (
    _BEGIN
    + """
if not ours(ARGV[1], ARGV[2]) then return 0 end
redis.call('HSET', job(ARGV[1]), 'token', '', 'notice', ARGV[3])
if ARGV[3] == 'due' then redis.call('ZADD', p .. 'notices', now() + ARGV[4], ARGV[1])
else redis.call('ZREM', p .. 'notices', ARGV[1]) end
return 1
"""
)


class RedisJobs:
    """`JobStore` over the one Redis client."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def add(self, entry: Entry, document: bytes, bounds: Bounds) -> Entry | Refused:
        told: list[str | float] = [entry.id, entry.owner, entry.asked, len(document), entry.expires]
        told += [bounds.each, bounds.unfinished, bounds.size]
        # What is refused anyway is not sent before.
        found = (await self._script(_ADMIT, *told)).decode()
        if found == "admitted":
            found = await self._brought(entry, document, told)
        if found == "added":
            return entry
        if found == "lost":
            remedy = "submit it again"
            raise StoreAway("jobs", "a document whose pieces came too late for each other", "all of it", remedy)
        if found == "known":
            return await self.get(entry.id) or "asked"
        return next(reason for reason in get_args(Refused) if reason == found)

    async def _brought(self, entry: Entry, document: bytes, told: list[str | float]) -> str:
        """What becomes of a job whose document is sent, piece by piece. Of one that is not added no piece is left."""
        coming, starts = secrets.token_hex(16), range(0, len(document), _PIECE)
        key = self._key(f"coming:{coming}")
        values = [part for name, value in asdict(entry).items() for part in (name, _written(value))]
        found: str = ""
        try:
            for number, start in enumerate(starts):
                await self.store.script(_BRING, [key], [number, document[start : start + _PIECE], _COMING])
            found = (await self._script(_ADD, *told, coming, len(starts), *values)).decode()
        finally:
            if found != "added":
                # The store sees a command through, also for somebody who is cancelled a second time.
                with suppress(StoreAway):
                    await self.store.run("UNLINK", key)
        return found

    async def get(self, job: str) -> Entry | None:
        found = await self.store.run("HGETALL", self._key(f"job:{job}"))
        entry = _entry(found) if found else None
        return entry if entry is not None and entry.expires > time.time() else None

    async def mine(self, owner: str) -> list[Entry]:
        ids = await self.store.run("ZREVRANGE", self._key(f"mine:{owner}"), 0, -1)
        found = [await self.get(job.decode()) for job in ids]
        return [entry for entry in found if entry is not None]

    async def document(self, job: str) -> bytes | None:
        key, pieces = self._key(f"document:{job}"), bytearray()
        for number in range(await self.store.run("HLEN", key)):
            pieces += await self.store.run("HGET", key, number) or b""
        return bytes(pieces) or None

    async def pages(self, job: str) -> list[bytes]:
        found: list[bytes] = []
        while some := await self.store.run("LRANGE", self._key(f"pages:{job}"), len(found), len(found) + _PAGES - 1):
            found.extend(some)
        return found

    async def claim(self, lease: float) -> Claim | None:
        return await self._claimed(_CLAIM, lease, MOST_TRIES)

    async def hold(self, claim: Claim, lease: float) -> bool:
        return bool(await self._script(_HOLD, claim.entry.id, claim.token, round(lease * 1000)))

    async def leave(self, claim: Claim, pause: float) -> bool:
        return bool(await self._script(_LEAVE, claim.entry.id, claim.token, round(pause * 1000)))

    async def page(self, claim: Claim, number: int, page: bytes, total: int | None) -> bool:
        known = "" if total is None else total
        return bool(await self._script(_PAGE, claim.entry.id, claim.token, number, page, known))

    async def finish(self, claim: Claim, state: State, failure: bytes, expires: float) -> bool:
        return bool(await self._script(_FINISH, claim.entry.id, claim.token, state, failure, expires))

    async def cancel(self, job: str, expires: float) -> Entry | None:
        return await self.get(job) if await self._script(_CANCEL, job, expires) else None

    async def erase(self, job: str) -> None:
        await self._script(_ERASE, job)

    async def claim_notice(self, lease: float, each: int) -> Claim | None:
        return await self._claimed(_NOTICE, lease, each)

    async def noticed(self, claim: Claim, notice: Notice, again: float) -> bool:
        return bool(await self._script(_NOTICED, claim.entry.id, claim.token, notice, round(again * 1000)))

    async def sweep(self) -> None:
        await self._script(_SWEEP)

    async def close(self) -> None:
        """The client is not ours alone."""

    async def _claimed(self, script: str, lease: float, *more: int) -> Claim | None:
        token = secrets.token_hex(16)
        found = await self._script(script, token, round(lease * 1000), *more)
        entry = None if found is None else await self.get(found.decode())
        return None if entry is None else Claim(entry, token)

    async def _script(self, source: str, *arguments: str | bytes | float) -> Any:
        return await self.store.script(source, [self._key("")], arguments)

    def _key(self, name: str) -> str:
        return self.store.key("jobs", name)


def _written(value: object) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return "" if value is None else str(int(value) if isinstance(value, bool) else value)


def _entry(found: dict[bytes, bytes]) -> Entry:
    return Entry(**{field.name: _read(field.name, found[field.name.encode()]) for field in fields(Entry)})


def _read(name: str, value: bytes) -> Any:
    if name in _TEXTS:
        return value.decode()
    if name in ("ask", "failure"):
        return value
    if not value:
        return None
    if name == "webhook":
        return value == b"1"
    return float(value) if name in _TIMES else int(value)
