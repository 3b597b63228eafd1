"""Shared: a database in a file, which the processes of one machine have in common; every step of theirs is whole."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ocr_ops.core.errors import StoreAway

T = TypeVar("T")
BUSY_SECONDS = 2.0
"""For which a step waits for those of other processes."""
AGAIN_SECONDS = 5.0
"""After which a file that failed is tried again: until then nobody waits for it."""
_LOOK_SECONDS = 0.01

log = logging.getLogger("bentoml.ocr_ops")


class Shared:
    """Of one process, with a thread of its own. While the file cannot be used callers learn so, at once or soon, and go
    on without it; it is tried again by itself. One log line tells each change.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None], meanwhile: str) -> None:
        """`prepare` makes what is not there yet, whenever the file is opened. `meanwhile` is what callers do without
        the file, for the log.
        """
        self.path = path
        self._prepare, self._meanwhile = prepare, meanwhile
        self._database: sqlite3.Connection | None = None
        self._reason: str | None = None
        self._again = 0.0
        """When it is tried again, on the monotonic clock."""
        self._pool = ThreadPoolExecutor(1, path.stem)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` gives, all of it done or nothing. `StoreAway` while the file cannot be used."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, work)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._reason is not None and time.monotonic() < self._again:
            raise self._away(self._reason)
        try:
            self._database = self._database or self._opened()
            with transaction(self._database) as database:
                found = work(database)
        except (OSError, sqlite3.Error) as error:
            raise self._away(self._failed(error)) from None
        if self._reason is not None:
            log.warning("%s: can be used again", self.path)
            self._reason = None
        return found

    def _opened(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            write_ahead(database, BUSY_SECONDS)
            self._prepare(database)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _failed(self, error: Exception) -> str:
        """Why; closed with whatever it left half done."""
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        if self._reason is None:
            log.warning("%s: %s; %s until it can be used again", self.path, reason, self._meanwhile)
        self._reason = reason
        self._again = time.monotonic() + AGAIN_SECONDS
        if self._database is not None:
            self._database.close()
            self._database = None
        return reason

    def _away(self, reason: str) -> StoreAway:
        return StoreAway(self.path, reason, "a file to use", "see the log; it is tried again by itself")


def write_ahead(database: sqlite3.Connection, seconds: float) -> None:
    """Has its changes go to a log first (WAL), which others read beside, and waits for them so long where they are just
    doing the same: SQLite itself does not, however long its time-out, and calls the database locked.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All that is done in the block, or nothing of it."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
