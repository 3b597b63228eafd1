"""Desk: where jobs are submitted and asked for. What stands behind it sees nothing of a document unsealed."""

import asyncio
import base64
import hashlib
import logging
import secrets
import sqlite3
import time
from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from bentos.champion import choice, end, setting
from bentos.jobs.job import OVER, Ask, Bounds, Entry, Failure, JobStore, ReadPage, Refused
from bentos.jobs.redis import RedisJobs
from bentos.jobs.sqlite import SqliteJobs
from bentos.jobs.webhook import SECRET_PREFIX, Webhooks
from bentos.sealed import KEY, Sealer, configured_keys, kept_keys
from bentos.store import Store
from ocr_ops.core.errors import OutsideSystem, UnreadableDocument
from ocr_ops.core.reading import Reading
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.workspace import Workspace
from ocr_ops.runtime.documents import Limits

PATIENCE = 5.0
"""Seconds that a call of Redis has at least: a cache is no use if it is slow, and jobs cannot go on without theirs."""

log = logging.getLogger("bentoml.ocr_ops")


@dataclass(frozen=True, slots=True)
class JobSettings:
    limits: Limits
    """Of a document: a job may be larger than what somebody waits for."""
    bounds: Bounds
    kept_seconds: float
    """How long a job is kept, from when it was submitted and again from when it is over."""
    seconds: float
    """What reading it may take."""

    @classmethod
    def from_environment(cls) -> Self:
        """A wrong one ends the process with one line."""
        largest = setting("OCR_OPS_JOB_MB", 100) * 2**20
        return cls(
            limits=Limits(max_bytes=largest, max_pages=setting("OCR_OPS_JOB_PAGES", 1000)),
            bounds=Bounds(
                unfinished=setting("OCR_OPS_JOBS_WAITING", 100),
                each=setting("OCR_OPS_JOBS_EACH", 20),
                size=setting("OCR_OPS_JOBS_MB", 2048) * 2**20,
            ),
            kept_seconds=setting("OCR_OPS_JOB_KEPT_SECONDS", 24 * 3600),
            seconds=setting("OCR_OPS_JOB_SECONDS", 3600),
        )


