"""Decoder: a process that opens documents, as held by who has them opened; and the warden that starts such processes.

What runs in both is `ocr_ops.runtime.decoding`.
"""

import array
import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError

from ocr_ops.core.errors import OutsideSystem, UnreadableDocument
from ocr_ops.core.reading import Page
from ocr_ops.runtime.decoding import MAX_MESSAGE, NEXT, READY, Answer, Task
from ocr_ops.runtime.memory import seen
from ocr_ops.runtime.sheet import Sheet, broken, too_large

T = TypeVar("T")
_START_SECONDS = 60.0
_SEND_SECONDS = 5.0


class Gone(Exception):  # noqa: N818  no error: what it was doing is done again
    """A process was ended from outside."""


class WardenGone(Gone):
    """So was its warden, which would have told of it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to wait: on an event loop, or without one."""

    readable: Callable[[socket.socket, float], Awaitable[None]]
    """Until there is something to receive. `TimeoutError` after so many seconds."""
    aside: Callable[..., Awaitable[Any]]
    turn: AbstractAsyncContextManager[Any]


async def readable(end: socket.socket, seconds: float) -> None:
    """As `Way.readable`, on the running event loop."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(end.fileno(), ready.set)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    finally:
        loop.remove_reader(end.fileno())


async def readable_here(end: socket.socket, seconds: float) -> None:
    """The same without one: nothing else goes on meanwhile."""
    if not select.select([end], [], [], seconds)[0]:
        raise TimeoutError


@dataclass(frozen=True, slots=True)
class Warden:
    process: subprocess.Popen[bytes]
    control: socket.socket

    @classmethod
    def started(cls) -> "Warden":
        """`OutsideSystem` when it cannot be."""
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

    def open(self, task: Task, name: str, *contents: bytes) -> "Decoder":
        """A fresh process that opens a document, and is given more beside it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _hand(self.control, task, contents, theirs.fileno())
        except OSError:  # it is gone, or hangs
            ours.close()
            self.process.kill()
            self.process.wait()
            raise Gone from None
        finally:
            theirs.close()
        ours.setblocking(False)
        return Decoder(ours, task, name)

    def ended(self) -> None:
        """Waits for the end of a warden that was killed: its sockets are closed before it can be seen to be gone."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_SEND_SECONDS)

    def end(self) -> None:
        self.control.close()
        self.process.kill()  # its children go with it
        self.process.wait()


def _hand(to: socket.socket, task: Task, contents: tuple[bytes, ...], *more: int) -> None:
    """Sends a task, with its document and what is beside it in files of their own, which come after `more`."""
    files: list[int] = []
    try:
        for content in contents:
            files.append(os.memfd_create("document"))
            left = memoryview(content)
            while left:
                left = left[os.write(files[-1], left) :]
        rights = array.array("i", [*more, *files])
        to.sendmsg([task.model_dump_json().encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    finally:
        for file in files:
            os.close(file)


@dataclass(slots=True)
class Decoder:
    """A process that opens one document at a time."""

    end: socket.socket
    task: Task
    name: str
    opened: int = 1
    """Documents so far, the present one among them."""
    over: bool = False
    """Whether all was given that was wanted of the present one."""

    def close(self) -> None:
        """Its warden kills it."""
        self.end.close()

    def again(self, task: Task, name: str, data: bytes) -> bool:
        """Has it open another document. False: it is gone."""
        try:
            _hand(self.end, task, (data,))
        except OSError:
            return False
        self.task, self.name, self.over = task, name, False
        self.opened += 1
        return True

    async def next(self, way: Way) -> Sheet | None:
        """The next page, or None after the last one."""
        sheet = await self._asked(way, self.task.caps.page_seconds, self._sheet)
        self.over = sheet is None
        return sheet

    async def file(self, way: Way) -> bytes:
        """The file that is made."""
        return await self._asked(way, self.task.caps.document_seconds, self._file)

    async def _asked(self, way: Way, seconds: float, opened: Callable[[Answer, list[int]], T]) -> T:
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
            raise WardenGone from None
        if not message:
            raise WardenGone
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
            return Gone()
        if code == -signal.SIGXCPU:
            return too_large(self.name, "pages that take too long to open", "simpler ones")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return broken(self.name, f"felled its decoder ({how})")
