"""API keys as the gateway checks them: a slow hash once, then remembered; wrong ones bounded, off the event loop."""

import asyncio
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ocr_ops.core.errors import BadRecord, Overloaded
from ocr_ops.core.keys import Key, KeyRing, Secret, handle_of, now, read_keys

REMEMBER_SECONDS = 300.0
"""What a slow hash said of a key holds for so long. Expiry and revocation are looked at on every request."""
REMEMBERED = 4096
"""Keys, and as many wrong ones."""
WAITING = 16
"""Keys that may wait for their slow hash; beyond, callers are asked to come again."""
FAILURES, FAILURE_SECONDS = 10, 60.0
"""Wrong keys that one address may have hashed in so many seconds."""
_ADDRESSES = 4096

log = logging.getLogger("bentoml.ocr_ops")


class ApiKeys:
    """The ring in a file, followed as it changes. A file that breaks leaves the last good ring in force; without one,
    nobody is let in: whoever wrote keys there asked for them, whole or not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ring = KeyRing()
        self._any = False
        self._stamp: tuple[int, ...] | None = None
        """Of the file whose ring it is; None: of none."""
        self._told: tuple[int, ...] | None = None
        """Of the file that the log called broken."""
        self._pepper = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._hashing: dict[bytes, asyncio.Task[bool]] = {}
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._pool = ThreadPoolExecutor(1, "keys")

    @property
    def ring(self) -> KeyRing:
        """As the file is now: looking whether it changed takes microseconds."""
        self._look()
        return self._ring

    @property
    def any(self) -> bool:
        """Whether there is a key, was one, or may be, in a file nobody can read: a service that asked for keys never
        stops to.
        """
        if not self._any:
            self._look()
        return self._any

    def _look(self) -> None:
        """Reads the file if it changed, and one that was broken again: what kept it from being read may have gone."""
        stamp: tuple[int, ...] | None
        try:
            found = os.stat(self.path)  # noqa: PTH116  Path.stat is three times as slow, and this is on every request
        except FileNotFoundError:
            stamp = None
        except OSError as error:
            stamp = (error.errno or 0,)
        else:
            # A file whose rights alone changed has a new ctime, and no other mark of it.
            stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)
        if stamp == self._stamp:
            return
        try:
            self._ring = read_keys(self.path)
        except BadRecord as error:
            self._any = True
            if stamp != self._told:
                self._told = stamp
                kept = "those read before stay in force" if self._ring.keys else "nobody is let in until it is whole"
                log.error("keys: %s; %s", error, kept)  # noqa: TRY400  the line says it all
            return
        self._stamp = stamp
        self._any = self._any or bool(self._ring.keys)

    async def key(self, whole: str, address: str) -> Key | None:
        """Whose key this is, if it is good now; None for any other. `Overloaded` when too many wrong ones came."""
        handle = handle_of(whole)
        found = self.ring.find(handle) if handle else None
        if found is None:
            return None
        key, secret = found
        if not key.good(secret, now()):
            return None
        return key if await self._matches(secret, whole, address) else None

    async def _matches(self, secret: Secret, whole: str, address: str) -> bool:
        # Of what is remembered nobody learns a key, nor which were tried; another hash is another memory.
        mark = hmac.digest(self._pepper, f"{secret.hash}:{whole}".encode(), hashlib.sha256)
        known, until = self._known.get(mark, (False, 0.0))
        if until > time.monotonic():
            return known
        if mark not in self._hashing:
            self._require_patience(address)
            task = asyncio.get_running_loop().create_task(self._hash(mark, secret, whole, address))
            self._hashing[mark] = task
            task.add_done_callback(lambda _: self._hashing.pop(mark))
        return await asyncio.shield(self._hashing[mark])

    async def _hash(self, mark: bytes, secret: Secret, whole: str, address: str) -> bool:
        good = await asyncio.get_running_loop().run_in_executor(self._pool, secret.matches, whole)
        self._known[mark] = (good, time.monotonic() + REMEMBER_SECONDS)
        self._known.move_to_end(mark)
        while len(self._known) > 2 * REMEMBERED:
            self._known.popitem(last=False)
        if not good:
            self._failures.setdefault(address, []).append(time.monotonic())
            self._failures.move_to_end(address)
            while len(self._failures) > _ADDRESSES:
                self._failures.popitem(last=False)
        return good

    def _require_patience(self, address: str) -> None:
        """`Overloaded` where one address had too many wrong keys hashed lately, or too many wait for theirs."""
        recent = [at for at in self._failures.get(address, ()) if time.monotonic() - at < FAILURE_SECONDS]
        if recent:
            self._failures[address] = recent
        else:
            self._failures.pop(address, None)
        if len(recent) >= FAILURES:
            wait = max(1, round(FAILURE_SECONDS - (time.monotonic() - recent[0])))
            found = f"{len(recent)} wrong ones in {FAILURE_SECONDS:.0f} s"
            raise Overloaded("API key", found, "the right one", "look for the right one, then try again", wait)
        if len(self._hashing) >= WAITING:
            found = f"{len(self._hashing)} that nobody knew wait to be checked"
            raise Overloaded("API key", found, "fewer", "try again soon", 1)
