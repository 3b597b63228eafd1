"""Store: the one Redis client. Redis slow, full or gone, callers learn so at once and go on without it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from redis import exceptions as refusals
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript

from bentos.champion import end, secret, setting
from ocr_ops.core.errors import StoreAway, UsageError
from ocr_ops.runtime import telemetry

URL = "OCR_OPS_REDIS_URL"
CA = "OCR_OPS_REDIS_CA"
PREFIX = "OCR_OPS_REDIS_PREFIX"
TIMEOUT_MS = "OCR_OPS_REDIS_TIMEOUT_MS"

CONNECTIONS = 32
_FIRST, _LONGEST, _CALM = 0.5, 5.0, 30.0
"""Seconds to the first probe, between later ones at most, and until a past failure is forgotten."""
_REASONS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (refusals.OutOfMemoryError, "full"),
    (refusals.ReadOnlyError, "read-only"),
    ((refusals.AuthenticationError, refusals.NoPermissionError), "refused"),
    ((refusals.TimeoutError, TimeoutError), "slow"),
    ((refusals.ConnectionError, OSError), "gone"),
)

log = logging.getLogger("bentoml.ocr_ops")


class Store:
    """Redis behind a breaker: the first failure opens it, and a probe that writes closes it again.

    Every call either answers within `seconds` or raises `StoreAway`; while the breaker is open it does so without
    asking Redis, which only a probe does, every few seconds. One log line tells each change.

    What is sent on a connection that turns out to be closed is sent once more: a command may be run twice.
    """

    def __init__(self, url: str, *, ca: Path | None = None, prefix: str = "ocr-ops", seconds: float = 0.25) -> None:
        options = _options(url, ca)
        # No tries again of redis-py's own: a caller that waits has the slower answer.
        options |= {"retry": Retry(NoBackoff(), 0), "socket_connect_timeout": seconds, "socket_timeout": seconds}
        pool = BlockingConnectionPool(max_connections=CONNECTIONS, timeout=seconds, **options)
        self.name = _name(url)
        self.prefix = prefix
        self.seconds = seconds
        self._redis: Any = Redis.from_pool(pool)
        self._scripts: dict[str, AsyncScript] = {}
        self._going: set[asyncio.Task[Any]] = set()
        self._reason: str | None = None
        self._probe: asyncio.Task[None] | None = None
        self._wait = _FIRST
        self._returned = -_CALM
        telemetry.store_up(up=True)

    @classmethod
    def from_environment(cls, least: float = 0.0) -> Self | None:
        """The Redis that `OCR_OPS_REDIS_URL`, or the file `OCR_OPS_REDIS_URL_FILE`, names; None without either.

        Calls have `OCR_OPS_REDIS_TIMEOUT_MS`, and `least` seconds at least. What cannot be one ends the process with
        one line.
        """
        url = secret(URL)
        if url is None:
            return None
        try:
            seconds = max(setting(TIMEOUT_MS, 250) / 1000, least)
            ca = secret(CA)
            return cls(url, ca=Path(ca) if ca else None, prefix=secret(PREFIX) or "ocr-ops", seconds=seconds)
        except UsageError as error:
            end(error)

    @property
    def up(self) -> bool:
        """Whether calls are made at all now."""
        return self._reason is None

    def key(self, *parts: str) -> str:
        """A key of ours: all begin with the prefix, so that an ACL can keep us to them."""
        return ":".join((self.prefix, *parts))

    async def run(self, *command: str | bytes | float) -> Any:
        """One command, such as `run("SET", key, value, "PX", 1000)`; texts come as bytes."""
        return await self._guarded(lambda: self._redis.execute_command(*command))

    async def script(self, source: str, keys: Sequence[str], arguments: Sequence[str | bytes | float] = ()) -> Any:
        """Runs a Lua script, atomically: what it reads and writes, no other client comes between."""
        script = self._scripts.get(source)
        if script is None:
            script = self._scripts[source] = self._redis.register_script(source)
        # AsyncScript sends the digest, and the source only to a Redis that has not seen it.
        return await self._guarded(lambda: script(keys=keys, args=arguments))

    async def close(self) -> None:
        """Ends the probe and all connections."""
        if self._probe is not None:
            self._probe.cancel()
            with suppress(asyncio.CancelledError):
                await self._probe
        await asyncio.gather(*self._going, return_exceptions=True)
        await self._redis.aclose(close_connection_pool=True)

    async def _guarded(self, work: Callable[[], Awaitable[Any]]) -> Any:
        if self._reason is not None:
            raise self._away(self._reason)
        try:
            async with asyncio.timeout(self.seconds):
                return await self._begun(work)
        except (refusals.RedisError, OSError) as error:
            raise self._away(self._opened(error)) from None

    def _begun(self, work: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
        """A command that runs to its end whoever stops waiting: redis-py's pool loses the connection of one that is
        cancelled at the wrong moment. Its own time-outs bound it.
        """
        command = asyncio.create_task(self._sent(work))
        self._going.add(command)
        command.add_done_callback(self._gone)
        return asyncio.shield(command)

    async def _sent(self, work: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await work()
        except refusals.ConnectionError:
            # It was idle for long, or Redis began anew: the others in the pool are no better.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            return await work()

    def _gone(self, command: asyncio.Task[Any]) -> None:
        self._going.discard(command)
        if not command.cancelled():
            command.exception()  # who waited for it has it; if nobody does any more, nobody needs it

    def _opened(self, error: Exception) -> str:
        """Opens the breaker, unless another call has by now; the reason."""
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "an error")
        if self._reason is None:
            self._reason = reason
            if time.monotonic() - self._returned > _CALM:
                self._wait = _FIRST
            log.warning("Redis %s is away (%s: %s); going on without it", self.name, reason, error)
            telemetry.store_up(up=False)
            telemetry.store_left(reason)
            self._probe = asyncio.create_task(self._until_back())
        return self._reason

    async def _until_back(self) -> None:
        left = time.monotonic()

        async def probe() -> None:
            # A full or read-only Redis answers a PING.
            await self._redis.execute_command("SET", self.key("probe"), b"", "PX", 10_000)

        while True:
            await asyncio.sleep(self._wait)
            self._wait = min(2 * self._wait, _LONGEST)
            with suppress(refusals.RedisError, OSError):
                await self._begun(probe)
                break
        self._returned = time.monotonic()
        self._reason = None
        log.warning("Redis %s is back after %.1f s", self.name, self._returned - left)
        telemetry.store_up(up=True)

    def _away(self, reason: str) -> StoreAway:
        return StoreAway("Redis", reason, "an answer in time", "see the log; it is asked again by itself")


def _options(url: str, ca: Path | None) -> dict[str, Any]:
    """What redis-py connects with. `UsageError` tells nothing of the URL, which may hold a password."""
    try:
        options: dict[str, Any] = {**parse_url(url)}
    except ValueError:
        raise _no_url("no URL of a Redis") from None
    if ca is not None:
        if not url.startswith("rediss://"):
            raise _no_url(f"{CA} with a URL without TLS")
        if not ca.is_file():
            raise UsageError(CA, f"no file {ca}", "a PEM file of certificates", "correct the path")
        options["ssl_ca_certs"] = str(ca)
    return options


def _no_url(found: str) -> UsageError:
    return UsageError(URL, found, "redis://, rediss:// or unix://, as rediss://user:password@host:6379/0", "correct it")


def _name(url: str) -> str:
    """Where it is, without the password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
