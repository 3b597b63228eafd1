"""Reading documents: one, several, whole or page after page."""

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from bentos.admission import Places
from bentos.api.accept import accepted, stream_of
from bentos.api.form import Asked, Document, receive
from bentos.api.problems import Problem, failed, problem_of
from bentos.api.serving import counted, deadline_of, gateway_of, made, may_be_kept, unless_left
from bentos.api.stream import Stream
from bentos.deadline import Deadline
from bentos.usage import Usage
from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.languages import require_writable
from ocr_ops.core.reading import Page, Reading
from ocr_ops.core.record import Told, Value, digest_bytes
from ocr_ops.runtime.outputs import Rendered

log = logging.getLogger("bentoml.ocr_ops")

BATCH_FILES = 32
BATCH_BYTES = 64 * 2**20
"""All documents of a batch together."""
BATCH_AT_ONCE = 4
"""Documents of a batch that are read at the same time: it is one caller among others."""


class Content(Told):
    """A document in the output that was asked for, where that is not JSON."""

    media_type: str
    encoding: Literal["utf-8", "base64"]
    data: str


class PageEvent(Told):
    """A page, as soon as it and all before it are read."""

    event: Literal["page"] = "page"
    page: Page


class DoneEvent(Told):
    """Ends a stream that is whole."""

    event: Literal["done"] = "done"
    pages: Annotated[int, Field(ge=0)]
    content: Content | None = None
    """With an output other than JSON: the whole document in it."""


class BatchItem(Told):
    """What became of one document of a batch: a reading, content, or a problem."""

    index: Annotated[int, Field(ge=0)]
    """Of the file in the request, from 0."""
    name: str
    status: Annotated[int, Field(ge=200, le=599)]
    """That of `POST /v1/ocr`, had it come alone."""
    reading: Reading | None = None
    content: Content | None = None
    problem: Problem | None = None


class Batch(Told):
    """The documents of a batch, in their order."""

    documents: tuple[BatchItem, ...]


class DocumentEvent(Told):
    """A document of a batch, as soon as it and all before it are answered."""

    event: Literal["document"] = "document"
    document: BatchItem


class BatchDoneEvent(Told):
    """Ends a batch's stream."""

    event: Literal["done"] = "done"
    documents: Annotated[int, Field(ge=0)]


async def read_document(request: Request) -> Response:
    gateway = gateway_of(request)
    deadline = deadline_of(request)
    async with AsyncExitStack() as held:
        held.enter_context(counted())
        held.enter_context(gateway.admission.admit())
        asked = await _received(request, deadline, limit=gateway.engine.limits.max_bytes)
        (document,) = asked.documents
        kind = stream_of(accepted(request.headers))
        if kind is None:

            async def answer() -> Response:
                rendered = await unless_left(request, _read(request, document, asked, deadline))
                return Response(rendered.data, media_type=rendered.media_type)

            return await _once(request, asked, answer)
        pages = _pages(request, document, asked, deadline)
        await held.enter_async_context(aclosing(pages))
        # What is wrong from the start is an answer of its own, with its status.
        first = await unless_left(request, _first(pages))
        events = _events(request, first, pages, document=document, asked=asked, deadline=deadline)
        return Stream(request, kind, events, held.pop_all())


async def read_documents(request: Request) -> Response:
    gateway = gateway_of(request)
    deadline = deadline_of(request)
    async with AsyncExitStack() as held:
        places = held.enter_context(gateway.admission.admit())
        asked = await _received(request, deadline, limit=BATCH_BYTES, files=BATCH_FILES)
        places.take(len(asked.documents))
        items = _items(request, asked, deadline, places)
        kind = stream_of(accepted(request.headers))
        if kind is not None:
            return Stream(request, kind, _batch_events(items), held.pop_all())

        async def answer() -> Response:
            found = await unless_left(request, _all(items))
            text = await run_in_threadpool(Batch(documents=found).model_dump_json, exclude_none=True)
            return Response(text, media_type="application/json")

        return await _once(request, asked, answer)


async def _once(request: Request, asked: Asked, answer: Callable[[], Awaitable[Response]]) -> Response:
    if not may_be_kept(request):
        return await answer()
    return await gateway_of(request).idempotency.once(request, asked, answer)


async def _received(request: Request, deadline: Deadline, *, limit: int, files: int = 1) -> Asked:
    try:
        async with deadline.timeout():
            asked = await receive(request, limit=limit, files=files)
    except TimeoutError:
        raise deadline.too_late("document") from None
    if asked.options.language is not None:
        require_writable(asked.options.language, gateway_of(request).engine.release.recognition.manifest.charset)
    request.state.told = {"documents": len(asked.documents), "output": asked.output}
    usage: Usage = request.state.usage
    usage.output = asked.output
    usage.documents += await run_in_threadpool(lambda: [digest_bytes(document.data) for document in asked.documents])
    return asked


