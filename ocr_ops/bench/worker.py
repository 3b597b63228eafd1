"""A reader in a process of its own, held to its own cores, and what each of its readings cost.

Nobody's CPU seconds or memory are mixed with another's, all run on the same cores, and one that crashes or hangs takes
nobody with it.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import OcrOpsError, OutsideSystem, UsageError

Image = NDArray[np.uint8]
Answer = str | NDArray[np.float32]
"""What was made of an item: its text, or the boxes found on it, float32 (N, 4, 2) in its pixels."""
Read = Callable[[Sequence[Image]], Sequence[Answer]]

TIMEOUT = 600.0
"""Seconds a reading, or getting ready, may take before the system counts as hanging."""
_PROC = Path("/proc")
_FORGET = "5"
"""Written to `clear_refs`, it starts the high-water mark of memory anew (proc(5))."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Items read together by one system."""

    answers: tuple[Answer, ...]
    wall_ms: float
    cpu_ms: float | None
    """Of all threads and child processes, user and system; None where it cannot be known (another machine)."""
    peak_mb: float | None = None
    """Most resident memory of its processes while it read, in 10^6 bytes."""

    @property
    def text(self) -> str:
        """What was read, of one item of text."""
        return "\n".join(answer for answer in self.answers if isinstance(answer, str))


class System(Protocol):
    name: str
    version: str
    ready_ms: float | None
    """From starting it to its being ready to read; None where nobody started it."""

    def read(self, *items: Image) -> Sample:
        """Reads items together: pages, uint8 (H, W, 3) RGB, or lines, uint8 (h, w).

        `OutsideSystem` when the system is gone, fails or hangs.
        """

    def close(self) -> None: ...


def cores(threads: int) -> tuple[int, ...]:
    """The cores that whatever runs `threads` threads is held to: always the same. `UsageError` when there are fewer."""
    here = sorted(os.sched_getaffinity(0))
    if threads > len(here):
        raise UsageError("--threads", str(threads), f"{len(here)} at most, the cores here", "ask for fewer")
    return tuple(here[:threads])


@contextmanager
def held_to(cores: Sequence[int]) -> Iterator[None]:
    """What is started within runs on these cores, and so does whatever it starts."""
    before = os.sched_getaffinity(0)  # of this thread, and passed on to processes it starts
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Worker:
    """A reader in a process of its own, fed through a pipe."""

    def __init__(self, name: str, version: str, start: Callable[[], Read], threads: int) -> None:
        self.name, self.version = name, version
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(name, start, theirs), daemon=True)
        started = time.perf_counter()
        with held_to(cores(threads)):
            self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise
        self.ready_ms: float | None = (time.perf_counter() - started) * 1e3

    def read(self, *items: Image) -> Sample:
        try:
            self._pipe.send(items)
        except OSError:
            raise self._gone() from None
        return self._answer()

    def close(self) -> None:
        self._process.kill()  # it holds nothing that needs saving
        self._process.join()
        self._process.close()
        self._pipe.close()

    def _answer(self) -> Sample:
        try:
            if not self._pipe.poll(TIMEOUT):
                found = f"no answer within {TIMEOUT:.0f} s"
                raise OutsideSystem(self.name, found, "a page read", "try smaller pages, or leave it out")
            answer: Sample | OcrOpsError = self._pipe.recv()
        except (EOFError, OSError):
            raise self._gone() from None
        if isinstance(answer, OcrOpsError):
            raise answer
        return answer

    def _gone(self) -> OutsideSystem:
        self._process.join(5)
        found = f"its process ended with code {self._process.exitcode}"
        return OutsideSystem(self.name, found, "one that reads every page", "see its message above, or leave it out")


_READY = Sample((), 0.0, 0.0)


def _work(name: str, start: Callable[[], Read], pipe: Connection) -> None:
    """The other end of a `Worker`: reads what comes until the pipe closes."""
    try:
        read = start()
        pipe.send(_READY)
        while True:
            items = pipe.recv()
            with suppress(OSError):  # where it is not allowed, the mark is that of all readings so far
                (_PROC / "self" / "clear_refs").write_text(_FORGET, encoding="ascii")
            wall, cpu = time.perf_counter(), time.process_time()
            answers = tuple(read(items))
            cpu_ms, wall_ms = (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
            pipe.send(Sample(answers, wall_ms, cpu_ms, high_water(os.getpid())))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # nobody asks any more
    except OcrOpsError as error:
        pipe.send(error)
    except Exception as error:  # noqa: BLE001 - the edge of somebody else's code
        found = f"{type(error).__name__}: {error}".partition("\n")[0]
        pipe.send(OutsideSystem(name, found, "a page read", "leave it out, or tell its maintainers"))


def high_water(process: int) -> float | None:
    """Most resident memory a process has had, in 10^6 bytes; None where the system does not tell, or it is gone."""
    for line in _lines(_PROC / str(process) / "status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def family_high_water(process: int) -> float:
    """The same of a process and all that descend from it, added up; 0 where nobody tells."""
    born = (_PROC / str(process) / "task" / str(process) / "children",)
    children = [int(child) for file in born for line in _lines(file) for child in line.split()]
    return (high_water(process) or 0.0) + sum(map(family_high_water, children))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
