"""Decoding: the process that opens documents and does nothing else, and the warden that starts it and sees it end.

The warden is a small process without threads, with every decoder loaded. It forks for a document: the child has the
document, one socket, its limits, no network and no secrets. It may be handed further documents, one after the other;
closing the socket kills it. `ocr_ops.runtime.decoders` is the other end of both sockets.
"""

import array
import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

import cv2
import numpy as np
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.core.record import Value
from ocr_ops.runtime.confinement import confine
from ocr_ops.runtime.documents import sheets
from ocr_ops.runtime.memory import sealed
from ocr_ops.runtime.outputs.pdf import searchable_pdf
from ocr_ops.runtime.sheet import Caps, Limits, Sheet, guard

READY = b"ready"
NEXT = b"next"
MAX_MESSAGE = 64 * 1024
MAX_TEXT = 64 * 2**20
"""Bytes of a page's text in JSON."""
_PR_SET_PDEATHSIG = 1


class Task(Value):
    """A document to be opened. Its bytes come beside it, in a file of their own; so does, for what is made of it, what
    was read.
    """

    make: Literal["sheets", "pdf"] = "sheets"
    """What `NEXT` asks for: a page, or the searchable PDF."""
    options: ReadOptions
    """But for the pages."""
    pages: str | None
    """As in the options, but of any length: what is left of `1-12,14` is a character longer once 9 pages are read."""
    max_bytes: int
    max_pixels: int
    max_pages: int
    pdf_dpi: int
    grey: bool
    """Whether pages are handed over in grey: a third of the bytes, for models that read no colours."""
    caps: Caps

    @property
    def wanted(self) -> ReadOptions:
        """The options, with the pages."""
        return self.options.model_copy(update={"pages": self.pages})

    @property
    def limits(self) -> Limits:
        return Limits(self.max_bytes, self.max_pixels, self.max_pages, self.pdf_dpi)

    @property
    def room(self) -> tuple[int, Caps]:
        """What the limits of its process are made from."""
        return self.max_pixels, self.caps


class Refusal(Value):
    """An `UnreadableDocument`."""

    found: str
    expected: str
    remedy: str
    http_status: int


class Answer(Value):
    """To each `NEXT`. The pixels, the page in JSON, or both in this order come beside it, in sealed files."""

    number: int | None = None
    """None: there are no more."""
    count: int | None = None
    shape: tuple[int, int] | None = None
    """Height and width of the pixels; None for a page of text alone."""
    beside: int = 0
    """How many files there are."""
    refusal: Refusal | None = None
    died: int | None = None
    """Sent by the warden: the signal that ended the child, negative, or its exit code."""


def main() -> None:
    """The warden. Its control socket is file 0; each message on it is a `Task` with its files: socket, document, and
    the reading, if there is one.
    """
    control = socket.socket(fileno=0)
    cv2.setNumThreads(1)
    Image.init()
    libc = ctypes.CDLL(None)
    confine(libc)
    gc.collect()
    gc.freeze()  # what is shared with the children stays shared
    with contextlib.suppress(BrokenPipeError):  # whoever started it was interrupted
        control.send(READY)
    _Warden(control, libc).watch()


