"""Peers: what others read with, each behind one adapter: RapidOCR, Tesseract, any command, any endpoint.

RapidOCR reads in a process of its own, as our own cells do; a command is charged for its process and all its children.
All get the same pixels, cores and number of threads. Turning the pixels into the form a peer takes (a file, a request)
is not counted; reading that form is.
"""

import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2

from ocr_ops.bench import worker
from ocr_ops.bench.worker import Image, Read, Sample, System, Worker, cores, family_high_water, held_to
from ocr_ops.core.errors import OutsideSystem, UsageError

COMMAND, ENDPOINT = "cmd:", ("http://", "https://")
_PLACE = "{image}"
_LOOK = 0.01
"""Seconds between two looks at how much memory a command takes."""


def peer(name: str) -> Callable[[int], System]:
    """What opens a peer for so many threads.

    A peer is `rapidocr`, `tesseract`, `cmd:PROGRAM ... {image}` (prints the text) or the URL of an endpoint that
    takes a document as multipart field `file` and answers with text, or with JSON as `POST /v1/ocr` does.
    `UsageError`, at once, for anything else; opening raises `OutsideSystem` for a peer that is not there.
    """
    if name in _PEERS:
        return _PEERS[name]
    if name.startswith(COMMAND):
        command = name.removeprefix(COMMAND).strip()
        words = shlex.split(command)
        if not any(_PLACE in word for word in words[1:]):
            remedy = f"write {_PLACE} where the file's name goes"
            raise UsageError("--peers", repr(name), f"{COMMAND}PROGRAM ... {_PLACE}", remedy)
        return partial(_Command, command, "", words, ".png")
    if name.startswith(ENDPOINT):
        return partial(_endpoint, name)
    expected = f"{', '.join(_PEERS)}, {COMMAND}PROGRAM ... {_PLACE} or http://..."
    raise UsageError("--peers", repr(name), expected, "name one of these")


def _rapidocr(threads: int) -> System:
    try:
        found = version("rapidocr")
    except PackageNotFoundError:
        remedy = "run `pip install 'ocr-ops[peers]'`, or leave it out of --peers"
        raise OutsideSystem("rapidocr", "not installed", "the Python package", remedy) from None
    return Worker("rapidocr", found, partial(_start_rapidocr, threads), threads)


def _tesseract(threads: int) -> System:
    if shutil.which("tesseract") is None:
        remedy = "install tesseract-ocr and tesseract-ocr-eng (apt-get), or leave it out of --peers"
        raise OutsideSystem("tesseract", "no such program on PATH", "Tesseract 4 or newer", remedy)
    about = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=False)
    number = (about.stdout or about.stderr).partition("\n")[0].removeprefix("tesseract").strip()
    # Bare pixels: unpacking a PNG is no part of reading.
    return _Command("tesseract", number, ["tesseract", _PLACE, "stdout"], ".ppm", threads)


def _endpoint(url: str, _: int) -> System:
    from ocr_ops.bench.endpoint import Endpoint  # noqa: PLC0415 - httpx loads for longer than a cold start should last

    return Endpoint(url)


_PEERS: dict[str, Callable[[int], System]] = {"rapidocr": _rapidocr, "tesseract": _tesseract}


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
    return lambda pages: ["\n".join(engine(page[:, :, ::-1]).txts or ()) for page in pages]  # it takes BGR


class _Command:
    """A program started for every page, as its users do; `{image}` in its words stands for the file."""

    def __init__(self, name: str, version: str, words: Sequence[str], suffix: str, threads: int) -> None:
        self.name, self.version = name, version
        self.ready_ms: float | None = 0.0  # its start is a part of every reading
        self._words, self._cores = words, cores(threads)
        self._folder = tempfile.TemporaryDirectory(prefix="ocr-ops-")
        self._file = Path(self._folder.name) / f"page{suffix}"
        limits = dict.fromkeys(("OMP_THREAD_LIMIT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self._environment = os.environ | limits

    def read(self, *items: Image) -> Sample:
        (page,) = items
        self._file.write_bytes(encoded(page, self._file.suffix))
        words = [word.replace(_PLACE, str(self._file)) for word in self._words]
        with tempfile.TemporaryFile() as complaints:
            started = time.perf_counter()
            try:
                with held_to(self._cores):
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
            late = threading.Timer(worker.TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
            late.start()
            try:
                text, peak = _listened(process)
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
        cpu_ms = (usage.ru_utime + usage.ru_stime) * 1e3
        return Sample((text.decode(errors="replace"),), wall_ms, cpu_ms, peak)

    def close(self) -> None:
        self._folder.cleanup()


def _listened(process: "subprocess.Popen[bytes]") -> tuple[bytes, float | None]:
    """All a program prints, and the most memory it was seen to take.

    The kernel's own figure (`ru_maxrss`) will not do: a new process inherits that of the one that started it.
    """
    said, peak = b"", 0.0
    assert process.stdout is not None  # noqa: S101 - asked for by the caller
    with process.stdout as stdout:
        while True:
            if select.select([stdout], [], [], _LOOK)[0]:
                part = os.read(stdout.fileno(), 1 << 16)
                if not part:
                    return said, peak or None
                said += part
            peak = max(peak, family_high_water(process.pid))


def encoded(page: Image, suffix: str) -> bytes:
    """A page, uint8 (H, W, 3) RGB, as a file of the format that goes with `suffix`."""
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else []  # not small: the file lives for one page
    return bytes(cv2.imencode(suffix, cv2.cvtColor(page, cv2.COLOR_RGB2BGR), fast)[1])
