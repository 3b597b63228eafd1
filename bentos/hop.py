"""The hop from the gateway to a model: over a socket file on one machine, over the network between deployments.

BentoML's own client of `bentoml.depends` sends pickle, and loses calls: it replaces its session with calls in flight
(4 % of them at concurrency 8), and sends on connections the server is just closing. Here a call is bytes that are
checked (`packing`), has a connection of its own, carries its deadline and a key, and is made again when the model's
worker dies under it: what reading a picture gives is the same however often it is asked.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from bentoml.exceptions import BentoMLException

from bentos import deadline as deadlines
from bentos import lending
from bentos.deadline import Deadline
from bentos.packing import MEDIA_TYPE
from bentos.terms import BUNDLE, LOADED, shown
from ocr_ops.core.errors import ModelAway, ModelFailed, OcrOpsError

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before a call is made again: doubled each time."""
DEATHS = 3
"""A call under which so many workers died is made no more: it may be what kills them."""
_LOST = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError, ConnectionError)
_SUBJECT = "model"
"""What callers are told: where it is, and what it said, is for the log."""

log = logging.getLogger("bentoml.ocr_ops")


class _NotSeen(Exception):  # noqa: N818  no error: it is sent instead
    """What was lent cannot be seen over there."""


@dataclass(slots=True)
class Hop:
    """The client of one model's service, at an http(s) URL or at the file:// or tcp:// one of a socket."""

    url: str
    bundle: str | None = None
    """Digest of what is to read: a service that runs another, since it was started after a promotion, is waited for as
    one that is not there. None: whatever runs.
    """
    shared: Path | None = None
    """A file that other gateways of this machine hold a lock on where they make a call of this model alone."""
    lends: bool = field(init=False)
    """Whether large bodies are lent: to processes on this machine, as long as they see what is lent."""
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """Held by a call that is made alone, where nothing is `shared`."""
    _session: aiohttp.ClientSession | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.lends = urlsplit(self.url).scheme == "file"

    async def call(self, route: str, body: bytes, deadline: Deadline) -> bytes:
        """The answer's body. `TooLate`, or `ModelAway` when the service refuses or cannot do it: `ModelFailed` where
        that may be this call's doing.

        A service that is not there, or is just going, is waited for until the deadline.
        """
        if not self.lends or len(body) < lending.LARGE:
            return await self._call(route, body, MEDIA_TYPE, deadline)
        with lending.lent(body) as name:
            try:
                return await self._call(route, name, lending.MEDIA_TYPE, deadline)
            except _NotSeen:
                self.lends = False
        return await self._call(route, body, MEDIA_TYPE, deadline)

    async def _call(self, route: str, body: bytes, kind: str, deadline: Deadline) -> bytes:
        pause, deaths = FIRST_PAUSE, 0
        while True:
            deadline.require(_SUBJECT)
            try:
                async with deadline.timeout(), self._turn(deaths), self._post(route, body, kind, deadline) as answer:
                    found: bytes = await answer.read()
                    if answer.status == 200:
                        return found
                    if answer.status == lending.REFUSED:
                        raise _NotSeen
                    if answer.status != 503:
                        raise self._failed(answer.status, found, deadline)
            except TimeoutError:
                raise deadline.too_late(_SUBJECT) from None
            except aiohttp.ClientConnectorError:
                pass  # nobody there yet: nothing was sent
            except _LOST as error:
                deaths += 1
                if deaths == DEATHS:
                    log.warning("model at %s: %s, %d times", self.url, type(error).__name__, deaths)
                    raise _away(f"{type(error).__name__}, {deaths} times", ModelFailed) from None
            await asyncio.sleep(max(0.0, min(pause, deadline.remaining())))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _turn(self, deaths: int) -> AbstractAsyncContextManager[Any]:
        """What a call holds that so many workers died under: one more death would end it, and is to be its own."""
        if deaths < DEATHS - 1:
            return nullcontext()
        return self._alone if self.shared is None else _locked(self.shared)

    async def loaded(self) -> dict[str, str | bool]:
        """What the service says it runs, at once or not at all. `ModelAway`."""
        try:
            async with self._client().get(f"{self._base}{LOADED}", headers=shown()) as answer:
                if answer.status != 200:
                    raise _refused(answer.status)
                return dict(await answer.json())
        except (aiohttp.ClientError, ConnectionError, ValueError) as error:
            raise _away(type(error).__name__) from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _post(self, route: str, body: bytes, kind: str, deadline: Deadline) -> Any:
        headers = {"Content-Type": kind, deadlines.HEADER: deadline.header, **shown()}
        if self.bundle is not None:
            headers[BUNDLE] = self.bundle
        return self._client().post(f"{self._base}{route}", data=body, headers=headers)

    def _client(self) -> aiohttp.ClientSession:
        """Made at the first call, which is in the event loop; never replaced."""
        if self._session is None:
            at = urlsplit(self.url)
            # One call a connection: calls spread over all replicas, and none goes out on one that is being closed.
            connector: aiohttp.BaseConnector
            if at.scheme == "file":
                connector = aiohttp.UnixConnector(at.path, force_close=True, limit=0)
            else:
                connector = aiohttp.TCPConnector(force_close=True, limit=0)
            nothing = aiohttp.ClientTimeout(total=None)  # the deadline says it all
            self._session = aiohttp.ClientSession(connector=connector, timeout=nothing, auto_decompress=False)
        return self._session

    @property
    def _base(self) -> str:
        at = urlsplit(self.url)
        return "http://model" if at.scheme == "file" else f"{at.scheme.replace('tcp', 'http')}://{at.netloc}{at.path}"

    def _failed(self, status: int, body: bytes, deadline: Deadline) -> OcrOpsError:
        if status == 504:
            return deadline.too_late(_SUBJECT)
        log.warning("model at %s: status %d, %r", self.url, status, body[:200])
        return _refused(status)


def _refused(status: int) -> ModelAway:
    # Any other status is of a key, of a service of another version, or of what stands in between: not the call's.
    return _away(f"status {status}", ModelFailed if status == 500 else ModelAway)


def _away(found: str, kind: type[ModelAway] = ModelAway) -> ModelAway:
    return kind(_SUBJECT, found, "an answer", "try again soon; the log has the cause")


def hop_to(dependency: Any, bundle: str | None = None) -> Hop:
    """The hop to what `bentoml.depends` stands for: a service beside this one, or another deployment.

    `bundle`: as `Hop.bundle`.
    """
    url = getattr(getattr(dependency, "to_async", None), "url", None)
    if url is None:
        msg = "the models run in processes of their own: start the gateway with `bentoml serve`"
        raise BentoMLException(msg)
    group = os.environ.get(lending.GROUP)
    shared = Path(group, f"alone-{hashlib.sha256(url.encode()).hexdigest()[:16]}") if group else None
    if shared is not None:
        shared.touch(0o600)  # now, while there is room on the disk
    return Hop(_kept(url), bundle, shared)


def _kept(url: str) -> str:
    """The same socket by a name of our own: BentoML removes its files before it ends its workers, which still call."""
    at, group = urlsplit(url), os.environ.get(lending.GROUP)
    if at.scheme != "file" or group is None:
        return url
    link = Path(group, Path(at.path).name)
    with suppress(FileExistsError):  # another worker of the gateway was here
        link.hardlink_to(at.path)
    return link.as_uri()


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Holds a lock on a file, which goes with its process."""
    with path.open("rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(FIRST_PAUSE)
        yield
