"""Audit: one entry in the log about every request for which a role is asked, once it is over."""

import logging
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.api.operations import Match
from bentos.auth import NOBODY
from bentos.usage import Usage
from ocr_ops.core.audit import AuditLog, Event, Outcome
from ocr_ops.runtime import telemetry

WAITING = 10_000
"""Events that may wait for the disk; those beyond are lost, and counted."""
STRANGERS = 100
"""Of them, those of callers nobody knows: strangers must not fill the disk, nor push others out."""

log = logging.getLogger("bentoml.ocr_ops")


class Auditor:
    """Writes events in their order, off the event loop: as many at once as came since the last were on the disk.

    The end of the process waits for the last of them. A full disk loses events, is told in the log and counted; the
    service goes on, and so does the log once there is room.
    """

    def __init__(self, folder: AuditLog) -> None:
        self.log = folder
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "audit")
        self._well = True
        telemetry.audit_lost(0)  # Prometheus sees no increase in a series that is born with the first loss

    def record(self, event: Event) -> None:
        with self._lock:
            idle = not self._events
            if len(self._events) >= (WAITING if event.caller else STRANGERS):
                telemetry.audit_lost(1)
                return
            self._events.append(event)
        if idle:
            self._pool.submit(self._write)

    def _write(self) -> None:
        with self._lock:
            events = list(self._events)
            self._events.clear()
        if not events:
            return
        try:
            self.log.append(events)
        except Exception as error:  # noqa: BLE001  whatever it is, requests are answered, and their loss is told
            telemetry.audit_lost(len(events))
            if self._well:
                log.error("audit log %s: %s; entries are being lost", self.log.folder, error)  # noqa: TRY400
            self._well = False
        else:
            self._well = True


class Audited:
    """Middleware: gives a request its `Usage`, and records what became of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        usage = scope["state"]["usage"] = Usage()
        match: Match = scope["state"]["match"]
        auditor: Auditor | None = scope["state"]["gateway"].auditor
        if auditor is None or match.operation is None or match.operation.role is None or match.operation.probe:
            await self.app(scope, receive, send)
            return
        status, whole = 0, False

        async def told(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self.app(scope, receive, told)
        finally:
            caller = scope["state"].get("caller", NOBODY)
            auditor.record(
                Event(
                    caller=None if caller is NOBODY else caller.id,
                    action=f"{match.operation.method} {match.operation.path}",
                    outcome=_outcome(status, whole=whole),
                    status=status or None,
                    request=scope["state"]["request_id"],
                    documents=tuple(usage.documents[:64]),
                    pages=usage.pages,
                    output=usage.output,
                    subject=usage.subject,
                )
            )


def _outcome(status: int, *, whole: bool) -> Outcome:
    if not whole:
        return "left"
    if status >= 500:
        return "failed"
    return "refused" if status >= 400 else "done"
