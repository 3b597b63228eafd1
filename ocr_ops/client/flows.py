"""Flows: what a call comes to, step by step, without doing any of it: `sync` and `aio` each carry the steps out.

A flow is a generator of steps. It is sent what became of the last one, and emits what its caller is to get.
"""

import math
import random
import time
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx

from ocr_ops.client import answers
from ocr_ops.client.answers import Job, Outcome
from ocr_ops.client.documents import Document
from ocr_ops.client.problems import AGAIN, distrusted, error_of, error_of_answer, error_of_transport, retry_after
from ocr_ops.client.retry import Retry
from ocr_ops.core.errors import NotAllowed, OcrOpsError, OutsideSystem, Refused, ServiceFailed, TooLate
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.workspace import legible

REMAINING = "X-OCR-Ops-Remaining-Ms"
"""Milliseconds that an answer is still of use: the service spends no more on it."""
IDEMPOTENCY = "Idempotency-Key"
NDJSON = "application/x-ndjson"
CONNECT_SECONDS = 10.0
FILES_AT_ONCE = 32
LOOK_SECONDS = 30.0
"""What it may take to ask after a job."""
_FIRST_LOOK, _LAST_LOOK = 0.2, 2.0
"""Seconds between two looks at a job: the first, and the most."""
BYTES_AT_ONCE = 60 * 2**20
"""Of one batch: what a service takes in one request."""


@dataclass(frozen=True, slots=True)
class Send:
    """Sent: the response, its body read unless it is a stream that began well; or what broke the connection."""

    request: httpx.Request
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """Sent: the next line of the stream, None at its end; or what broke the connection."""


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """For the caller of the flow."""

    value: Any


