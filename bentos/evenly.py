"""Evenly: clients are spread over the gateway's workers, which share a port.

Whoever wakes first takes all connections that wait at that moment, and one that is kept stays where it is: of 64 that
came at once to four workers, all went to one. Each worker therefore tells the others how many requests it has inside.
One with more than its share asks those it answers to connect anew, and whoever is free takes them.
"""

import fcntl
import os
from array import array
from contextlib import suppress
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.lending import GROUP

FILE = "inside"
"""Of the group's folder, there before any worker is: a number for each."""
MOST_WORKERS = 64
NUMBER = "I"
SIZE = array(NUMBER).itemsize
TIMES, MORE = 1.5, 2
"""A worker has more than its share with so many times the mean of all, and so many more."""


class Shares:
    """Of one worker. A place in the file is its own by a lock, which ends with it; whoever comes next begins at 0."""

    def __init__(self, path: Path, workers: int) -> None:
        self._workers = workers
        self._inside = 0
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._place = next(place for place in range(MOST_WORKERS) if self._taken(place))
        self.add(0)

    def add(self, requests: int) -> None:
        """So many more are inside."""
        self._inside += requests
        with suppress(OSError):  # a full disk: clients are spread less evenly
            os.pwrite(self._file, array(NUMBER, [self._inside]).tobytes(), self._place * SIZE)

    def too_many(self) -> bool:
        """Whether others have room for what this worker has inside."""
        numbers = array(NUMBER, os.pread(self._file, MOST_WORKERS * SIZE, 0))
        return self._inside > TIMES * sum(numbers) / self._workers + MORE

    def _taken(self, place: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, SIZE, place * SIZE)
        except OSError:
            return False
        return True


class Evenly:
    """Middleware: answers of a worker that has more than its share end their connections."""

    def __init__(self, app: ASGIApp, shares: Shares) -> None:
        self.app = app
        self.shares = shares

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start" and self.shares.too_many():
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        self.shares.add(1)
        try:
            await self.app(scope, receive, say)
        finally:
            self.shares.add(-1)


def evenly(app: ASGIApp, workers: int) -> ASGIApp:
    """The app, with its clients spread over so many workers of one group; one alone has nobody to spread them over."""
    folder = os.environ.get(GROUP)
    return Evenly(app, Shares(Path(folder, FILE), workers)) if folder and workers > 1 else app
