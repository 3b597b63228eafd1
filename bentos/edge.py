"""The edge: what an HTTP client may send, and every answer that is not a reading, as RFC 9457 problems."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bentoml
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ocr_ops.core.errors import OcrOpsError, OutsideSystem, UnreadableDocument, UsageError
from ocr_ops.runtime import telemetry

FIELD = "file"
PROBLEM = "application/problem+json"
PICKLE = "application/vnd.bentoml+pickle"
"""What BentoML's services send each other. From outside it would be code to run."""
RECEIVE_SECONDS = 60.0
_ENVELOPE_BYTES = 64 * 1024
"""What a multipart body may hold besides the file: boundaries, headers, a few small fields."""


def problem(error: OcrOpsError, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An error as a problem (RFC 9457), with the parts of the error as extension members."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
    members = {
        "type": f"urn:ocr-ops:problem:{name}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.found,
        "subject": error.subject,
        "expected": error.expected,
        "remedy": error.remedy,
    }
    return JSONResponse(members, status, headers, media_type=PROBLEM)


@dataclass(frozen=True, slots=True)
class Upload:
    """A document that has not been received yet."""

    request: Request

    async def read(self, limit: int) -> tuple[str, bytes]:
        """Receives the document: its file name and at most `limit` bytes. `UnreadableDocument` says the status."""
        headers = self.request.headers
        found = headers.get("content-type", "no content type").partition(";")[0].strip()
        if found.lower() != "multipart/form-data":
            raise _refused(415, found, f"multipart/form-data with a field `{FIELD}`")
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit + _ENVELOPE_BYTES:
            raise _too_large(limit)
        bounded = Request(self.request.scope, self._bounded(limit + _ENVELOPE_BYTES))
        try:
            async with asyncio.timeout(RECEIVE_SECONDS), bounded.form(max_files=1, max_fields=8) as form:
                document = form.get(FIELD)
                if not isinstance(document, UploadFile):
                    found = f"no complete field `{FIELD}`" if document is None else "text, without a file name"
                    raise _refused(400, found, f"a document as the file `{FIELD}`")
                return document.filename or FIELD, await document.read()
        except (HTTPException, MultiPartException) as error:
            found = str(getattr(error, "detail", "") or error)
            raise _refused(400, found, f"one file, in the field `{FIELD}`") from None
        except TimeoutError:
            found = f"not received within {RECEIVE_SECONDS:.0f} s"
            raise _refused(408, found, "the whole document") from None
        except ClientDisconnect:
            raise _refused(400, "the client left", "the whole document") from None

    def _bounded(self, limit: int) -> Receive:
        received = 0

        async def receive() -> Message:
            nonlocal received
            message = await self.request.receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit - _ENVELOPE_BYTES)
            return message

        return receive


class Document(bentoml.IODescriptor):
    """A multipart form with one document in `file`: JPEG, PNG, TIFF, WebP, BMP, GIF or PDF."""

    file: Path

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:  # noqa: ARG003  BentoML's signature
        """Leaves the body alone: the gateway first decides whether to receive it at all.

        BentoML would write all of it to disk, however large, and fetch any URL it finds in the field.
        """
        return cls.model_construct(file=Upload(request))


def edged(service: Any) -> Any:
    """Decorator of the entry service: puts `Edge` around it."""
    service.add_asgi_middleware(Edge)
    return service


async def _ready(gateway: Any) -> Response:
    status, state = await gateway.readiness()
    return JSONResponse(state, status)


async def _alive(gateway: Any) -> Response:
    status, state = await gateway.liveness()
    return JSONResponse(state, status)


async def _metrics(_gateway: Any) -> Response:
    text, kind = await run_in_threadpool(telemetry.exposition)
    return Response(text, media_type=kind)


PROBES = {"/readyz": _ready, "/livez": _alive, "/healthz": _alive, "/metrics": _metrics}


class Edge:
    """The entry service's own middleware: answers probes, and makes every error a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and scope["path"] in PROBES:
            answer = await PROBES[scope["path"]](bentoml.get_current_service())
            await answer(scope, receive, send)
        elif Headers(scope=scope).get("content-type", "").startswith(PICKLE):
            # BentoML refuses it too, with a traceback in the log for each.
            await problem(_refused(415, PICKLE, "multipart/form-data"), 415)(scope, receive, send)
        else:
            await self.app(scope, receive, _Problems(scope, receive, send))


class _Problems:
    """Passes an answer on; an error that is no problem yet is replaced by one."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.replaced = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            status = message["status"]
            if status >= 400 and headers.get("content-type") != PROBLEM:
                self.replaced = True
                await self._problem(status, {key: headers[key] for key in ("allow",) if key in headers})
        if not self.replaced:
            await self.send(message)

    async def _problem(self, status: int, headers: Mapping[str, str]) -> None:
        subject = f"{self.scope['method']} {self.scope['path']}"
        found = HTTPStatus(status).phrase.lower()
        error: OcrOpsError
        if status < 500:
            expected = "POST /v1/ocr, or GET /readyz, /livez, /healthz, /metrics, /docs.json"
            error = UsageError(subject, found, expected, "correct the request")
        else:
            error = OutsideSystem(subject, found, "an answer", "try again; the server's log has the cause")
        await problem(error, status, headers)(self.scope, self.receive, self.send)


def _refused(status: int, found: str, expected: str) -> UnreadableDocument:
    remedy = f"curl -F {FIELD}=@page.png URL/v1/ocr"
    return UnreadableDocument("request", found, expected, f"send it as `{remedy}` does", status)


def _too_large(limit: int) -> UnreadableDocument:
    return UnreadableDocument(
        "request", "too large", f"at most {limit:,} bytes", "send fewer pages, or smaller ones", 413
    )
