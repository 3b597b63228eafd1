"""Audit: one entry in the log about every request for which a role is asked, once it is over; before it is answered,
where no answer may go out unrecorded.
"""

import asyncio
import logging
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.api.operations import Match
from bentos.api.problems import answer_of
from bentos.auth import NOBODY
from bentos.champion import choice
from bentos.usage import Usage
from ocr_ops.core.audit import AuditLog, Event, Outcome
from ocr_ops.core.errors import OutsideSystem
from ocr_ops.core.workspace import Workspace
from ocr_ops.runtime import telemetry

AUDIT = "OCR_OPS_AUDIT"
"""`on` (unless set), `off`, or `required`: whether requests whose entry cannot be written are answered all the same."""
WAITING = 10_000
"""Events that may wait for the disk; those beyond are lost, and counted."""
STRANGERS = 100
"""Of them, those of callers nobody knows: strangers must not fill the disk, nor push others out."""

log = logging.getLogger("bentoml.ocr_ops")


class Auditor:
    """Writes events in their order, off the event loop: as many at once as came since the last were on the disk.

    The end of the process waits for the last of them. A full disk loses events, is told in the log and counted; the
    service goes on, and so does the log once there is room. With `required`, nobody is answered meanwhile.
    """

    def __init__(self, folder: AuditLog, *, required: bool = False) -> None:
        self.log = folder
        self.required = required
        self._events: deque[tuple[Event, Future[None]]] = deque()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "audit")
        self._well = True
        telemetry.audit_lost(0)  # Prometheus sees no increase in a series that is born with the first loss

    @classmethod
    def from_environment(cls) -> Self | None:
        """None where no log is kept."""
        kept = choice(AUDIT, "on", "off", "required")
        return None if kept == "off" else cls(AuditLog(Workspace.current().audit), required=kept == "required")

    def record(self, event: Event) -> Future[None]:
        """Done once the event is on the disk, or lost: `OutsideSystem`."""
        done: Future[None] = Future()
        with self._lock:
            idle = not self._events
            room = len(self._events) < (WAITING if event.caller else STRANGERS)
            if room:
                self._events.append((event, done))
        if not room:
            telemetry.audit_lost(1)
            done.set_exception(_lost("too many entries wait for its disk"))
        elif idle:
            self._pool.submit(self._write)
        return done

    def _write(self) -> None:
        with self._lock:
            events = list(self._events)
            self._events.clear()
        if not events:
            return
        lost = None
        try:
            self.log.append([event for event, _ in events])
        except Exception as error:  # noqa: BLE001  whatever it is, the service goes on, and their loss is told
            lost = (isinstance(error, OSError) and error.strerror) or type(error).__name__
            telemetry.audit_lost(len(events))
            if self._well:
                log.error("audit log %s: %s; entries are being lost", self.log.folder, error)  # noqa: TRY400
            self._well = False
        else:
            self._well = True
        for _, done in events:
            if lost is None:
                done.set_result(None)
            else:
                done.set_exception(_lost(lost))


def _lost(found: str) -> OutsideSystem:
    """What callers are told: no path, which strangers need not know."""
    return OutsideSystem("audit log", found, "an entry before the answer", "try again soon; the service's log says why")


class Audited:
    """Middleware: gives a request its `Usage`, and records what became of it. Where that is required, before the first
    byte of the answer goes out; what becomes of it then, of a stream say, is another entry.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        usage = scope["state"]["usage"] = Usage()
        match: Match = scope["state"]["match"]
        auditor: Auditor | None = scope["state"]["gateway"].auditor
        if auditor is None or match.operation is None or match.operation.role is None or match.operation.probe:
            await self.app(scope, receive, send)
            return
        operation, status, whole, refused = match.operation, 0, False, False
        before: Event | None = None

        def event(*, whole: bool) -> Event:
            caller = scope["state"].get("caller", NOBODY)
            return Event(
                caller=None if caller is NOBODY else caller.id,
                action=f"{operation.method} {operation.path}",
                outcome=_outcome(status, whole=whole),
                status=status or None,
                request=scope["state"]["request_id"],
                documents=tuple(usage.documents[:64]),
                pages=usage.pages,
                output=usage.output,
                subject=usage.subject,
            )

        async def told(message: Message) -> None:
            nonlocal status, whole, refused, before
            if refused:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if auditor.required:
                    before = event(whole=True)
                    try:
                        await asyncio.wrap_future(auditor.record(before))
                    except OutsideSystem as error:
                        answer = answer_of(error, scope["state"]["request_id"])
                        status, whole, refused = answer.status_code, True, True
                        await answer(scope, receive, send)
                        return
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self.app(scope, receive, told)
        finally:
            after = event(whole=whole)
            if before is None or before.model_copy(update={"time": after.time}) != after:
                auditor.record(after)


def _outcome(status: int, *, whole: bool) -> Outcome:
    if not whole:
        return "left"
    if status >= 500:
        return "failed"
    return "refused" if status >= 400 else "done"
