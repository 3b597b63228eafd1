"""AsyncClient: the same in asyncio, so that one program has many calls under way."""

import asyncio
import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self, overload

import httpx

from ocr_ops.client import answers, flows
from ocr_ops.client.answers import Content, Job, Outcome
from ocr_ops.client.documents import Source, document, documents
from ocr_ops.client.flows import Call, Emit, Flow, Line, Send, Service, Sleep
from ocr_ops.client.retry import Retry
from ocr_ops.client.settings import TIMEOUT, WAIT, Settings
from ocr_ops.client.sync import Progress
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.reading import Page, Reading

_DEFAULT = ReadOptions()


class AsyncClient:
    """As `Client`, in an `async with`. A call whose task is cancelled is ended, and the service stops reading."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retry: Retry | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self._settings = Settings.of(url, key, timeout, retry, verify)
        self._http = httpx.AsyncClient(**self._settings.http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    @overload
    async def read(
        self,
        source: Source,
        options: ReadOptions = ...,
        output: Literal["json"] = ...,
        *,
        progress: Progress | None = ...,
        timeout: float | None = ...,
    ) -> Reading: ...
    @overload
    async def read(
        self,
        source: Source,
        options: ReadOptions = ...,
        output: OutputFormat = ...,
        *,
        progress: Progress | None = ...,
        timeout: float | None = ...,
    ) -> Reading | Content: ...
    async def read(
        self,
        source: Source,
        options: ReadOptions = _DEFAULT,
        output: OutputFormat = "json",
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Reading | Content:
        """A document, read: a `Reading` or, in another output, text; bytes for a PDF. `progress` is told each page."""
        call = Call("POST", "/v1/ocr", (document(source),), flows.form(options, output))
        if progress is None:
            return answers.answered(await self._response(call, timeout), output)
        found: list[Page] = []
        async with aclosing(self._run(flows.pages, flows.streamed(call), timeout)) as run:
            async for told in run:
                if not isinstance(told, Page):
                    content: Content = told
                    return content
                found.append(told)
                progress(len(found), told.of)
        return Reading(pages=tuple(found), language=options.language)

    async def stream(
        self, source: Source, options: ReadOptions = _DEFAULT, *, timeout: float | None = None
    ) -> AsyncIterator[Page]:
        """The pages of a document, each as soon as it is read. Close it, and the service stops reading."""
        call = Call("POST", "/v1/ocr", (document(source),), flows.form(options, "json"))
        async with aclosing(self._run(flows.pages, flows.streamed(call), timeout)) as run:
            async for page in run:
                yield page

    async def batch(
        self,
        sources: Iterable[Source],
        options: ReadOptions = _DEFAULT,
        output: OutputFormat = "json",
        *,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> list[Outcome]:
        """Several documents, each answered for itself, in their order: a bad one is an error in its place.

        Raises when none of them was answered. `timeout` is for each request, which takes up to 32 documents.
        """
        found, sent = documents(sources)
        places, count = list(sent), len(found) + len(sent)
        call = flows.streamed(Call("POST", "/v1/ocr/batch", list(sent.values()), flows.form(options, output)))
        async with aclosing(self._run(flows.outcomes, call, timeout)) as run:
            async for index, outcome in run:
                found[places[index]] = outcome
                if progress is not None:
                    progress(len(found), count)
        return [found[place] for place in range(count)]

    async def submit(
        self,
        source: Source,
        options: ReadOptions = _DEFAULT,
        output: OutputFormat = "json",
        *,
        webhook: str | None = None,
    ) -> Job:
        """Has a document read in the background. `webhook` is a URL to be told when it is over."""
        fields = flows.form(options, output) | ({} if webhook is None else {"webhook": webhook})
        return await self._job(Call("POST", "/v1/jobs", (document(source),), fields))

    async def job(self, job: Job | str) -> Job:
        """A job as it is now, by its id."""
        return await self._job(Call("GET", flows.path_of(job)))

    async def jobs(self) -> list[Job]:
        """Your jobs, the newest first."""
        return answers.jobs(await self._response(Call("GET", "/v1/jobs"), None))

    async def wait(
        self, job: Job | str, *, progress: Progress | None = None, timeout: float = WAIT
    ) -> Reading | Content:
        """What a job comes to, once it is over: in the output it was submitted for. `progress` is told its pages."""
        call = Call("GET", flows.path_of(job))
        async with aclosing(self._run(flows.watched, call, timeout, flows.LOOK_SECONDS)) as run:
            async for last in run:
                if progress is not None:
                    progress(last.done, last.total)
                if last.over:
                    flows.over(last)
        return await self.result(job)

    async def result(self, job: Job | str) -> Reading | Content:
        """The result of a job that is done."""
        return answers.result(await self._response(Call("GET", flows.path_of(job) + "/result"), None))

    async def cancel(self, job: Job | str) -> Job:
        """Ends a job, if it is not over; and has the service forget it, its document and its result."""
        return await self._job(Call("DELETE", flows.path_of(job)))

    async def models(self) -> dict[str, Any]:
        """The models that run: task, name, digest, precision, languages."""
        return answers.of_json(await self._response(Call("GET", "/v1/models"), None))

    async def about(self) -> dict[str, Any]:
        """What the service is and takes: version, formats, outputs, options, limits."""
        return answers.of_json(await self._response(Call("GET", "/v1/about"), None))

    async def ready(self) -> bool:
        """Whether documents can be read now. `ServiceAway` when nobody answers."""
        request = self._settings.service(self._http, None).request(Call("GET", "/readyz"))
        return flows.is_ready(self._settings.url, await self._sent(Send(request)))

    async def _job(self, call: Call) -> Job:
        response = await self._response(call, None)
        return answers.job(response.url, answers.of_json(response))

    async def _response(self, call: Call, timeout: float | None) -> httpx.Response:
        async with aclosing(self._run(flows.answer, call, timeout)) as run:
            response = await anext(run)
        assert isinstance(response, httpx.Response)  # noqa: S101  the only thing that flow emits
        return response

    async def _run(
        self, flow: Callable[[Service, Call], Flow], call: Call, timeout: float | None, each: float = math.inf
    ) -> AsyncGenerator[Any, None]:
        """What the flow emits, as it carries its steps out."""
        steps = flow(self._settings.service(self._http, timeout, each), call)
        response: httpx.Response | httpx.TransportError | None = None
        lines: AsyncIterator[str] | None = None
        became: Any = None
        try:
            while True:
                step = steps.send(became)
                became = None
                match step:
                    case Send():
                        await _close(response)
                        became = response = await self._sent(step)
                        lines = _lines(response) if isinstance(response, httpx.Response) else lines
                    case Line():
                        became = await _next(lines)
                    case Sleep():
                        await asyncio.sleep(step.seconds)
                    case Emit():
                        yield step.value
        except StopIteration:
            return
        finally:
            await _close(response)

    async def _sent(self, step: Send) -> httpx.Response | httpx.TransportError:
        try:
            response = await self._http.send(step.request, stream=True)
            if not (step.stream and response.is_success):
                await response.aread()
        except httpx.TransportError as error:
            return error
        return response


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    lines = flows.Lines()
    async for data in response.aiter_bytes():
        for line in lines.fed(data):
            yield line


async def _next(lines: AsyncIterator[str] | None) -> str | httpx.TransportError | None:
    try:
        return None if lines is None else await anext(lines, None)
    except httpx.TransportError as error:
        return error


async def _close(response: httpx.Response | httpx.TransportError | None) -> None:
    if isinstance(response, httpx.Response):
        await response.aclose()