Step = Send | Line | Sleep | Emit
Flow = Generator[Step, Any, None]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, however often it takes to have it answered: its idempotency key stays the same."""

    method: str
    path: str
    documents: Sequence[Document] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    accept: str = "*/*"
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Service:
    """Where calls go, how often they are tried, how many seconds a call may take, by when it must be done, on the
    monotonic clock, and how many seconds one attempt may take.
    """

    url: str
    builder: httpx.Client | httpx.AsyncClient
    retry: Retry
    seconds: float
    until: float
    each: float = math.inf

    def anew(self) -> "Service":
        """The same for a call that begins now."""
        return replace(self, until=time.monotonic() + self.seconds)

    def request(self, call: Call) -> httpx.Request:
        remaining = max(self.until - time.monotonic(), 0.001)
        headers = {"Accept": call.accept, REMAINING: str(round(remaining * 1000))}
        if call.method == "POST":
            headers[IDEMPOTENCY] = call.key
        kind = "application/octet-stream"
        return self.builder.build_request(
            call.method,
            self.url + call.path,
            headers=headers,
            data=dict(call.fields),
            files=[("file", (legible(one.name), one.data, kind)) for one in call.documents] or None,
            timeout=httpx.Timeout(min(remaining, self.each), connect=min(remaining, CONNECT_SECONDS)),
        )

    def pause(self, failed: int, fault: "Fault") -> Sleep:
        """How long to wait after so many attempts; the fault's error once there is no more use in trying."""
        if not fault.again or failed >= self.retry.attempts:
            raise fault.error
        seconds = self.retry.delay(failed, fault.told, random.random())
        if time.monotonic() + seconds >= self.until:
            raise fault.error
        return Sleep(seconds)


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt that failed, whether another may succeed, and after how many seconds at the earliest."""

    error: OcrOpsError
    again: bool
    told: float | None = None


def form(options: ReadOptions, output: OutputFormat) -> dict[str, str]:
    """Options as fields of a form; those that are as by default are left out, for the service to decide."""
    given = options.model_dump(exclude_defaults=True, exclude_none=True)
    told = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    return {**told, "output": output}


def streamed(call: Call) -> Call:
    """The same call, to be answered a part at a time."""
    return replace(call, accept=f"{NDJSON}, application/problem+json")


def is_ready(url: str, outcome: httpx.Response | httpx.TransportError) -> bool:
    """What `/readyz` says, by its status."""
    if isinstance(outcome, httpx.TransportError):
        raise error_of_transport(url, outcome)
    return outcome.is_success


def answer(service: Service, call: Call) -> Flow:
    """Emits the response of success."""
    yield Emit((yield from _response(service, call)))


def watched(service: Service, call: Call) -> Flow:
    """Emits the `Job` each time it was asked for, at longer and longer intervals, until it is over."""
    seconds = _FIRST_LOOK
    while True:
        response = yield from _response(service, call)
        job = answers.job(response.url, answers.of_json(response))
        yield Emit(job)
        if job.over:
            return
        if time.monotonic() + seconds >= service.until:
            raise TooLate(f"job {job.id}", f"still {job.state}", "its end", "wait for longer, or ask again later")
        yield Sleep(seconds)
        seconds = min(1.5 * seconds, _LAST_LOOK)


def path_of(job: Job | str) -> str:
    """Of a job, by its id."""
    return f"/v1/jobs/{quote(job if isinstance(job, str) else job.id, safe='')}"


def over(job: Job) -> None:
    """Raises why a job that is over has no result."""
    if job.error is not None:
        raise job.error
    if job.state == "cancelled":
        raise Refused(f"job {job.id}", "cancelled", "one that is done", "submit it again", HTTPStatus.CONFLICT)


def pages(service: Service, call: Call) -> Flow:
    """Emits each `Page` as it is read, each once, however often the stream breaks; and content, where it comes."""
    seen = 0
    for failed in count(1):
        response = yield Send(service.request(call), stream=True)
        fault = _fault(service, response)
        while fault is None:
            event, fault = yield from _event(service, response)
            if fault is not None:
                break
            if event["event"] == "page":
                page = answers.page(response.url, event)
                if page.number > seen:
                    seen = page.number
                    yield Emit(page)
            elif event["event"] == "done":
                if event.get("content") is not None:
                    yield Emit(answers.content(response.url, event["content"]))
                return
        yield service.pause(failed, fault)


def outcomes(service: Service, call: Call) -> Flow:
    """Emits the index and `Outcome` of each document, each once; those that may yet succeed are sent again.

    What has no answer when trying is over is an error in its place. The error is raised when nothing was answered.
    """
    unheard: list[tuple[range, OcrOpsError]] = []
    parts = batches(call.documents)
    for number, part in enumerate(parts):
        try:
            yield from _part(service.anew(), call, part)
        except OcrOpsError as error:
            unheard.append((part, error))
            if isinstance(error, NotAllowed | OutsideSystem):  # the others would fare no better
                unheard += [(left, error) for left in parts[number + 1 :]]
                break
    if unheard and len(unheard) == len(parts):
        raise unheard[0][1]
    for part, why in unheard:
        for index in part:
            yield Emit((index, Outcome(call.documents[index].name, error=why)))


def _part(service: Service, call: Call, part: range) -> Flow:
    """As `outcomes`, of the documents that go in one request."""
    waiting = list(part)
    last: dict[int, Outcome] = {}
    for failed in count(1):
        some = [call.documents[index] for index in waiting]
        again = Call(call.method, call.path, some, call.fields, call.accept)
        response = yield Send(service.request(again), stream=True)
        fault = _fault(service, response) or (yield from _heard(service, call, response, waiting, last))
        if not waiting:
            return
        try:
            pause = service.pause(failed, fault)
        except OcrOpsError:
            if not last:
                raise
            break
        yield pause
    for index in waiting:
        yield Emit((index, last.get(index) or Outcome(call.documents[index].name, error=fault.error)))


def _heard(
    service: Service, call: Call, response: httpx.Response, waiting: list[int], last: dict[int, Outcome]
) -> Generator[Step, Any, Fault]:
    """Emits what a stream says of those that wait, takes them off the list, and tells how the stream ended. `last` is
    what was said of each, also of those that may yet succeed.
    """
    sent = list(waiting)
    while waiting:
        event, fault = yield from _event(service, response)
        if fault is not None:
            return fault
        if event["event"] == "done":
            break
        if event["event"] == "document":
            try:
                index, told, over = _told(call, response, sent, event.get("document"))
            except ServiceFailed as error:
                return Fault(error, again=False)
            last[index] = told
            if over and index in waiting:
                waiting.remove(index)
                yield Emit((index, told))
    return Fault(_unfinished(service), again=True)


def _told(call: Call, response: httpx.Response, sent: Sequence[int], item: Any) -> tuple[int, Outcome, bool]:
    """Which document an item is about, what became of it, and whether that stands."""
    index = sent[answers.place(response.url, item, len(sent))]
    told = answers.outcome(response.url, call.documents[index].name, item)
    return index, told, told.error is None or item.get("status") not in AGAIN


def batches(documents: Sequence[Document]) -> list[range]:
    """Documents in their order, parted so that a service takes each part in one request."""
    parts: list[range] = []
    start = size = 0
    for index, one in enumerate(documents):
        if index > start and (index - start >= FILES_AT_ONCE or size + len(one.data) > BYTES_AT_ONCE):
            parts.append(range(start, index))
            start, size = index, 0
        size += len(one.data)
    return [*parts, range(start, len(documents))] if documents else []


def _response(service: Service, call: Call) -> Generator[Step, Any, httpx.Response]:
    """The response of success."""
    for failed in count(1):
        outcome = yield Send(service.request(call))
        fault = _fault(service, outcome)
        if fault is None:
            break
        yield service.pause(failed, fault)
    response: httpx.Response = outcome
    return response


class Lines:
    """Bytes as they come, put together as lines. Only a line feed ends one: JSON may hold every other line break."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def fed(self, data: bytes) -> list[str]:
        """The lines that these bytes end."""
        first, *others = data.split(b"\n")
        self._begun.append(first)
        if not others:
            return []
        whole = [b"".join(self._begun), *others[:-1]]
        self._begun = [others[-1]]
        return [line.decode("utf-8", "replace") for line in whole]


def _event(service: Service, response: httpx.Response) -> Generator[Step, Any, tuple[dict[str, Any], Fault | None]]:
    """The next event of a stream, or how it failed."""
    line = yield Line()
    if line is None:
        return {}, Fault(_unfinished(service), again=True)
    if not isinstance(line, str):
        return {}, _fault(service, line)
    try:
        event = answers.of_line(response.url, line)
    except ServiceFailed as error:
        return {}, Fault(error, again=False)
    if event["event"] != "problem":
        return event, None
    status = int(event["problem"].get("status", 500))
    return {}, Fault(error_of(event["problem"], status), again=status in AGAIN)


def _unfinished(service: Service) -> OcrOpsError:
    return OutsideSystem(service.url, "the answer broke off", "all of it", "try again")


def _fault(service: Service, outcome: httpx.Response | httpx.TransportError) -> Fault | None:
    if isinstance(outcome, httpx.TransportError):
        broken = not isinstance(outcome, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
        return Fault(error_of_transport(service.url, outcome), again=broken and not distrusted(outcome))
    if outcome.is_success:
        return None
    told = retry_after(outcome.headers)
    # A conflict that passes by itself says when.
    again = outcome.status_code in AGAIN and (outcome.status_code != HTTPStatus.CONFLICT or told is not None)
    return Fault(error_of_answer(outcome), again=again, told=told)
