"""Limits: how many requests a caller may make, how many pages they may have read; counted by caller.

A request takes a token and puts one page by, which is given back if none is read. Each page more is charged as it is
read: a long document ends in a refusal where the quota does, not beyond, and a worker that dies leaves charged what it
had read, or that one page.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.api.operations import Match
from bentos.api.problems import Refusal
from bentos.auth import Caller
from bentos.champion import setting
from bentos.counters import Counters, LocalCounters, Period, RedisCounters, Taken
from bentos.store import Store
from bentos.usage import Usage
from ocr_ops.core.errors import StoreAway
from ocr_ops.core.keys import Limits
from ocr_ops.core.workspace import Workspace

T = TypeVar("T")
NO_LIMIT = 0
_WINDOWS = {"pages-day": 86_400, "pages-month": 2_592_000}
"""Seconds, as the header has them: a month by the calendar is about so long."""

log = logging.getLogger("bentoml.ocr_ops")


@dataclass(frozen=True, slots=True)
class Meter:
    """Counts callers: in Redis while it answers, else on this machine."""

    defaults: Limits
    local: Counters
    shared: Counters | None

    @classmethod
    def from_environment(cls, store: Store | None) -> Self:
        """What makes no sense ends the process with one line."""
        defaults = Limits(
            requests_per_minute=setting("OCR_OPS_REQUESTS_PER_MINUTE", NO_LIMIT, least=0),
            pages_per_day=setting("OCR_OPS_PAGES_PER_DAY", NO_LIMIT, least=0),
            pages_per_month=setting("OCR_OPS_PAGES_PER_MONTH", NO_LIMIT, least=0),
        )
        local = LocalCounters(Workspace.current().home / "limits.db")
        return cls(defaults, local, RedisCounters(store) if store else None)

    def limits_of(self, caller: Caller) -> Limits:
        """The caller's own, the service's where it has none; 0: without limit."""
        own = {name: value for name, value in caller.limits.model_dump().items() if value is not None}
        return self.defaults.model_copy(update=own)

    async def take(self, caller: Caller) -> Taken | None:
        """A token for one request; None where the caller needs none."""
        limit = self.limits_of(caller).requests_per_minute
        if not limit:
            return None
        return await self._counted(lambda counters: counters.take(caller.id, limit))

    def allowance(self, caller: Caller) -> "Pages | None":
        """Where this caller's pages are charged; None where nobody counts them."""
        limits = self.limits_of(caller)
        now = datetime.now(UTC)
        periods = {
            "pages-day": Period(now.strftime("%Y-%m-%d"), limits.pages_per_day or NO_LIMIT),
            "pages-month": Period(now.strftime("%Y-%m"), limits.pages_per_month or NO_LIMIT),
        }
        bounded = {name: period for name, period in periods.items() if period.limit}
        return Pages(self, caller, bounded, now) if bounded else None

    async def add(
        self, caller: Caller, pages: int, periods: Mapping[str, Period], *, force: bool = False
    ) -> dict[str, int] | None:
        return await self._counted(lambda counters: counters.add(caller.id, pages, periods, force=force))

    async def _counted(self, work: Callable[[Counters], Awaitable[T]]) -> T:
        if self.shared is not None:
            try:
                return await work(self.shared)
            except StoreAway:
                pass  # it says so itself, once
        return await work(self.local)


@dataclass(slots=True)
class Pages:
    """The pages of one request or job. An `Allowance`."""

    meter: Meter
    caller: Caller
    periods: Mapping[str, Period]
    now: datetime
    held: int = 0
    """Pages charged."""
    counts: dict[str, int] = field(default_factory=dict)
    """What each period held when it was last looked at."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The documents of a batch cover their pages one after the other: each knows what those before it cover."""

    async def cover(self, pages: int) -> None:
        if pages > self.held and not await self._seen_through(pages, force=False):
            raise self._used_up()

    async def settle(self, pages: int) -> None:
        await self._seen_through(pages, force=True)

    async def _seen_through(self, pages: int, *, force: bool) -> bool:
        """Whether so many are charged now: by `force` in any case, and no more. What a caller who leaves has begun is
        done, and known to whoever settles.
        """
        return await asyncio.shield(asyncio.ensure_future(self._charged(pages, force=force)))

    async def _charged(self, pages: int, *, force: bool) -> bool:
        async with self._turn:
            if pages == self.held or (pages < self.held and not force):
                return True
            found = await self.meter.add(self.caller, pages - self.held, self.periods, force=force)
            if found is not None:
                self.held, self.counts = pages, found
            return found is not None

    def reset(self, name: str) -> int:
        """Seconds until a period ends."""
        day = self.now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        month = (day - timedelta(days=1)).replace(day=1) + timedelta(days=32)
        end = day if name == "pages-day" else month.replace(day=1)
        return math.ceil((end - self.now).total_seconds())

    def _used_up(self) -> Refusal:
        told = ", ".join(f"{period.limit} pages for {period.name}" for period in self.periods.values())
        wait = min(self.reset(name) for name in self.periods)
        remedy = "wait until then, or ask whoever runs the service for more"
        return Refusal("quota", "used up", told, remedy, 429, "quota-used-up", {"Retry-After": str(wait)})


class Limiter:
    """Middleware: turns away who asks too often or has read too much; tells everybody how much is left."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match: Match = scope["state"]["match"]
        if match.operation is None or match.operation.role is None or match.operation.probe:
            await self.app(scope, receive, send)
            return
        meter: Meter = scope["state"]["gateway"].meter
        caller: Caller = scope["state"]["caller"]
        usage: Usage = scope["state"]["usage"]
        taken = await meter.take(caller)
        if taken is not None and not taken.allowed:
            raise _too_often(taken)
        pages = meter.allowance(caller) if match.operation.reads else None
        usage.allowance = pages

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_left(taken, pages))
            await send(message)

        try:
            if pages is not None:
                await pages.cover(1)
            await self.app(scope, receive, told)
        finally:
            if pages is not None:
                await pages.settle(usage.pages)


def _too_often(taken: Taken) -> Refusal:
    wait = max(1, math.ceil(taken.wait))
    headers = {"Retry-After": str(wait), **_left(taken, None)}
    expected = f"at most {taken.limit} in a minute"
    return Refusal("requests", "too many", expected, f"wait {wait} s", 429, "rate-limited", headers)


def _left(taken: Taken | None, pages: Pages | None) -> dict[str, str]:
    """What is left, and seconds until there is more, as draft-ietf-httpapi-ratelimit-headers has it."""
    policies, left = [], []
    if taken is not None:
        policies.append(f'"requests";q={taken.limit};w=60')
        left.append(f'"requests";r={taken.remaining};t={math.ceil(taken.wait)}')
    if pages is not None:
        for name, period in pages.periods.items():
            policies.append(f'"{name}";q={period.limit};w={_WINDOWS[name]}')
            left.append(f'"{name}";r={max(0, period.limit - pages.counts.get(name, 0))};t={pages.reset(name)}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)} if policies else {}
