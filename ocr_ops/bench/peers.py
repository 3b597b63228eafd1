"""Systems that read a page, and what each reading cost: our releases, RapidOCR, Tesseract, any command, any endpoint.

Whatever reads in Python gets a process of its own, so that its CPU seconds are its alone; a command's are those of
the process and all its children. All get the same pixels and the same number of threads. Turning the pixels into the
form a system takes (a file, a request) is not counted; reading that form is.
"""

import json
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ocr_ops.core.errors import OcrOpsError, OutsideSystem, UsageError
from ocr_ops.core.reading import Reading
from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.runtime.pipeline import Reader

Image = NDArray[np.uint8]
Read = Callable[[Image], str]

TIMEOUT = 600.0
"""Seconds a page, or getting ready, may take before the system counts as hanging."""
COMMAND, ENDPOINT = "cmd:", ("http://", "https://")
_PLACE = "{image}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One page read by one system."""

    text: str
    wall_ms: float
    cpu_ms: float | None
    """Of all threads and child processes, user and system; None where it cannot be known (another machine)."""


class System(Protocol):
    name: str
    version: str

    def read(self, page: Image) -> Sample:
        """Reads a page, uint8 (H, W, 3) RGB. `OutsideSystem` when the system is gone, fails or hangs."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Systems:
    """What is compared; names are unique."""

    releases: tuple[System, ...]
    peers: tuple[System, ...]
    threads: int
    """What each was given."""

    @property
    def all(self) -> tuple[System, ...]:
        return (*self.releases, *self.peers)


def opened(releases: Sequence[Release], peers: Sequence[str], threads: int = 1) -> AbstractContextManager[Systems]:
    """Releases and peers, each ready to read with `threads` threads once entered; all closed afterwards.

    A peer is `rapidocr`, `tesseract`, `cmd:PROGRAM ... {image}` (prints the text) or the URL of an endpoint that
    takes a document as multipart field `file` and answers with text, or with JSON as `POST /v1/ocr` does.
    `UsageError`, at once, for anything else; `OutsideSystem`, on entering, for a peer that is not there.
    """
    return _open(releases, [_opener(peer) for peer in dict.fromkeys(peers)], threads)


@contextmanager
def _open(releases: Sequence[Release], openers: Sequence[Callable[[int], System]], threads: int) -> Iterator[Systems]:
    names = [_name(release) for release in releases]
    with ExitStack() as stack:
        # Peers first: one that is missing shows at once.
        peers = [stack.enter_context(closing(opener(threads))) for opener in openers]
        readers: list[System] = []
        for name, release in zip(names, releases, strict=True):
            told = name if names.count(name) == 1 else f"{name} @{short(release.digest)}"
            start = partial(_start_release, release.path, threads)
            readers.append(stack.enter_context(closing(_Worker(told, short(release.digest), start))))
        yield Systems(tuple(readers), tuple(peers), threads)


def _name(release: Release) -> str:
    parts = [bundle.manifest for bundle in (release.detection, release.recognition)]
    return " + ".join(f"{part.model} {part.precision}" for part in parts)


def _opener(peer: str) -> Callable[[int], System]:
    if peer in _PEERS:
        return _PEERS[peer]
    if peer.startswith(COMMAND):
        command = peer.removeprefix(COMMAND).strip()
        words = shlex.split(command)
        if not any(_PLACE in word for word in words[1:]):
            remedy = f"write {_PLACE} where the file's name goes"
            raise UsageError("--peers", repr(peer), f"{COMMAND}PROGRAM ... {_PLACE}", remedy)
        return partial(_Command, command, "", words, ".png")
    if peer.startswith(ENDPOINT):
        return lambda _: _Endpoint(peer)
    expected = f"{', '.join(_PEERS)}, {COMMAND}PROGRAM ... {_PLACE} or http://..."
    raise UsageError("--peers", repr(peer), expected, "name one of these")


def _rapidocr(threads: int) -> System:
    try:
        found = version("rapidocr")
    except PackageNotFoundError:
        remedy = "run `pip install 'ocr-ops[peers]'`, or leave it out of --peers"
        raise OutsideSystem("rapidocr", "not installed", "the Python package", remedy) from None
    return _Worker("rapidocr", found, partial(_start_rapidocr, threads))


def _tesseract(threads: int) -> System:
    if shutil.which("tesseract") is None:
        remedy = "install tesseract-ocr and tesseract-ocr-eng (apt-get), or leave it out of --peers"
        raise OutsideSystem("tesseract", "no such program on PATH", "Tesseract 4 or newer", remedy)
    about = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=False)
    number = (about.stdout or about.stderr).partition("\n")[0].removeprefix("tesseract").strip()
    # Bare pixels: unpacking a PNG is no part of reading.
    return _Command("tesseract", number, ["tesseract", _PLACE, "stdout"], ".ppm", threads)


_PEERS: dict[str, Callable[[int], System]] = {"rapidocr": _rapidocr, "tesseract": _tesseract}


def _start_release(path: Path, threads: int) -> Read:
    reader = Reader(Release.open(path), threads)
    return lambda page: reader.read_page(page).text


def _start_rapidocr(threads: int) -> Read:
    from rapidocr import RapidOCR  # noqa: PLC0415 - optional, and only its own process loads it

    cv2.setNumThreads(threads)
    engine = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "critical",
        }
    )
    return lambda page: "\n".join(engine(page[:, :, ::-1]).txts or ())  # it takes BGR


class _Worker:
    """A reader in a process of its own, fed through a pipe."""

    def __init__(self, name: str, version: str, start: Callable[[], Read]) -> None:
        self.name, self.version = name, version
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(name, start, theirs), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def read(self, page: Image) -> Sample:
        try:
            self._pipe.send(page)
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


_READY = Sample("", 0.0, 0.0)


def _work(name: str, start: Callable[[], Read], pipe: Connection) -> None:
    """The other end of a `_Worker`: reads what comes until the pipe closes."""
    try:
        read = start()
        pipe.send(_READY)
        while True:
            page = pipe.recv()
            wall, cpu = time.perf_counter(), time.process_time()
            text = read(page)
            cpu_ms, wall_ms = (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
            pipe.send(Sample(text, wall_ms, cpu_ms))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # nobody asks any more
    except OcrOpsError as error:
        pipe.send(error)
    except Exception as error:  # noqa: BLE001 - the edge of somebody else's code
        found = f"{type(error).__name__}: {error}".partition("\n")[0]
        pipe.send(OutsideSystem(name, found, "a page read", "leave it out, or tell its maintainers"))


class _Command:
    """A program started for every page, as its users do; `{image}` in its words stands for the file."""

    def __init__(self, name: str, version: str, words: Sequence[str], suffix: str, threads: int) -> None:
        self.name, self.version, self._words = name, version, words
        self._folder = tempfile.TemporaryDirectory(prefix="ocr-ops-")
        self._file = Path(self._folder.name) / f"page{suffix}"
        limits = dict.fromkeys(("OMP_THREAD_LIMIT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self._environment = os.environ | limits

    def read(self, page: Image) -> Sample:
        self._file.write_bytes(_encoded(page, self._file.suffix))
        words = [word.replace(_PLACE, str(self._file)) for word in self._words]
        with tempfile.TemporaryFile() as complaints:
            started = time.perf_counter()
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                found = error.strerror or str(error)
                raise OutsideSystem(words[0], found, "a program that runs", "check its name and PATH") from None
            late = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
            late.start()
            try:
                assert process.stdout is not None  # noqa: S101 - asked for above
                with process.stdout:
                    text = process.stdout.read()
                # `wait4` tells what this child and its own children used, which `Popen.wait` throws away.
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
            finally:
                late.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            wall_ms = (time.perf_counter() - started) * 1e3
            if process.returncode != 0:
                complaints.seek(0)
                last = complaints.read().decode(errors="replace").strip().rpartition("\n")[2]
                found = f"ended with code {process.returncode}: {last or 'no message'}"
                raise OutsideSystem(self.name, found, "the page's text", "run it by hand on a page, or leave it out")
        return Sample(text.decode(errors="replace"), wall_ms, (usage.ru_utime + usage.ru_stime) * 1e3)

    def close(self) -> None:
        self._folder.cleanup()


class _Endpoint:
    """A service: the whole request is timed; whose CPU it used nobody here can know."""

    version = ""

    def __init__(self, url: str) -> None:
        self.name, self._client = url, httpx.Client(timeout=TIMEOUT)

    def read(self, page: Image) -> Sample:
        body = {"file": ("page.png", _encoded(page, ".png"), "image/png")}
        started = time.perf_counter()
        try:
            answer = self._client.post(self.name, files=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OutsideSystem(self.name, str(error), "a service that answers", "start it, check the URL") from None
        wall_ms = (time.perf_counter() - started) * 1e3
        if answer.status_code != httpx.codes.OK:
            found = f"HTTP {answer.status_code}: {answer.text[:120]!r}"
            raise OutsideSystem(self.name, found, "200 and the page's text", "check the URL and the service's log")
        return Sample(_text(answer), wall_ms, None)

    def close(self) -> None:
        self._client.close()


def _text(answer: httpx.Response) -> str:
    if "json" not in answer.headers.get("content-type", ""):
        return answer.text
    try:
        data = answer.json()
        # The service adds fields of its own to a reading; the pages are what is scored.
        return data if isinstance(data, str) else Reading.model_validate({"pages": data["pages"]}).text
    except (json.JSONDecodeError, ValidationError, KeyError, TypeError):
        expected = "text, or JSON as `POST /v1/ocr` answers"
        raise OutsideSystem(str(answer.url), f"{answer.text[:120]!r}", expected, "give it as cmd: instead") from None


def _encoded(page: Image, suffix: str) -> bytes:
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else []  # not small: the file lives for one page
    return bytes(cv2.imencode(suffix, cv2.cvtColor(page, cv2.COLOR_RGB2BGR), fast)[1])