@dataclass(slots=True)
class _Warden:
    control: socket.socket
    libc: ctypes.CDLL
    children: dict[int, socket.socket] = field(default_factory=dict)
    """By process id: the child's end of its socket, kept to tell how the child ended."""

    def watch(self) -> None:
        """Until whoever started the warden is gone."""
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            for number, event in poll.poll():
                if number == self.control.fileno():
                    if not event & select.POLLIN or not self._start(poll):
                        self._end()
                elif number == wake:
                    os.read(wake, 4096)
                else:  # the other end was closed
                    poll.unregister(number)
                    for child, end in self.children.items():
                        if end.fileno() == number:
                            os.kill(child, signal.SIGKILL)
            self._reap(poll)

    def _start(self, poll: "select.poll") -> bool:
        message, files, _, _ = socket.recv_fds(self.control, MAX_MESSAGE, 3, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return False
        number = files.pop(0)
        end = socket.socket(fileno=number)
        child = os.fork()
        if not child:
            _child(message, files, end, self.libc)
        for file in files:
            os.close(file)
        self.children[child] = end
        poll.register(end, 0)  # being hung up on is always told
        return True

    def _reap(self, poll: "select.poll") -> None:
        while self.children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            with self.children.pop(child) as end, contextlib.suppress(OSError):
                with contextlib.suppress(KeyError):
                    poll.unregister(end)
                code = os.waitstatus_to_exitcode(status)
                end.send(Answer(died=code).model_dump_json().encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _end(self) -> NoReturn:
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        os._exit(0)


def _child(message: bytes, files: list[int], end: socket.socket, libc: ctypes.CDLL) -> NoReturn:
    """Opens one document, page by page as it is asked for them; then the next one, if it is handed another."""
    code = 1
    try:
        task = Task.model_validate_json(message)
        _bind(task, {*files, end.fileno()}, libc)
        while message:
            data, *reading = map(_whole, files)
            if task.make == "pdf":
                _serve_pdf(task, data, Reading.model_validate_json(reading[0]), end)
                break
            message, files = _serve(task, data, end)
            task = Task.model_validate_json(message) if message else task
        code = 0
    finally:
        os._exit(code)


def _whole(number: int) -> bytes:
    """A file's bytes. It is closed."""
    with open(number, "rb", buffering=0) as file:
        file.seek(0)
        return file.readall()


def _bind(task: Task, keep: set[int], libc: ctypes.CDLL) -> None:
    """Takes from a fresh child what it does not need, and sets its limits."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.set_wakeup_fd(-1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208  numbers, not paths
        if number > 2 and number not in keep:
            with contextlib.suppress(OSError):
                os.close(number)
    with open("/proc/self/statm", "rb", buffering=0) as statm:  # noqa: PTH123  once a document
        held = int(statm.read(100).split()[0]) * resource.getpagesize()
    memory = held + task.caps.memory_bytes
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, max(3 * task.max_pixels, MAX_TEXT)),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))


def _serve(task: Task, data: bytes, end: socket.socket) -> tuple[bytes, list[int]]:
    """What comes after the last `NEXT`: another task and its files, or nothing."""
    pages: Iterator[Sheet] | None = None
    given = 0
    begun, caps = time.process_time(), task.caps
    while True:
        message, files, _, _ = socket.recv_fds(end, MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
        if message != NEXT:
            return message, files
        # In whole seconds, of the process: never less than the caps.
        most = 1 + min(int(time.process_time()) + caps.page_cpu_seconds, int(begun) + caps.document_cpu_seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (most, caps.documents * (caps.document_cpu_seconds + 1)))
        try:
            pages = pages or sheets(data, "document", task.wanted, task.limits, grey=task.grey)
            sheet = next(pages, None)
        except UnreadableDocument as error:
            _refuse(end, error)
            return b"", []
        if sheet is None:
            _send(end, Answer())
            continue
        shape, beside = None, list[bytes | memoryview]()
        if sheet.image is not None:
            shape = sheet.image.shape[:2]
            beside.append(np.ascontiguousarray(sheet.image).data.cast("B"))
        if sheet.text is not None:
            beside.append(sheet.text.model_dump_json().encode())
        _send(end, Answer(number=sheet.number, count=sheet.count, shape=shape, beside=len(beside)), beside)
        given += 1
        if given == sheet.count:
            pages, sheet = iter(()), None  # nothing is held while another document is waited for
            beside.clear()


def _serve_pdf(task: Task, data: bytes, reading: Reading, end: socket.socket) -> None:
    most = task.caps.document_cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    if end.recv(MAX_MESSAGE) == NEXT:
        try:
            made = guard("document", lambda: searchable_pdf(reading, "document", data, task.wanted, task.limits))
        except UnreadableDocument as error:
            _refuse(end, error)
        else:
            _send(end, Answer(beside=1), [made])


def _refuse(end: socket.socket, error: UnreadableDocument) -> None:
    found, expected, remedy = error.found[:500], error.expected, error.remedy
    _send(end, Answer(refusal=Refusal(found=found, expected=expected, remedy=remedy, http_status=error.http_status)))


def _send(end: socket.socket, answer: Answer, beside: Sequence[bytes | memoryview] = ()) -> None:
    with contextlib.ExitStack() as held:
        files = [held.enter_context(sealed(data)) for data in beside]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
        end.sendmsg([answer.model_dump_json().encode()], rights)


if __name__ == "__main__":
    main()
