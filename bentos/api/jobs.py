"""Jobs: documents submitted to be read later, and what becomes of them. A caller sees their own and no others."""

import asyncio
import datetime as dt
from contextlib import suppress
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from bentos.api.form import output_of, receive
from bentos.api.idempotency import key_of
from bentos.api.problems import Problem, Refusal, problem_of
from bentos.api.serving import Gateway, deadline_of, gateway_of, made, unless_left
from bentos.auth import Caller
from bentos.jobs.job import OVER, Ask, Entry, Notice, Refused, State
from bentos.usage import Usage
from ocr_ops.core.errors import Overloaded, UnreadableDocument
from ocr_ops.core.languages import require_writable
from ocr_ops.core.options import OutputFormat
from ocr_ops.core.record import Told, Value, digest_bytes
from ocr_ops.runtime.outputs import Rendered

_PAUSE = "2"
"""Seconds after which there may be something new."""

Count = Annotated[int, Field(ge=0)]


class JobPages(Told):
    done: Count
    total: Count | None = None
    """Absent until it is known."""


class JobStatus(Told):
    """A job, as it is now."""

    id: str
    state: State
    name: str
    """Of the document."""
    pages: JobPages
    created: dt.datetime
    finished: dt.datetime | None = None
    expires: dt.datetime
    """When it, its document and its result are erased."""
    problem: Problem | None = None
    """Why it failed: what `POST /v1/ocr` would have answered."""
    webhook: Notice | None = None
    """What became of its webhook: none yet, due, sent, or given-up."""
    webhook_secret: str | None = None
    """What your webhooks are signed with, as Standard Webhooks has it. Told when a job with one is submitted."""


class JobList(Told):
    """Your jobs, the newest first."""

    jobs: tuple[JobStatus, ...]


async def submit_job(request: Request) -> Response:
    gateway = gateway_of(request)
    desk, deadline = gateway.desk, deadline_of(request)
    key = key_of(request)
    with gateway.admission.admit():
        try:
            async with deadline.timeout():
                asked = await receive(request, limit=desk.settings.limits.max_bytes, more=("webhook",))
        except TimeoutError:
            raise deadline.too_late("document") from None
        if asked.options.language is not None:
            require_writable(asked.options.language, gateway.engine.release.recognition.manifest.charset)
        webhook = asked.more.get("webhook")
        if webhook is not None:
            desk.webhooks.check(webhook)
        [document] = asked.documents
        caller: Caller = request.state.caller
        ask = Ask(
            name=document.name,
            options=asked.options,
            output=asked.output,
            webhook=webhook,
            caller=caller.id,
            limits=caller.limits,
        )
        found = await unless_left(request, desk.submit(ask, document.data, key))
    if not isinstance(found, Entry):
        raise _refused(found)
    usage: Usage = request.state.usage
    usage.subject, usage.output = found.id, ask.output
    usage.documents.append(await asyncio.to_thread(digest_bytes, document.data))
    status = _status(request, found)
    if webhook is not None:
        status = status.model_copy(update={"webhook_secret": desk.secret(found)})
    return _answer(status, 202, {"Location": f"/v1/jobs/{found.id}", "Retry-After": _PAUSE})


async def list_jobs(request: Request) -> Response:
    found = await gateway_of(request).desk.mine(request.state.caller.id)
    told = []
    for entry in found:
        with suppress(UnreadableDocument):  # sealed with another key: asked for by its id, it says so
            told.append(_status(request, entry))
    return _answer(JobList(jobs=tuple(told)))


async def job_status(request: Request) -> Response:
    entry = await _found(request)
    return _answer(_status(request, entry), headers={} if entry.state in OVER else {"Retry-After": _PAUSE})


async def job_result(request: Request) -> Response:
    gateway = gateway_of(request)
    desk, entry = gateway.desk, await _found(request)
    if entry.state == "failed":
        failure = desk.failure(entry)
        parts = (failure.subject, failure.found, failure.expected, failure.remedy)
        raise Refusal(*parts, failure.status, failure.kind)
    if entry.state != "done":
        headers = {} if entry.state == "cancelled" else {"Retry-After": _PAUSE}
        remedy = "submit it again" if entry.state == "cancelled" else "ask again, or give a webhook"
        raise Refusal(f"job {entry.id}", entry.state, "one that is done", remedy, 409, "job-not-done", headers)
    ask = desk.ask(entry)
    output = output_of(request, ask.output)
    with gateway.admission.admit():
        file = await unless_left(request, _rendered(gateway, entry, ask, output))
    return Response(file.data, media_type=file.media_type)


async def remove_job(request: Request) -> Response:
    entry = await _found(request)
    return _answer(_status(request, await gateway_of(request).desk.remove(entry)))


async def _rendered(gateway: Gateway, entry: Entry, ask: Ask, output: OutputFormat) -> Rendered:
    desk = gateway.desk
    document = await desk.document(entry) if output == "pdf" else b""
    reading = await desk.reading(entry)
    return await made(gateway, reading, output, ask.name, document, ask.options)


async def _found(request: Request) -> Entry:
    job: str = request.state.match.parameters["id"]
    request.state.usage.subject = job[:40]
    entry = await gateway_of(request).desk.find(request.state.caller.id, job)
    if entry is None:
        remedy = "check the id; jobs are erased once they expire"
        raise Refusal(f"job {job[:40]!r}", "unknown", "one of your jobs", remedy, 404, "unknown-job")
    return entry


def _status(request: Request, entry: Entry) -> JobStatus:
    desk = gateway_of(request).desk
    problem = None
    if entry.state == "failed":
        failure = desk.failure(entry)
        parts = (failure.subject, failure.found, failure.expected, failure.remedy)
        problem = problem_of(Refusal(*parts, failure.status, failure.kind))
    return JobStatus(
        id=entry.id,
        state=entry.state,
        name=desk.ask(entry).name,
        pages=JobPages(done=entry.done, total=entry.total),
        created=_time(entry.created),
        finished=None if entry.finished is None else _time(entry.finished),
        expires=_time(entry.expires),
        problem=problem,
        webhook=entry.notice if entry.webhook else None,
    )


def _refused(why: Refused) -> Overloaded | Refusal:
    if why == "asked":
        found, expected = "used before, with another document or other options", "a key for each job"
        return Refusal("header `Idempotency-Key`", found, expected, "take a new key", 422, "idempotency-conflict")
    remedy = "try again when some are over, or have been erased"
    if why in ("each", "share"):
        parts = ("jobs", "as many of yours as may wait", "fewer", "try again when some of them are over")
        if why == "share":
            found, expected = "documents of yours take as much room as is left for others", "less"
            parts = ("jobs", found, expected, "erase jobs of yours that are over, or try again when some have expired")
        return Refusal(*parts, 429, "too-many-jobs", {"Retry-After": "30"})
    found = "as many as may wait" if why == "unfinished" else "as many documents as may be kept"
    return Overloaded("jobs", found, "fewer", remedy, 30)


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _answer(value: Value, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(value.model_dump_json(exclude_none=True), status, headers, media_type="application/json")
