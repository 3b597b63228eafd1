"""Client: a service called in turn. May be shared by threads."""

import math
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Literal, Self, overload

import httpx

from ocr_ops.client import answers, flows
from ocr_ops.client.answers import Content, Job, Outcome
from ocr_ops.client.documents import Source, document, documents
from ocr_ops.client.flows import Call, Emit, Flow, Line, Send, Service, Sleep
from ocr_ops.client.retry import Retry
from ocr_ops.client.settings import TIMEOUT, WAIT, Settings
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.reading import Page, Reading

Progress = Callable[[int, int | None], None]
"""Called with how many are done, and of how many, where that is known."""
_DEFAULT = ReadOptions()


class Client:
    """A service at `url`. Use it in a `with`, or `close` it.

    `key` is an API key, by default that in `OCR_OPS_API_KEY`. `timeout` is what a call may take, in seconds, all its
    attempts and the waits between them together. Every method raises an `OcrOpsError` that says what is wrong.
    """

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
        self._http = httpx.Client(**self._settings.http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @overload
    def read(
        self,
        source: Source,
        options: ReadOptions = ...,
        output: Literal["json"] = ...,
        *,
        progress: Progress | None = ...,
        timeout: float | None = ...,
    ) -> Reading: ...
    @overload
    def read(
        self,
        source: Source,
        options: ReadOptions = ...,
        output: OutputFormat = ...,
        *,
        progress: Progress | None = ...,
        timeout: float | None = ...,
    ) -> Reading | Content: ...
    def read(
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
            return answers.answered(self._response(call, timeout), output)
        found: list[Page] = []
        for told in self._run(flows.pages, flows.streamed(call), timeout):
            if not isinstance(told, Page):
                content: Content = told
                return content
            found.append(told)
            progress(len(found), told.of)
        return Reading(pages=tuple(found), language=options.language)

    def stream(
        self, source: Source, options: ReadOptions = _DEFAULT, *, timeout: float | None = None
    ) -> Iterator[Page]:
        """The pages of a document, each as soon as it is read. Leave the loop, and the service stops reading."""
        call = Call("POST", "/v1/ocr", (document(source),), flows.form(options, "json"))
        yield from self._run(flows.pages, flows.streamed(call), timeout)

    def batch(
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
        for index, outcome in self._run(flows.outcomes, call, timeout):
            found[places[index]] = outcome
            if progress is not None:
                progress(len(found), count)
        return [found[place] for place in range(count)]

    def submit(
        self,
        source: Source,
        options: ReadOptions = _DEFAULT,
        output: OutputFormat = "json",
        *,
        webhook: str | None = None,
    ) -> Job:
        """Has a document read in the background. `webhook` is a URL to be told when it is over."""
        fields = flows.form(options, output) | ({} if webhook is None else {"webhook": webhook})
        return self._job(Call("POST", "/v1/jobs", (document(source),), fields))

    def job(self, job: Job | str) -> Job:
        """A job as it is now, by its id."""
        return self._job(Call("GET", flows.path_of(job)))

    def jobs(self) -> list[Job]:
        """Your jobs, the newest first."""
        return answers.jobs(self._response(Call("GET", "/v1/jobs"), None))

    def wait(self, job: Job | str, *, progress: Progress | None = None, timeout: float = WAIT) -> Reading | Content:
        """What a job comes to, once it is over: in the output it was submitted for. `progress` is told its pages."""
        for last in self._run(flows.watched, Call("GET", flows.path_of(job)), timeout, flows.LOOK_SECONDS):
            if progress is not None:
                progress(last.done, last.total)
            if last.over:
                flows.over(last)
        return self.result(job)

    def result(self, job: Job | str) -> Reading | Content:
        """The result of a job that is done."""
        return answers.result(self._response(Call("GET", flows.path_of(job) + "/result"), None))

    def cancel(self, job: Job | str) -> Job:
        """Ends a job, if it is not over; and has the service forget it, its document and its result."""
        return self._job(Call("DELETE", flows.path_of(job)))

    def models(self) -> dict[str, Any]:
        """The models that run: task, name, digest, precision, languages."""
        return answers.of_json(self._response(Call("GET", "/v1/models"), None))

    def about(self) -> dict[str, Any]:
        """What the service is and takes: version, formats, outputs, options, limits."""
        return answers.of_json(self._response(Call("GET", "/v1/about"), None))

    def ready(self) -> bool:
        """Whether documents can be read now. `ServiceAway` when nobody answers."""
        request = self._settings.service(self._http, None).request(Call("GET", "/readyz"))
        return flows.is_ready(self._settings.url, self._sent(Send(request)))

    def _job(self, call: Call) -> Job:
        response = self._response(call, None)
        return answers.job(response.url, answers.of_json(response))

    def _response(self, call: Call, timeout: float | None) -> httpx.Response:
        (response,) = self._run(flows.answer, call, timeout)
        assert isinstance(response, httpx.Response)  # noqa: S101  the only thing that flow emits
        return response

    def _run(
        self, flow: Callable[[Service, Call], Flow], call: Call, timeout: float | None, each: float = math.inf
    ) -> Iterator[Any]:
        """What the flow emits, as it carries its steps out."""
        steps = flow(self._settings.service(self._http, timeout, each), call)
        response: httpx.Response | httpx.TransportError | None = None
        lines: Iterator[str] = iter(())
        became: Any = None
        try:
            while True:
                step = steps.send(became)
                became = None
                match step:
                    case Send():
                        _close(response)
                        became = response = self._sent(step)
                        lines = _lines(response) if isinstance(response, httpx.Response) else lines
                    case Line():
                        became = _next(lines)
                    case Sleep():
                        time.sleep(step.seconds)
                    case Emit():
                        yield step.value
        except StopIteration:
            return
        finally:
            _close(response)

    def _sent(self, step: Send) -> httpx.Response | httpx.TransportError:
        try:
            response = self._http.send(step.request, stream=True)
            if not (step.stream and response.is_success):
                response.read()
        except httpx.TransportError as error:
            return error
        return response


def _lines(response: httpx.Response) -> Iterator[str]:
    lines = flows.Lines()
    for data in response.iter_bytes():
        yield from lines.fed(data)


def _next(lines: Iterator[str]) -> str | httpx.TransportError | None:
    try:
        return next(lines, None)
    except httpx.TransportError as error:
        return error


def _close(response: httpx.Response | httpx.TransportError | None) -> None:
    if isinstance(response, httpx.Response):
        response.close()
