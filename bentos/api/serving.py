"""What operations work with, and how they use it: a place, a deadline, a document read while its caller waits."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from bentos.admission import Admission
from bentos.answers import Answers
from bentos.api.idempotency import Idempotency
from bentos.api.problems import CLIENT_LEFT, status_of
from bentos.audit import Auditor
from bentos.auth import Access
from bentos.deadline import HEADER, Deadline
from bentos.engine import Engine
from bentos.jobs.desk import Desk
from bentos.limits import Meter
from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.outputs import Rendered, render, rendered

T = TypeVar("T")


class Gateway(Protocol):
    """The service behind the API, as `bentos.gateway` has it."""

    engine: Engine
    answers: Answers
    desk: Desk
    admission: Admission
    idempotency: Idempotency
    document_seconds: int
    """What a request may take, whatever its deadline says."""
    access: Access
    meter: Meter
    auditor: Auditor | None


def gateway_of(request: Request) -> Gateway:
    gateway: Gateway = request.state.gateway
    return gateway


def deadline_of(request: Request) -> Deadline:
    """By when the caller wants its answer, within what the service gives any."""
    return Deadline.from_header(request.headers.get(HEADER), gateway_of(request).document_seconds)


def may_be_kept(request: Request) -> bool:
    """Whether the answer may be kept, and shared with others who ask the same: unless `Cache-Control: no-store`."""
    said = request.headers.get("cache-control", "").lower().split(",")
    return "no-store" not in {one.strip() for one in said}


@contextmanager
def counted() -> Iterator[None]:
    """Counts a document with what became of it when the block ends."""
    start, status = time.perf_counter(), 200
    try:
        yield
    except OcrOpsError as error:
        status = status_of(error)
        raise
    except (ClientDisconnect, asyncio.CancelledError, GeneratorExit):
        status = CLIENT_LEFT
        raise
    except BaseException:
        status = 500
        raise
    finally:
        telemetry.document_answered(status, time.perf_counter() - start)


async def made(  # noqa: PLR0917  as `outputs.render`
    gateway: Gateway, reading: Reading, output: OutputFormat, name: str, document: bytes, options: ReadOptions
) -> Rendered:
    """A reading in an output. The original is opened again, if at all, where it can do no harm."""
    if output == "pdf":
        limits = gateway.desk.settings.limits  # a job's may be larger than what is read at once
        data = await gateway.engine.decoders.searchable_pdf(reading, document, name, options, limits)
        return rendered(output, data)
    return await run_in_threadpool(render, reading, output, name=name, document=b"", options=options)


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to; cancelled, with `ClientDisconnect`, when the caller leaves before that.

    Call it once the body has been received.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(left(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for one in (task, watch):
            one.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(task, watch, return_exceptions=True)


async def left(request: Request) -> None:
    """Returns when the caller is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