async def _read(request: Request, document: Document, asked: Asked, deadline: Deadline) -> Rendered:
    reading = await _reading(request, document, asked, deadline)
    return await _rendered(request, reading, document, asked, deadline)


async def _reading(request: Request, document: Document, asked: Asked, deadline: Deadline) -> Reading:
    # Whoever waits for the whole may as well wait for another replica that reads the same.
    async with aclosing(_pages(request, document, asked, deadline, patient=True)) as pages:
        return Reading(pages=tuple([page async for page in pages]), language=asked.options.language)


async def _pages(
    request: Request, document: Document, asked: Asked, deadline: Deadline, *, patient: bool = False
) -> AsyncGenerator[Page, None]:
    """The pages of a document as they are read, each within the caller's quota."""
    usage: Usage = request.state.usage
    answers, cached = gateway_of(request).answers, may_be_kept(request)
    found = answers.stream(document.data, document.name, asked.options, deadline, cached=cached, patient=patient)
    async with aclosing(found) as pages:
        async for page in pages:
            await usage.read()
            yield page


async def _rendered(
    request: Request, reading: Reading, document: Document, asked: Asked, deadline: Deadline
) -> Rendered:
    try:
        async with deadline.timeout():
            return await made(gateway_of(request), reading, asked.output, document.name, document.data, asked.options)
    except TimeoutError:
        raise deadline.too_late(document.name) from None


def _content(rendered: Rendered) -> Content:
    if rendered.media_type.startswith("application/pdf"):
        data = base64.b64encode(rendered.data).decode("ascii")
        return Content(media_type=rendered.media_type, encoding="base64", data=data)
    return Content(media_type=rendered.media_type, encoding="utf-8", data=rendered.data.decode("utf-8"))


async def _first(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)


async def _events(
    request: Request,
    first: Page | None,
    pages: AsyncIterator[Page],
    *,
    document: Document,
    asked: Asked,
    deadline: Deadline,
) -> AsyncGenerator[Value, None]:
    found = [] if first is None else [first]
    if first is not None:
        yield PageEvent(page=first)
        async for page in pages:
            found.append(page)
            yield PageEvent(page=page)
    content = None
    if asked.output != "json":
        reading = Reading(pages=tuple(found), language=asked.options.language)
        content = _content(await _rendered(request, reading, document, asked, deadline))
    yield DoneEvent(pages=len(found), content=content)


async def _items(request: Request, asked: Asked, deadline: Deadline, places: Places) -> AsyncGenerator[BatchItem, None]:
    """The documents of a batch in their order, a few of them read at once; each gives its place back when it is read,
    but the last, which the request holds.
    """
    at_once = asyncio.Semaphore(BATCH_AT_ONCE)

    async def one(index: int, document: Document) -> BatchItem:
        async with at_once:
            item = await _item(request, index, document, asked, deadline)
        places.hold(max(places.held - 1, 1))
        return item

    tasks = [asyncio.create_task(one(index, document)) for index, document in enumerate(asked.documents)]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _item(request: Request, index: int, document: Document, asked: Asked, deadline: Deadline) -> BatchItem:
    """One document of a batch; whatever is wrong with it is its own affair."""
    problem: Problem
    try:
        with counted():
            reading = await _reading(request, document, asked, deadline)
            if asked.output == "json":
                return BatchItem(index=index, name=document.name, status=200, reading=reading)
            content = _content(await _rendered(request, reading, document, asked, deadline))
            return BatchItem(index=index, name=document.name, status=200, content=content)
    except OcrOpsError as error:
        problem = problem_of(error, request.state.request_id)
    except Exception:
        log.exception("document %d of request %s failed", index, request.state.request_id)
        problem = problem_of(failed(), request.state.request_id)
    return BatchItem(index=index, name=document.name, status=problem.status, problem=problem)


async def _all(items: AsyncGenerator[BatchItem, None]) -> tuple[BatchItem, ...]:
    async with aclosing(items):
        return tuple([item async for item in items])


async def _batch_events(items: AsyncGenerator[BatchItem, None]) -> AsyncGenerator[Value, None]:
    count = 0
    async with aclosing(items):
        async for item in items:
            count += 1
            yield DocumentEvent(document=item)
    yield BatchDoneEvent(documents=count)
