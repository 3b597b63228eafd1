"""Jobs in SQLite, for the processes of one machine: a database beside a file for each document."""

import asyncio
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, TypeVar

from bentos.jobs.job import MOST_TRIES, OVER, Bounds, Claim, Entry, Notice, Refused, State
from bentos.shared import transaction, write_ahead
from ocr_ops.core.errors import StoreAway

T = TypeVar("T")
_COLUMNS = tuple(field.name for field in fields(Entry))
_TABLES = f"""
CREATE TABLE IF NOT EXISTS jobs (
    {", ".join("id TEXT PRIMARY KEY" if name == "id" else name for name in _COLUMNS)},
    token TEXT NOT NULL DEFAULT '', boot TEXT NOT NULL DEFAULT '', lease REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state);
CREATE INDEX IF NOT EXISTS jobs_owner ON jobs (owner);
CREATE TABLE IF NOT EXISTS pages (job TEXT, number INTEGER, page BLOB, PRIMARY KEY (job, number)) WITHOUT ROWID;
"""
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs"  # noqa: S608  names of our own
_UNFINISHED = "state IN ('waiting', 'running')"
_FREE = "(boot <> :boot OR lease <= :now)"
_NEXT = f"""
{_SELECT} AS job WHERE {_UNFINISHED} AND {_FREE} AND expires > :wall
ORDER BY (SELECT count(*) FROM jobs AS other WHERE other.owner = job.owner AND other.state = 'running'), rowid LIMIT 1
"""  # noqa: S608
_DUE = f"""
{_SELECT} WHERE notice = 'due' AND {_FREE} AND expires > :wall AND owner NOT IN (
    SELECT owner FROM jobs WHERE notice = 'due' AND token <> '' AND NOT {_FREE} GROUP BY owner HAVING count(*) >= :each
) ORDER BY finished LIMIT 1
"""  # noqa: S608
_BUSY_SECONDS = 10.0
_ORPHAN_SECONDS = 3600.0
_COMING = f".*.{'[0-9a-f]' * 16}"
"""Documents that are being written. A key that is, `.key.PID`, is none of them."""


