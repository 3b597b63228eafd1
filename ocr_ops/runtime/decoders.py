"""Decoders: documents opened in processes of their own, which can be killed, and are when they take too much.

A process a document, forked by a warden (`ocr_ops.runtime.decoding`) that is started once and replaced when it dies.
"""

import array
import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, closing, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import ValidationError

from ocr_ops.core.errors import OutsideSystem, UnreadableDocument
from ocr_ops.core.options import ReadOptions, page_spans
from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.decoding import MAX_MESSAGE, NEXT, READY, Answer, Caps, Task
from ocr_ops.runtime.memory import seen
from ocr_ops.runtime.sheet import LIMITS, Limits, Sheet, broken, too_large

T = TypeVar("T")
CAPS = Caps()
_START_SECONDS = 60.0
_SEND_SECONDS = 5.0
_TRIES = 3
_LAST_PAGE = 99_999
_ENDED = "ended its decoder each time it was opened"


class Decoders:
    """Opens documents as `ocr_ops.runtime.documents.sheets` does, each in a process of its own.

    May be shared by threads; `sheets` by the tasks of one event loop. Nothing is started before it is needed.
    """

    def __init__(self, caps: Caps = CAPS, at_once: int | None = None) -> None:
        """At most `at_once` pages are being decoded at a time, by default one a core; the others wait their turn."""
        self.caps = caps
        self._turns = asyncio.Semaphore(at_once or thread_count())
        self._lock = threading.Lock()
        self._warden: _Warden | None = None

    def sheets(
        self, data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS, *, grey: bool = False
    ) -> AsyncGenerator[Sheet, None]:
        """Decodes a page when it is asked for it, no sooner. Close it (`aclosing`) to end its process at once.

        `grey`: for models that read no colours, pixels are (H, W).

        Errors as `documents.sheets`, when a page is asked for; a document that takes more than its caps, or fells its
        decoder, is unreadable too. `OutsideSystem` when no process can be started.
        """
        return self._sheets(data, name, options, limits, _Way(_readable, asyncio.to_thread, self._turns), grey=grey)

    def each_sheet(self, data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS) -> Iterator[Sheet]:
        """The same without an event loop."""
        pages = self._sheets(data, name, options, limits, _Way(_readable_here, _here, nullcontext()))
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
        way = _Way(_readable, asyncio.to_thread, self._turns)
        return await self._pdf(reading, data, name, options=options, limits=limits, way=way)

    def searchable_pdf_here(
        self, reading: Reading, data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS
    ) -> bytes:
        """The same without an event loop."""
        way = _Way(_readable_here, _here, nullcontext())
        return _finished(self._pdf(reading, data, name, options=options, limits=limits, way=way))

    def start(self) -> None:
        """Starts the warden, for those who would not have their first document wait for it."""
        self._living()

    def close(self) -> None:
        """Ends the warden, and with it all that it started."""
        with self._lock:
            if self._warden is not None:
                self._warden.end()
                self._warden = None

    async def _sheets(
        self, data: bytes, name: str, options: ReadOptions, limits: Limits, way: "_Way", *, grey: bool = False
    ) -> AsyncGenerator[Sheet, None]:
        if len(data) > limits.max_bytes:
            raise too_large(name, f"{len(data):,} bytes", f"at most {limits.max_bytes:,}")
        last, given, count = 0, 0, None
        for _ in range(_TRIES):
            task = self._task("sheets", _after(options, last), limits, grey=grey)
            try:
                warden = await way.aside(self._living)
                with closing(_Process(warden.open(task, data), task, name)) as process:
                    while count is None or given < count:
                        async with way.turn:
                            sheet = await process.next(way)
                        if sheet is None:
                            return
                        last, given, count = sheet.number, given + 1, count or sheet.count
                        yield Sheet(sheet.number, count, sheet.image, sheet.text)
                    return
            except _Gone:
                continue
        raise broken(name, _ENDED)

    async def _pdf(
        self, reading: Reading, data: bytes, name: str, *, options: ReadOptions, limits: Limits, way: "_Way"
    ) -> bytes:
        task = self._task("pdf", options, limits)
        text = (await way.aside(reading.model_dump_json)).encode()
        for _ in range(_TRIES):
            try:
                warden = await way.aside(self._living)
                with closing(_Process(warden.open(task, data, text), task, name)) as process:
                    async with way.turn:
                        return await process.file(way)
            except _Gone:
                continue
        raise broken(name, _ENDED)

    def _task(
        self, make: Literal["sheets", "pdf"], options: ReadOptions, limits: Limits, *, grey: bool = False
    ) -> Task:
        return Task(
            make=make,
            options=options,
            max_bytes=limits.max_bytes,
            max_pixels=limits.max_pixels,
            max_pages=limits.max_pages,
            pdf_dpi=limits.pdf_dpi,
            grey=grey,
            caps=self.caps,
        )

    def _living(self) -> "_Warden":
        with self._lock:
            if self._warden is not None and self._warden.process.poll() is not None:
                self._warden.end()
                self._warden = None
            if self._warden is None:
                self._warden = _Warden.started()
            return self._warden


class _Gone(Exception):  # noqa: N818  no error: what it was doing is done again
    """A process was ended from outside."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How to wait: on an event loop, or without one."""

    readable: Callable[[socket.socket, float], Awaitable[None]]
    """Until there is something to receive. `TimeoutError` after so many seconds."""
    aside: Callable[..., Awaitable[Any]]
    turn: AbstractAsyncContextManager[Any]


async def _readable(end: socket.socket, seconds: float) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(end.fileno(), ready.set)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    finally:
        loop.remove_reader(end.fileno())


