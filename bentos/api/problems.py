"""Problems: every answer that is no success, as RFC 9457 has them. No traceback and no path of ours is ever in one."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from pydantic import Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ocr_ops.core.errors import (
    BadInput,
    ModelAway,
    OcrOpsError,
    OutsideSystem,
    Overloaded,
    TooLate,
    UnreadableDocument,
)
from ocr_ops.core.record import Told

PROBLEM = "application/problem+json"
KIND = "urn:ocr-ops:problem:"
PICKLE = "application/vnd.bentoml+pickle"
"""What BentoML's services send each other. From outside it would be code to run."""
CLIENT_LEFT = 499
"""What logs and metrics call the answer nobody waited for; no client sees it."""

log = logging.getLogger("bentoml.ocr_ops")


class Problem(Told):
    """What went wrong, whose doing it was, and what to do."""

    type: Annotated[str, Field(examples=[f"{KIND}unreadable-document"])]
    """The kind of problem, for programs: it does not change."""
    title: Annotated[str, Field(examples=["Unsupported Media Type"])]
    status: Annotated[int, Field(ge=400, le=599, examples=[415])]
    detail: Annotated[str, Field(examples=["an unknown type"])]
    """What was found."""
    subject: Annotated[str, Field(examples=["notes.txt"])]
    """What the problem is about."""
    expected: Annotated[str, Field(examples=["JPEG, PNG, TIFF, WebP, BMP, GIF, PDF or DOCX"])]
    remedy: Annotated[str, Field(examples=["convert it first"])]
    """What to do."""
    instance: Annotated[str, Field(examples=["urn:ocr-ops:request:5b0c3a"])] | None = None
    """Which request it was: its id stands in the header `X-Request-ID` and in the service's log."""


class Refusal(BadInput):
    """A request that is not taken as it is. `kind` ends the problem's type; `headers` go with the answer."""

    def __init__(  # noqa: PLR0917  as many parts as it has
        self,
        subject: object,
        found: str,
        expected: str,
        remedy: str,
        status: int,
        kind: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(subject, found, expected, remedy)
        self.status = status
        self.kind = kind
        self.headers = headers or {}

    def __reduce__(self) -> tuple[type[OcrOpsError], tuple[object, ...]]:  # type: ignore[override]
        parts = (self.subject, self.found, self.expected, self.remedy, self.status, self.kind, self.headers)
        return type(self), parts


def problem_of(error: OcrOpsError, request: str | None = None) -> Problem:
    """An error as a problem of the request of this id."""
    status = status_of(error)
    return Problem(
        type=KIND + _kind(error),
        title=HTTPStatus(status).phrase,
        status=status,
        detail=error.found,
        subject=error.subject,
        expected=error.expected,
        remedy=error.remedy,
        instance=None if request is None else f"urn:ocr-ops:request:{request}",
    )


def _kind(error: OcrOpsError) -> str:
    if isinstance(error, Refusal):
        return error.kind
    # Whose doing it is that a model failed is for those who ask it again.
    kind = ModelAway if isinstance(error, ModelAway) else type(error)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


def status_of(error: OcrOpsError) -> int:
    """The HTTP status an error is told with."""
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, UnreadableDocument | TooLate):
        return error.http_status
    return 503 if isinstance(error, OutsideSystem) else 422


def answer_of(error: OcrOpsError, request: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """An error as an answer. One that may go away by itself says when to try again."""
    found = problem_of(error, request)
    body = found.model_dump_json(exclude_none=True)
    return Response(body, found.status, {**headers_of(error), **(headers or {})}, media_type=PROBLEM)


def headers_of(error: OcrOpsError) -> Mapping[str, str]:
    """What an error's answer carries besides the problem."""
    if isinstance(error, Refusal):
        return error.headers
    if isinstance(error, Overloaded):
        return {"Retry-After": str(error.retry_after)}
    return {"Retry-After": "1"} if status_of(error) == 503 else {}


def failed() -> OcrOpsError:
    """What a client is told of a fault of ours."""
    return Refusal("service", "failed", "an answer", "tell whoever runs this service the request id", 500, "failed")


class Problems:
    """Middleware: whatever goes wrong further in is answered as a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        request: str = scope["state"]["request_id"]
        try:
            await self.app(scope, receive, note)
        except ClientDisconnect:
            scope["state"]["left"] = True
            if not started:  # BentoML waits for an answer, if only to throw it away
                await answer_of(_stock(scope, 400), request)(scope, receive, send)
        except OcrOpsError as error:
            if started:
                raise
            await answer_of(error, request)(scope, receive, send)
        except HTTPException as error:
            if started:
                raise
            await answer_of(_stock(scope, error.status_code), request, error.headers)(scope, receive, send)
        except Exception:
            log.exception("request %s failed", request)
            if started:
                raise
            await answer_of(failed(), request)(scope, receive, send)


class Foreign:
    """Middleware around what is BentoML's: its own errors become problems, too, and it is sent no pickle.

    So do its redirections, of paths with a slash too many, to URLs that who calls through a proxy has not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = Headers(scope=scope).get("content-type", "").strip().lower()
        if kind.startswith(PICKLE):
            # BentoML refuses it too, with a traceback in the log for each.
            raise Refusal("request", PICKLE, "JSON or a form", "send it so", 415, "unsupported-media-type")
        replaced = False

        async def replace(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 300:
                replaced = True
                headers = Headers(raw=message["headers"])
                kept = {"allow": headers["allow"]} if "allow" in headers else None
                error = _stock(scope, message["status"] if message["status"] >= 400 else 404)
                await answer_of(error, scope["state"]["request_id"], kept)(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, replace)


def _stock(scope: Scope, status: int) -> OcrOpsError:
    """A problem of which no more is known than its status."""
    subject = f"{scope['method']} {scope['path']}"[:200]
    found = HTTPStatus(status).phrase.lower()
    if status >= 500:
        return failed()
    expected = "a call that GET /openapi.json lists"
    return Refusal(subject, found, expected, "correct the request", status, found.replace(" ", "-"))