class SqliteJobs:
    """`JobStore` in a folder, made for this user alone.

    Leases go by the clock since the machine was started, which no step of the time of day moves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        old = os.umask(0o077)
        try:
            self._db = sqlite3.connect(
                folder / "jobs.db", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            write_ahead(self._db, _BUSY_SECONDS)
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.executescript(_TABLES)
        finally:
            os.umask(old)

    async def add(self, entry: Entry, document: bytes, bounds: Bounds) -> Entry | Refused:
        return await _aside(lambda: self._add(entry, document, bounds))

    async def get(self, job: str) -> Entry | None:
        found = await self._all(f"{_SELECT} WHERE id = ? AND expires > ?", job, time.time())
        return found[0] if found else None

    async def mine(self, owner: str) -> list[Entry]:
        return await self._all(f"{_SELECT} WHERE owner = ? AND expires > ? ORDER BY rowid DESC", owner, time.time())

    async def document(self, job: str) -> bytes | None:
        def read() -> bytes | None:
            with suppress(FileNotFoundError):
                return self._file(job).read_bytes()
            return None

        return await _aside(read)

    async def pages(self, job: str) -> list[bytes]:
        def read(db: sqlite3.Connection) -> list[bytes]:
            rows = db.execute("SELECT page FROM pages WHERE job = ? ORDER BY number", (job,))
            return [page for (page,) in rows]

        return await self._with(read)

    async def claim(self, lease: float) -> Claim | None:
        def claim(db: sqlite3.Connection) -> Claim | None:
            times = self._times()
            while (row := db.execute(_NEXT, times).fetchone()) is not None:
                entry = Entry(*row)
                if entry.tries >= MOST_TRIES:
                    self._over(db, entry, "failed", b"", entry.expires)
                    continue
                token = secrets.token_hex(16)
                db.execute(
                    "UPDATE jobs SET state = 'running', tries = tries + 1, token = ?, boot = ?, lease = ? WHERE id = ?",
                    (token, self._boot, times["now"] + lease, entry.id),
                )
                return Claim(_entry(db, entry.id), token)
            return None

        return await self._with(claim)

    async def hold(self, claim: Claim, lease: float) -> bool:
        until = self._times()["now"] + lease
        if not lease:
            # A page has set them to 0 since it was claimed, perhaps.
            back = "UPDATE jobs SET state = 'waiting', lease = 0, token = '', tries = max(tries - 1, 0)"
            return await self._ours(back, (), claim)
        return await self._ours("UPDATE jobs SET lease = ?", (until,), claim)

    async def leave(self, claim: Claim, pause: float) -> bool:
        until = self._times()["now"] + pause
        return await self._ours("UPDATE jobs SET state = 'waiting', lease = ?, token = ''", (until,), claim)

    async def page(self, claim: Claim, number: int, page: bytes, total: int | None) -> bool:
        def keep(db: sqlite3.Connection) -> bool:
            if not _is_ours(db, claim):
                return False
            # A page may be read again, and all of them.
            old = "FROM pages WHERE job = ? AND (number = ? OR ? = 1)"
            place = (claim.entry.id, number, number)
            (before,) = db.execute(f"SELECT coalesce(sum(length(page)), 0) {old}", place).fetchone()
            db.execute(f"DELETE {old}", place)
            db.execute("INSERT INTO pages VALUES (?, ?, ?)", (claim.entry.id, number, page))
            done = "UPDATE jobs SET tries = 0, done = ?, total = coalesce(?, total), size = size + ? WHERE id = ?"
            db.execute(done, (number, total, len(page) - before, claim.entry.id))
            return True

        return await self._with(keep)

    async def finish(self, claim: Claim, state: State, failure: bytes, expires: float) -> bool:
        def finish(db: sqlite3.Connection) -> bool:
            ours = _is_ours(db, claim)
            if ours:
                self._over(db, claim.entry, state, failure, expires)
            return ours

        return await self._with(finish)

    async def cancel(self, job: str, expires: float) -> Entry | None:
        def cancel(db: sqlite3.Connection) -> Entry | None:
            row = db.execute(f"{_SELECT} WHERE id = ? AND expires > ?", (job, time.time())).fetchone()
            if row is None:
                return None
            entry = Entry(*row)
            if entry.state not in OVER:
                self._over(db, entry, "cancelled", b"", expires)
                db.execute("DELETE FROM pages WHERE job = ?", (job,))
                self._file(job).unlink(missing_ok=True)
            return _entry(db, job)

        return await self._with(cancel)

    async def erase(self, job: str) -> None:
        def erase(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM pages WHERE job = ?", (job,))
            db.execute("DELETE FROM jobs WHERE id = ?", (job,))
            self._file(job).unlink(missing_ok=True)

        await self._with(erase)

    async def claim_notice(self, lease: float, each: int) -> Claim | None:
        def claim(db: sqlite3.Connection) -> Claim | None:
            times = self._times()
            row = db.execute(_DUE, times | {"each": each}).fetchone()
            if row is None:
                return None
            entry, token = Entry(*row), secrets.token_hex(16)
            values = (token, self._boot, times["now"] + lease, entry.id)
            db.execute("UPDATE jobs SET token = ?, boot = ?, lease = ?, notices = notices + 1 WHERE id = ?", values)
            return Claim(_entry(db, entry.id), token)

        return await self._with(claim)

    async def noticed(self, claim: Claim, notice: Notice, again: float) -> bool:
        until = self._times()["now"] + again
        return await self._ours("UPDATE jobs SET token = '', notice = ?, lease = ?", (notice, until), claim)

    async def sweep(self) -> None:
        now = time.time()

        def expired(db: sqlite3.Connection) -> list[str]:
            return [job for (job,) in db.execute("SELECT id FROM jobs WHERE expires <= ?", (now,))]

        for job in await self._with(expired):
            await self.erase(job)

        def known(db: sqlite3.Connection) -> set[str]:
            return {job for (job,) in db.execute("SELECT id FROM jobs")}

        names = await self._with(known)
        unknown = (file for file in self.folder.glob("*.document") if file.stem not in names)
        for file in (*unknown, *self.folder.glob(_COMING)):
            with suppress(FileNotFoundError):
                # Its process died before it was entered, or written.
                if now - file.stat().st_mtime > _ORPHAN_SECONDS:
                    file.unlink()

    async def close(self) -> None:
        with self._lock:
            self._db.close()

    def _add(self, entry: Entry, document: bytes, bounds: Bounds) -> Entry | Refused:
        found = self._admitted(entry, bounds)
        if found is not None:
            return found
        made = self.folder / f".{entry.id}.{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(document)
                file.flush()
                os.fsync(file.fileno())
            marks = ", ".join("?" * len(_COLUMNS))
            with self._transaction() as db:
                # Another may have been quicker while the document was written.
                found = self._refused(db, entry, bounds)
                if found is None:
                    made.replace(self._file(entry.id))
                    db.execute(f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({marks})", astuple(entry))  # noqa: S608
        finally:
            made.unlink(missing_ok=True)
        return entry if found is None else found

    def _admitted(self, entry: Entry, bounds: Bounds) -> Entry | Refused | None:
        with self._transaction() as db:
            return self._refused(db, entry, bounds)

    @staticmethod
    def _refused(db: sqlite3.Connection, entry: Entry, bounds: Bounds) -> Entry | Refused | None:
        """The same job where it is there already, or why this one is not taken; None: it is."""
        row = db.execute(f"{_SELECT} WHERE id = ?", (entry.id,)).fetchone()
        if row is not None:
            known = Entry(*row)
            return known if known.asked == entry.asked else "asked"
        count = f"SELECT count(*), coalesce(sum(owner = ?), 0) FROM jobs WHERE {_UNFINISHED}"  # noqa: S608
        unfinished, own = db.execute(count, (entry.owner,)).fetchone()
        if own >= bounds.each:
            return "each"
        if unfinished >= bounds.unfinished:
            return "unfinished"
        sizes = "SELECT total(size), total(size * (owner = ?)) FROM jobs WHERE state <> 'cancelled'"
        size, own_size = db.execute(sizes, (entry.owner,)).fetchone()
        free = bounds.size - size
        if entry.size > free:
            return "size"
        return "share" if own_size + entry.size > free else None

    @staticmethod
    def _over(db: sqlite3.Connection, entry: Entry, state: State, failure: bytes, expires: float) -> None:
        notice: Notice = "due" if entry.webhook else "none"
        values = (state, failure, expires, time.time(), notice, entry.id)
        db.execute(
            "UPDATE jobs SET state = ?, failure = ?, expires = ?, finished = ?, notice = ?, token = '', lease = 0 "
            "WHERE id = ?",
            values,
        )

    async def _ours(self, update: str, values: tuple[Any, ...], claim: Claim) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            where = (claim.entry.id, claim.token)
            return bool(db.execute(f"{update} WHERE id = ? AND token = ?", (*values, *where)).rowcount)

        return await self._with(work)

    async def _all(self, query: str, *values: object) -> list[Entry]:
        def read(db: sqlite3.Connection) -> list[Entry]:
            return [Entry(*row) for row in db.execute(query, values)]

        return await self._with(read)

    async def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with self._transaction() as db:
                return work(db)

        return await _aside(run)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._db) as db:
            yield db

    def _times(self) -> dict[str, Any]:
        return {"boot": self._boot, "now": time.clock_gettime(time.CLOCK_BOOTTIME), "wall": time.time()}

    def _file(self, job: str) -> Path:
        return self.folder / f"{job}.document"


async def _aside(work: Callable[[], T]) -> T:
    """What `work` gives, off the event loop. `StoreAway` where the disk is full, or the database ill."""
    try:
        return await asyncio.to_thread(work)
    except (sqlite3.Error, OSError) as error:
        found = getattr(error, "strerror", None) or str(error)
        raise StoreAway("jobs", found, "room and rights to keep them", "look after the disk they are on") from None


def _entry(db: sqlite3.Connection, job: str) -> Entry:
    return Entry(*db.execute(f"{_SELECT} WHERE id = ?", (job,)).fetchone())


def _is_ours(db: sqlite3.Connection, claim: Claim) -> bool:
    found = db.execute("SELECT 1 FROM jobs WHERE id = ? AND token = ?", (claim.entry.id, claim.token)).fetchone()
    return found is not None