async def _readable_here(end: socket.socket, seconds: float) -> None:
    if not select.select([end], [], [], seconds)[0]:
        raise TimeoutError


async def _here(work: Callable[[], T]) -> T:
    return work()


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of what waits without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError


@dataclass(frozen=True, slots=True)
class _Warden:
    process: subprocess.Popen[bytes]
    control: socket.socket

    @classmethod
    def started(cls) -> "_Warden":
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # No secrets reach it: of the environment, only where the code is.
        environment = {
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "OPENBLAS_NUM_THREADS": "1",
            # All it holds in huge pages: a child of it costs a quarter less.
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
            "PYTHONMALLOC": "malloc",
        }
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ocr_ops.runtime.decoding"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the service, which still has documents to finish
            )
        warden = cls(process, control)
        control.settimeout(_START_SECONDS)
        try:
            ready = control.recv(MAX_MESSAGE) == READY
        except OSError:
            ready = False
        if not ready:
            warden.end()
            raise OutsideSystem("decoder", "did not start", "a process that opens documents", "see the log for why")
        control.settimeout(_SEND_SECONDS)
        return warden

    def open(self, task: Task, data: bytes, *more: bytes) -> socket.socket:
        """The socket of a fresh process that opens a document, and is given more beside it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        files: list[int] = []
        try:
            for content in (data, *more):
                files.append(os.memfd_create("document"))
                left = memoryview(content)
                while left:
                    left = left[os.write(files[-1], left) :]
            rights = array.array("i", [files[0], theirs.fileno(), *files[1:]])
            message = task.model_dump_json().encode()
            self.control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:  # it is gone, or hangs
            ours.close()
            self.process.kill()
            self.process.wait()
            raise _Gone from None
        finally:
            theirs.close()
            for file in files:
                os.close(file)
        ours.setblocking(False)
        return ours

    def end(self) -> None:
        self.control.close()
        self.process.kill()  # its children go with it
        self.process.wait()


@dataclass(frozen=True, slots=True)
class _Process:
    """A process that opens one document."""

    end: socket.socket
    task: Task
    name: str

    def close(self) -> None:
        """Its warden kills it."""
        self.end.close()

    async def next(self, way: _Way) -> Sheet | None:
        return await self._asked(way, self.task.caps.page_seconds, self._sheet)

    async def file(self, way: _Way) -> bytes:
        return await self._asked(way, self.task.caps.document_seconds, self._file)

    async def _asked(self, way: _Way, seconds: float, opened: Callable[[Answer, list[int]], T]) -> T:
        """What the process answers to `NEXT`, as `opened` has it."""
        try:
            with suppress(OSError):  # it is gone: what its warden has said of that can still be received
                self.end.send(NEXT)
            await way.readable(self.end, seconds)
            try:
                message, files, _, _ = self._received()
            except ConnectionResetError:  # told before what was sent last
                message, files, _, _ = self._received()
        except TimeoutError:
            what = "a page" if self.task.make == "sheets" else "a document"
            found = f"{what} that takes over {seconds:g} s to open"
            raise too_large(self.name, found, "a simpler one") from None
        except OSError:
            raise _Gone from None
        if not message:
            raise _Gone
        try:
            answer = Answer.model_validate_json(message)
            self._check(answer, files)
            return opened(answer, files)
        except (ValidationError, ValueError):
            raise broken(self.name, "made its decoder send nonsense") from None
        finally:
            for number in files:
                os.close(number)

    def _received(self) -> tuple[bytes, list[int], int, Any]:
        return socket.recv_fds(self.end, MAX_MESSAGE, 2, socket.MSG_CMSG_CLOEXEC)

    def _check(self, answer: Answer, files: list[int]) -> None:
        if answer.died is not None:
            raise self._died(answer.died)
        if answer.refusal is not None:
            refusal = answer.refusal
            raise UnreadableDocument(self.name, refusal.found, refusal.expected, refusal.remedy, refusal.http_status)
        if len(files) < answer.beside:
            raise OutsideSystem("decoder", "no free file descriptors", "room for a page", "raise `ulimit -n`")

    def _file(self, _answer: Answer, files: list[int]) -> bytes:
        if not files:
            raise ValueError
        return seen(files[0])[:]

    def _sheet(self, answer: Answer, files: list[int]) -> Sheet | None:
        if answer.number is None:
            return None
        if not answer.beside:
            raise ValueError
        payloads = [seen(number) for number in files]
        image = None
        if answer.shape is not None:
            shape = answer.shape if self.task.grey else (*answer.shape, 3)
            if shape[0] * shape[1] > self.task.max_pixels:
                raise ValueError
            image = np.frombuffer(payloads.pop(0), np.uint8).reshape(shape)
        text = Page.model_validate_json(payloads.pop(0)[:]) if payloads else None
        if image is None and text is None:
            raise ValueError
        return Sheet(answer.number, answer.count, image, text)

    def _died(self, code: int) -> Exception:
        if code == -signal.SIGKILL:
            return _Gone()
        if code == -signal.SIGXCPU:
            return too_large(self.name, "pages that take too long to open", "simpler ones")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return broken(self.name, f"felled its decoder ({how})")


def _after(options: ReadOptions, last: int) -> ReadOptions:
    """The same for the pages after `last`, which are those still wanted."""
    if not last:
        return options
    spans = page_spans(options.pages) if options.pages is not None else ((1, _LAST_PAGE),)
    left = ",".join(f"{max(first, last + 1)}-{to}" for first, to in spans if to > last)
    return options.model_copy(update={"pages": left})
