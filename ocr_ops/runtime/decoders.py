"""Decoders: documents opened in processes of their own, which can be killed, and are when they take too much.

Processes are forked by a warden (`ocr_ops.runtime.decoding`) that is started once and replaced when it dies. What has
many parts, or parsers of its own, has a process to itself; plain scans follow each other in one, up to a number.
"""

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any, Literal, TypeVar

from ocr_ops.core.options import LAST_PAGE, ReadOptions, merged, page_spans, written
from ocr_ops.core.reading import Reading
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.decoder import Decoder, Gone, Warden, WardenGone, Way, readable, readable_here
from ocr_ops.runtime.decoding import Task
from ocr_ops.runtime.images import image_format
from ocr_ops.runtime.sheet import LIMITS, Caps, Limits, Sheet, broken, too_large
from ocr_ops.runtime.word_package import is_word

T = TypeVar("T")
CAPS = Caps()
_SCANS = ("JPEG", "PNG")
"""Formats whose documents may follow each other in a process: one picture each, and decoders that are small."""
_TRIES = 3
_ENDED = "ended its decoder each time it was opened"


class Decoders:
    """Opens documents as `ocr_ops.runtime.documents.sheets` does, each in a process of its own.

    May be shared by threads; `sheets` by the tasks of one event loop. Nothing is started before it is needed.
    """

    def __init__(self, caps: Caps = CAPS, at_once: int | None = None) -> None:
        """At most `at_once` pages are being decoded at a time, by default one a core; the others wait their turn."""
        self.caps = caps
        self._turns = asyncio.Semaphore(at_once or thread_count())
        self._starting = threading.Lock()
        """Held as long as a warden takes to start or end."""
        self._lock = threading.Lock()
        """Held for a moment, also on event loops."""
        self._warden: Warden | None = None
        self._idle: list[Decoder] = []
        self._most_idle = at_once or thread_count()

    def sheets(
        self, data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS, *, grey: bool = False
    ) -> AsyncGenerator[Sheet, None]:
        """Decodes a page when it is asked for it, no sooner. Close it (`aclosing`) to end its process at once.

        `grey`: for models that read no colours, pixels are (H, W).

        Errors as `documents.sheets`, when a page is asked for; a document that takes more than its caps, or fells its
        decoder, is unreadable too. `OutsideSystem` when no process can be started.
        """
        return self._sheets(data, name, options, limits, Way(readable, asyncio.to_thread, self._turns), grey=grey)

    def each_sheet(self, data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS) -> Iterator[Sheet]:
        """The same without an event loop."""
        pages = self._sheets(data, name, options, limits, Way(readable_here, _here, nullcontext()))
        try:
            while True:
                try:
                    sheet = _finished(pages.asend(None))
                except StopAsyncIteration:
                    return
                yield sheet
        finally:
            _finished(pages.aclose())

    async def searchable_pdf(
        self, reading: Reading, data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS
    ) -> bytes:
        """As `outputs.searchable_pdf`, of a document whose reading this is. Errors as `sheets`."""
        way = Way(readable, asyncio.to_thread, self._turns)
        return await self._pdf(reading, data, name, options=options, limits=limits, way=way)

    def searchable_pdf_here(
        self, reading: Reading, data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS
    ) -> bytes:
        """The same without an event loop."""
        way = Way(readable_here, _here, nullcontext())
        return _finished(self._pdf(reading, data, name, options=options, limits=limits, way=way))

    def start(self) -> None:
        """Starts the warden, for those who would not have their first document wait for it."""
        self._living()

    def close(self) -> None:
        """Ends the warden, and with it all that it started."""
        with self._starting:
            if self._warden is not None:
                self._end(self._warden)

    async def _sheets(
        self, data: bytes, name: str, options: ReadOptions, limits: Limits, way: Way, *, grey: bool = False
    ) -> AsyncGenerator[Sheet, None]:
        if len(data) > limits.max_bytes:
            raise too_large(name, f"{len(data):,} bytes", f"at most {limits.max_bytes:,}")
        last, given, count = 0, 0, None
        for _ in range(_TRIES):
            task = self._task("sheets", data, _after(options, last), limits, grey=grey)
            warden = await self._ready(way)
            try:
                with self._opened(warden, task, name, data) as decoder:
                    while count is None or given < count:
                        async with way.turn:
                            sheet = await decoder.next(way)
                        if sheet is None:
                            return
                        last, given, count = sheet.number, given + 1, count or sheet.count
                        decoder.over = given == count
                        yield Sheet(sheet.number, count, sheet.image, sheet.text)
                    return
            except WardenGone:
                await way.aside(warden.ended)
            except Gone:
                pass
        raise broken(name, _ENDED)

    async def _pdf(
        self, reading: Reading, data: bytes, name: str, *, options: ReadOptions, limits: Limits, way: Way
    ) -> bytes:
        task = self._task("pdf", data, options, limits)
        text = (await way.aside(reading.model_dump_json)).encode()
        for _ in range(_TRIES):
            warden = await self._ready(way)
            try:
                with closing(warden.open(task, name, data, text)) as decoder:
                    async with way.turn:
                        made: bytes = await decoder.file(way)
                    return made
            except WardenGone:
                await way.aside(warden.ended)
            except Gone:
                pass
        raise broken(name, _ENDED)

    def _task(
        self, make: Literal["sheets", "pdf"], data: bytes, options: ReadOptions, limits: Limits, *, grey: bool = False
    ) -> Task:
        return Task(
            make=make,
            options=options.model_copy(update={"pages": None}),
            pages=options.pages,
            max_bytes=limits.max_bytes,
            max_pixels=limits.max_pixels,
            max_pages=limits.max_pages,
            pdf_dpi=limits.pdf_dpi,
            grey=grey,
            caps=self.caps if image_format(data) in _SCANS else self._caps(data, limits),
        )

    def _caps(self, data: bytes, limits: Limits) -> Caps:
        """A document that may have twenty times the pages, as a job's, may take twenty times as long."""
        times, caps = max(1.0, limits.max_pages / LIMITS.max_pages), self.caps
        cpu, clock = math.ceil(times * caps.document_cpu_seconds), times * caps.document_seconds
        longer = {"document_cpu_seconds": cpu, "document_seconds": clock}
        if is_word(data):  # all its pages are set before the first is given
            longer |= {
                "page_cpu_seconds": math.ceil(times * caps.page_cpu_seconds),
                "page_seconds": times * caps.page_seconds,
            }
        return caps.model_copy(update=longer)

    @contextmanager
    def _opened(self, warden: Warden, task: Task, name: str, data: bytes) -> Iterator[Decoder]:
        """A decoder of this document: one that is idle, or a fresh one. It is kept if it may have another document."""
        scan = image_format(data) in _SCANS
        decoder = self._reused(task, name, data) if scan else None
        decoder = decoder or warden.open(task, name, data)
        try:
            yield decoder
        finally:
            with self._lock:
                kept = scan and decoder.over and decoder.opened < task.caps.documents
                if kept and warden is self._warden and len(self._idle) < self._most_idle:
                    self._idle.append(decoder)
                else:
                    decoder.close()

    def _reused(self, task: Task, name: str, data: bytes) -> Decoder | None:
        while True:
            with self._lock:
                fit = (at for at, one in enumerate(self._idle) if one.task.room == task.room)
                at = next(fit, None)
                if at is None:
                    return None
                decoder = self._idle.pop(at)
            if decoder.again(task, name, data):
                return decoder
            decoder.close()

    async def _ready(self, way: Way) -> Warden:
        """The warden, aside only where it has to be started."""
        warden = self._warden
        if warden is not None and warden.process.poll() is None:
            return warden
        started: Warden = await way.aside(self._living)
        return started

    def _living(self) -> Warden:
        with self._starting:
            if self._warden is not None and self._warden.process.poll() is not None:
                self._end(self._warden)
            if self._warden is None:
                self._warden = Warden.started()
            return self._warden

    def _end(self, warden: Warden) -> None:
        with self._lock:
            idle, self._idle, self._warden = self._idle, [], None
        for decoder in idle:
            decoder.close()
        warden.end()


async def _here(work: Callable[[], T]) -> T:
    """As `Way.aside`, without an event loop: at once."""
    return work()


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of what waits without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError


def _after(options: ReadOptions, last: int) -> ReadOptions:
    """The same for the pages after `last`, which are those still wanted."""
    if not last:
        return options
    spans = merged(page_spans(options.pages or f"1-{LAST_PAGE}"))
    left = ((max(first, last + 1), to) for first, to in spans if to > last)
    return options.model_copy(update={"pages": written(left)})
