"""Journal: which request is which. Its id, one JSON line about it in the log, one count; never what a document says."""

import json
import logging
import re
import sys
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.api.operations import Match, Table
from bentos.api.problems import CLIENT_LEFT
from ocr_ops.runtime import telemetry

REQUEST_ID = "X-Request-ID"
OTHER = "other"
"""Stands in labels for paths and methods that are not ours."""

_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def access_log() -> logging.Logger:
    """The logger of the JSON lines, on stdout: nothing stands before or after the object."""
    log = logging.getLogger("ocr_ops.access")
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stdout))
        log.setLevel(logging.INFO)
        log.propagate = False
    return log


class Requests:
    """The outermost middleware: gives a request its id, and finds the operation it asks for."""

    def __init__(self, app: ASGIApp, table: Table) -> None:
        self.app = app
        self.table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get(REQUEST_ID, "")
        name = given if _SANE.fullmatch(given) else uuid.uuid4().hex
        match = self.table.match(scope["method"], scope["path"])
        state = {**scope.get("state", {}), "request_id": name, "match": match}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = name
            await send(message)

        await self.app({**scope, "path_params": dict(match.parameters), "state": state}, receive, told)


class Journal:
    """Middleware: logs and counts each request once it is over, however it ended."""

    def __init__(self, app: ASGIApp, *, logged: bool) -> None:
        self.app = app
        self.log = access_log() if logged else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        status, received, sent, whole = 0, 0, 0, False

        async def hear() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def say(message: Message) -> None:
            nonlocal status, sent, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, hear, say)
        finally:
            seconds = time.perf_counter() - start
            match: Match = scope["state"]["match"]
            route = match.path or OTHER
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            ended = status if status and whole else CLIENT_LEFT
            telemetry.http_answered(route, method, ended, seconds)
            quiet = match.operation is not None and match.operation.probe and ended == 200
            if self.log is not None and not quiet:
                self.log.info(
                    json.dumps(
                        {
                            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                            "request": scope["state"]["request_id"],
                            "method": method,
                            "route": route,
                            "status": ended,
                            "ms": round(seconds * 1000, 1),
                            "received": received,
                            "sent": sent,
                            **_of_state(scope),
                        }
                    )
                )


def _of_state(scope: Scope) -> dict[str, Any]:
    """Who asked, and what the operation had to tell of itself: counts, never text."""
    state = scope["state"]
    caller = state.get("caller")
    client = scope.get("client")
    return {
        "client": client[0] if client else None,
        "caller": None if caller is None else caller.id,
        **state.get("told", {}),
    }
