"""The app: all operations, and the middleware around them, in its order."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from bentos.api import about, admin, jobs, ocr, preview, web
from bentos.api.accept import EVENTS, MEDIA_TYPES, NDJSON
from bentos.api.form import EXAMPLES, FIELD, OUTPUT, OUTPUTS
from bentos.api.idempotency import HEADER as IDEMPOTENCY_KEY
from bentos.api.idempotency import PATTERN as IDEMPOTENCY_PATTERN
from bentos.api.journal import Journal, Requests
from bentos.api.ocr import BATCH_FILES, Batch, BatchDoneEvent, DocumentEvent, DoneEvent, PageEvent
from bentos.api.openapi import document, limited
from bentos.api.operations import Dispatch, Handler, Operation, Schema, Table
from bentos.api.problems import Foreign, Problems
from bentos.api.serving import gateway_of
from bentos.api.stream import ProblemEvent
from bentos.audit import Audited
from bentos.auth import Guard
from bentos.connections import HeardOut
from bentos.deadline import HEADER
from bentos.headers import secured
from bentos.jobs.webhook import MAX_URL, URL_PATTERN
from bentos.limits import Limiter
from ocr_ops.core.languages import writable
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.core.record import Value


@cache
def _options() -> dict[str, dict[str, Any]]:
    """Schemas of the fields of a form and a query, beside the file; in both, null is a field that is not there."""
    found: dict[str, dict[str, Any]] = {}
    for name, schema in ReadOptions.model_json_schema()["properties"].items():
        kind: dict[str, Any] = next((one for one in schema.get("anyOf", ()) if one["type"] != "null"), {})
        told = {key: value for key, value in schema.items() if key not in ("anyOf", "title") and value is not None}
        found[name] = {**told, **kind, **({"examples": [EXAMPLES[name]]} if name in EXAMPLES else {})}
    output = "The answer's format; where it is absent, what `Accept` prefers."
    return {**found, OUTPUT: {"type": "string", "enum": list(OUTPUTS), "description": output}}


def _form(file: Schema, more: Schema | None = None) -> Schema:
    properties = {FIELD: file, **_options(), **(more or {})}
    return {"type": "object", "properties": properties, "required": [FIELD], "additionalProperties": False}


async def openapi(request: Request) -> Response:
    charset = gateway_of(request).engine.release.recognition.manifest.charset
    return Response(_written(writable(charset)), media_type="application/json")


async def docs(request: Request) -> Response:
    return await openapi(request)


@cache
def _written(languages: tuple[str, ...]) -> bytes:
    """The document, of a release that can write these languages."""
    return json.dumps(limited(document(OPERATIONS), languages)).encode()


def _page(path: str, handler: Handler, summary: str) -> Operation:
    return Operation("GET", path, handler, summary, role=None, answers={200: {}}, tag="page", told=False)


_FILE = {"type": "string", "format": "binary"}
_PARAMETERS: tuple[Schema, ...] = (
    *({"name": name, "in": "query", "schema": schema} for name, schema in _options().items()),
    {
        "name": HEADER,
        "in": "header",
        "description": "Milliseconds after which the answer is of no use any more: 504 then. At most what the service "
        "gives any request.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 99_999_999_999},
    },
)
_WEBHOOK = {
    "type": "string",
    "format": "uri",
    "pattern": URL_PATTERN,
    "maxLength": MAX_URL,
    "description": "Of a public place. Told, signed, when the job is over.",
}
_KEY: Schema = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "description": "Names what you ask for: sent again within a day, the same request is answered as the first time, "
    "and done once. Another under the same key is refused. Streams are not kept.",
    "schema": {"type": "string", "pattern": IDEMPOTENCY_PATTERN},
}
_JOB: tuple[Schema, ...] = ({"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},)
_REFUSALS = (408, 413, 415, 422, 504)
_STATE: Mapping[int, Mapping[str, type[Value] | None]] = {status: {"application/json": None} for status in (200, 503)}
"""Of a probe, which tells the same of a service that is well and of one that is not."""


def _told(path: str, handler: Handler, summary: str, kind: type[Value] | None = None, **more: Any) -> Operation:
    """What the service says of itself, to anyone."""
    told = {"role": None, "answers": {200: {"application/json": kind}}, "tag": "service", **more}
    return Operation("GET", path, handler, summary, **told)


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/ocr",
        handler=ocr.read_document,
        summary="Reads a document",
        description="JPEG, PNG, TIFF, WebP, BMP, GIF, PDF or DOCX in the field `file`. Options stand in the form or in "
        "the query; the form wins. With `Accept: application/x-ndjson` or `text/event-stream` the pages come one after "
        "the other as they are read, each a `PageEvent`; the last is a `DoneEvent`, or a `ProblemEvent`.",
        role="read",
        reads=True,
        body={"multipart/form-data": _form(_FILE)},
        parameters=(*_PARAMETERS, _KEY),
        answers={200: {**dict.fromkeys(MEDIA_TYPES), "application/json": Reading, NDJSON: None, EVENTS: None}},
        problems=(406, *_REFUSALS, 409),
        models=(PageEvent, DoneEvent, ProblemEvent),
    ),
    Operation(
        method="POST",
        path="/v1/ocr/batch",
        handler=ocr.read_documents,
        summary="Reads several documents",
        description="As many fields `file` as there are documents. Each is answered on its own: a bad one is a problem "
        "in its place, and the others stand. In a stream each is a `DocumentEvent`; the last is a `BatchDoneEvent`.",
        role="read",
        reads=True,
        body={"multipart/form-data": _form({"type": "array", "items": _FILE, "minItems": 1, "maxItems": BATCH_FILES})},
        parameters=(*_PARAMETERS, _KEY),
        answers={200: {"application/json": Batch, NDJSON: None, EVENTS: None}},
        problems=(406, *_REFUSALS, 409),
        models=(DocumentEvent, BatchDoneEvent),
    ),
    Operation(
        method="POST",
        path="/v1/preview",
        handler=preview.preview,
        summary="Shows a page",
        description="The first page that is asked for, as a JPEG: upright by its metadata and of the proportions that "
        "a reading's width and height have. A page that has no pixels, such as one of a Word file, is 204.",
        role="read",
        body={"multipart/form-data": _form(_FILE)},
        parameters=_PARAMETERS,
        answers={200: {"image/jpeg": None}, 204: {}},
        problems=_REFUSALS,
    ),
    Operation(
        method="POST",
        path="/v1/jobs",
        handler=jobs.submit_job,
        summary="Submits a document to be read in the background",
        description="For documents larger than `POST /v1/ocr` takes, or nobody waits for. With an `Idempotency-Key`, "
        "the same submitted again is the same job. A URL in `webhook` is told when the job is over.",
        role="read",
        reads=True,
        body={"multipart/form-data": _form(_FILE, {"webhook": _WEBHOOK})},
        parameters=(*_PARAMETERS, _KEY),
        answers={202: {"application/json": jobs.JobStatus}},
        problems=(406, *_REFUSALS, 429),
        tag="jobs",
    ),
    Operation(
        "GET", "/v1/jobs", jobs.list_jobs, "Your jobs", "read", {200: {"application/json": jobs.JobList}}, tag="jobs"
    ),
    Operation(
        method="GET",
        path="/v1/jobs/{id}",
        handler=jobs.job_status,
        summary="How far a job is",
        role="read",
        parameters=_JOB,
        answers={200: {"application/json": jobs.JobStatus}},
        problems=(404,),
        tag="jobs",
    ),
    Operation(
        method="GET",
        path="/v1/jobs/{id}/result",
        handler=jobs.job_result,
        summary="What a job read, in any output",
        description="A job that failed is answered with the problem it failed with.",
        role="read",
        parameters=(*_JOB, {"name": OUTPUT, "in": "query", "schema": _options()[OUTPUT]}),
        answers={200: {**dict.fromkeys(MEDIA_TYPES), "application/json": Reading}},
        problems=(404, 409, 410, 413, 415, 422),
        tag="jobs",
    ),
    Operation(
        method="DELETE",
        path="/v1/jobs/{id}",
        handler=jobs.remove_job,
        summary="Cancels a job, or erases one that is over",
        description="Its document and what was read of it are erased at once.",
        role="read",
        parameters=_JOB,
        answers={200: {"application/json": jobs.JobStatus}},
        problems=(404,),
        tag="jobs",
    ),
    Operation(
        method="DELETE",
        path="/v1/cache",
        handler=admin.purge_cache,
        summary="Forgets all answers",
        description="None that is kept now is given to anybody any more, by any process of the service.",
        role="admin",
        answers={204: {}},
        tag="service",
    ),
    _told("/v1/models", about.models, "The models that run", about.Models, role="read"),
    _told("/v1/about", about.about, "What the service is and takes", about.About),
    _told("/readyz", about.ready, "Whether documents can be read", probe=True, answers=_STATE),
    _told("/livez", about.alive, "Whether the service is alive", probe=True, answers=_STATE),
    _told("/healthz", about.health, "As /livez", probe=True, answers=_STATE),
    _told(
        *("/metrics", about.metrics, "For Prometheus"),
        role="metrics",
        answers={200: {"text/plain": None}},
        probe=True,
    ),
    _told("/openapi.json", openapi, "This document"),
    _told("/docs.json", docs, "As /openapi.json"),
    _page("/", web.page, "The web page"),
    _page("/docs", web.docs_page, "The API, to read"),
    _page("/web/{name}", web.web_file, "What these two are made of"),
)


def around(others: ASGIApp, *, logged: bool) -> ASGIApp:
    """The API, in front of an app that answers all it does not. From the outside in: the body that nobody needed;
    what browsers are told; the request's id; both logs; problems; who calls, and how much they may; the operations.
    """
    table = Table(OPERATIONS)
    app: ASGIApp = Dispatch(Foreign(others))
    app = Guard(Limiter(app))
    app = Audited(Problems(app))
    app = Journal(app, logged=logged)
    return HeardOut(secured(Requests(app, table)))