class Desk:
    """Of one process; `store` is all processes'."""

    def __init__(self, store: JobStore, sealer: Sealer, webhooks: Webhooks, settings: JobSettings) -> None:
        self.store, self.sealer, self.webhooks, self.settings = store, sealer, webhooks, settings

    @classmethod
    def from_environment(cls) -> Self:
        """Jobs in Redis where there is one and a key for it, else on this machine; see docs/jobs.md."""
        store = Store.from_environment(least=PATIENCE)
        settings = JobSettings.from_environment()
        webhooks = Webhooks(anywhere=choice("OCR_OPS_WEBHOOKS", "public", "anywhere") == "anywhere")
        keys = configured_keys()
        if store is not None and keys:
            return cls(RedisJobs(store), Sealer(keys[0], "jobs", keys[1:]), webhooks, settings)
        if store is not None:
            log.warning("%s is not set: jobs are not kept in Redis, but on this machine, which alone knows them", KEY)
        folder = Workspace.current().home / "jobs"
        try:
            keys = keys or kept_keys(folder / "key")
            return cls(SqliteJobs(folder), Sealer(keys[0], "jobs", keys[1:]), webhooks, settings)
        except (sqlite3.Error, OSError) as error:
            found = getattr(error, "strerror", None) or str(error)
            end(OutsideSystem(folder, found, "a folder to keep jobs in", "make room, or set OCR_OPS_HOME to another"))

    async def submit(self, ask: Ask, document: bytes, key: str | None = None) -> Entry | Refused:
        """A new job, or the one the caller submitted with this key before."""
        if key is not None and (known := await self._known(ask, document, key)) is not None:
            return known
        owner = self._owner(ask.caller)
        job = self.sealer.name("id", owner, key)[:32] if key is not None else secrets.token_hex(16)
        digest, sealed = await asyncio.to_thread(self._sealed_document, job, document)
        now = time.time()
        entry = Entry(
            id=job,
            owner=owner,
            asked=_asked(self.sealer, digest, ask),
            ask=self.sealer.seal(ask.model_dump_json().encode(), job, "ask"),
            size=len(sealed),
            created=now,
            expires=now + self.settings.kept_seconds,
            webhook=ask.webhook is not None,
        )
        return await self.store.add(entry, sealed, self.settings.bounds)

    async def _known(self, ask: Ask, document: bytes, key: str) -> Entry | Refused | None:
        """The job that was submitted with this key while an older one sealed."""
        for sealer in self.sealer.older:
            found = await self.store.get(sealer.name("id", sealer.name("owner", ask.caller), key)[:32])
            if found is not None:
                digest = await asyncio.to_thread(digest_bytes, document)
                return found if found.asked == _asked(sealer, digest, ask) else "asked"
        return None

    async def find(self, caller: str, job: str) -> Entry | None:
        """None for what is not the caller's, as for what is not there."""
        entry = await self.store.get(job)
        return entry if entry is not None and entry.owner in self.sealer.names("owner", caller) else None

    async def mine(self, caller: str) -> list[Entry]:
        """All of the caller's, the newest first."""
        found = [entry for owner in self.sealer.names("owner", caller) for entry in await self.store.mine(owner)]
        return sorted(found, key=lambda entry: -entry.created)

    async def remove(self, entry: Entry) -> Entry:
        """Ends a job that is not over, and erases what there is of it; one that is over is erased altogether."""
        if entry.state not in OVER:
            now = await self.store.cancel(entry.id, time.time() + self.settings.kept_seconds)
            if now is not None and now.state == "cancelled":
                return now
        await self.store.erase(entry.id)
        return entry

    def ask(self, entry: Entry) -> Ask:
        """What was asked for. `UnreadableDocument` when it was sealed with another key, as for all that is sealed, or
        by another caller than the store says: who may write there cannot hand a job to somebody else.
        """
        try:
            ask = Ask.model_validate_json(self._opened(entry.ask, entry.id, "ask"))
        except ValidationError:
            raise _unknown(entry.id, "of another version") from None
        if entry.owner not in self.sealer.names("owner", ask.caller):
            raise _unknown(entry.id, "another caller's")
        return ask

    async def document(self, entry: Entry) -> bytes:
        sealed = await self.store.document(entry.id)
        return await asyncio.to_thread(self._opened, sealed or b"", entry.id, "document")

    async def reading(self, entry: Entry) -> Reading:
        """The pages there are."""
        sealed = await self.store.pages(entry.id)
        language = self.ask(entry).options.language

        def opened() -> Reading:
            read = (self._page(entry, number, page) for number, page in enumerate(sealed, 1))
            return Reading(pages=tuple(one.page for one in read), language=language)

        return await asyncio.to_thread(opened)

    async def reader(self, entry: Entry) -> str | None:
        """What read the last page that counts, beyond which another may have left some; None when there is none."""
        sealed = await self.store.pages(entry.id)
        if not 0 < entry.done <= len(sealed):
            return None
        return self._page(entry, entry.done, sealed[entry.done - 1]).reader

    def failure(self, entry: Entry) -> Failure:
        """Why a job that failed did."""
        self.ask(entry)  # or it is another caller's
        if entry.failure:
            return Failure.model_validate_json(self._opened(entry.failure, entry.id, "failure"))
        return given_up(entry.id, f"page {entry.done + 1} felled its reader {entry.tries} times")

    def sealed_page(self, job: str, number: int, page: ReadPage) -> bytes:
        return self.sealer.seal(page.model_dump_json().encode(), job, "page", str(number))

    def _page(self, entry: Entry, number: int, sealed: bytes) -> ReadPage:
        try:
            return ReadPage.model_validate_json(self._opened(sealed, entry.id, "page", str(number)))
        except ValidationError:
            raise _unknown(entry.id, "of another version") from None

    def sealed_failure(self, job: str, failure: Failure) -> bytes:
        return self.sealer.seal(failure.model_dump_json().encode(), job, "failure")

    def secret(self, entry: Entry) -> str:
        """What a job's webhook is signed with: the same for all its owner's that one key sealed, and nobody else's."""
        sealer = self.sealer.opener(entry.ask, entry.id, "ask")
        owner = sealer.name("owner", self.ask(entry).caller)
        key = hashlib.sha256(sealer.name("webhook", owner).encode()).digest()
        return SECRET_PREFIX + base64.b64encode(key).decode()

    def _owner(self, caller: str) -> str:
        return self.sealer.name("owner", caller)

    def _sealed_document(self, job: str, document: bytes) -> tuple[str, bytes]:
        # Documents are compressed as they come.
        return digest_bytes(document), self.sealer.seal(document, job, "document", level=0)

    def _opened(self, sealed: bytes, *place: str) -> bytes:
        data = self.sealer.open(sealed, *place)
        if data is None:
            raise _unknown(place[0], "lost, or sealed with another key")
        return data


def given_up(job: str, found: str) -> Failure:
    """Why a job failed a page of which was tried for the last time."""
    return Failure(
        kind="unreadable-document",
        status=422,
        subject=f"job {job}",
        found=found,
        expected="a whole, open document",
        remedy="save or scan it again",
    )


def _asked(sealer: Sealer, digest: str, ask: Ask) -> str:
    return sealer.name("asked", digest, ask.model_dump_json(exclude={"limits"}))


def _unknown(job: str, found: str) -> UnreadableDocument:
    return UnreadableDocument(f"job {job}", found, "what was submitted", "submit it again", 410)
