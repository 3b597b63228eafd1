"""Server: `bentoml serve` as a child, up before you use it and gone after, with all its workers."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ocr_ops.core.errors import OutsideSystem, PortOccupied, ServerDied

HOST = "127.0.0.1"
_GRACE_SECONDS = 15
_ALONE = {
    "OCR_OPS_AUTH": "off",
    "OCR_OPS_AUDIT": "off",
    "OCR_OPS_REQUESTS_PER_MINUTE": "0",
    "OCR_OPS_PAGES_PER_DAY": "0",
    "OCR_OPS_PAGES_PER_MONTH": "0",
}
"""On loopback, for its starter alone: whoever may call the service that is in use is of no matter to it."""
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Server:
    """A server that said it is ready."""

    url: str
    pid: int


@contextmanager
def serve(
    target: Path | str,
    *,
    host: str = HOST,
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    log: Path,
    timeout: float = 180.0,
) -> Iterator[Server]:
    """Runs `bentoml serve TARGET` while the block runs: a Bento's folder, a clone, or a service. On loopback, unless
    `host` says otherwise.

    `port` None takes a free one; `env` is laid over this process's; everything it prints goes to `log`.
    Raises `PortOccupied`, or `ServerDied` when it ends, or is not ready within `timeout` seconds.
    """
    port = _free_port(port)
    url = f"http://{HOST}:{port}"
    log.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(target)
    with tempfile.TemporaryDirectory(prefix="ocr-ops-server-") as home, log.open("wb") as output:
        # BentoML empties the metrics folder in its home when a server starts: each server has a home of its own.
        settings = {"BENTOML_HOME": home, "BENTOML_DO_NOT_TRACK": "true", **_ALONE, **(env or {})}
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", str(target), "--host", host, "--port", str(port)],
            cwd=folder if folder.is_dir() else None,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, url, log, timeout)
            yield Server(url, process.pid)
        finally:
            _stop(process)


def readiness(url: str) -> dict[str, Any]:
    """What a server's /readyz says, ready or not. `OutsideSystem` when nothing there answers as ours do."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:  # noqa: S310  a URL we were given
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError as error:
        raise OutsideSystem(url, f"no answer: {error}", "a running server", "start it: `bentoml serve .`") from None
    try:
        state = json.loads(body)
    except ValueError:
        state = None
    if not isinstance(state, dict) or "release" not in state:
        raise OutsideSystem(f"{url}/readyz", "an answer of another kind", "the state of a release", "check the URL")
    return state


def _free_port(port: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except OSError:
            raise PortOccupied(f"port {port}", "in use", "a free port", "stop what uses it, or take another") from None
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _died(f"ended with exit code {process.returncode}", log)
        try:
            if readiness(url).get("ready") is True:
                return
        except OutsideSystem:
            pass
        time.sleep(_POLL_SECONDS)
    raise _died(f"not ready within {timeout:.0f} s", log)


def _died(found: str, log: Path) -> ServerDied:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    told = [line for line in lines if line.startswith("error: ") or "Error" in line] or lines
    last = told[-1].strip() if told else "it printed nothing"
    return ServerDied("bentoml serve", f"{found}: {last}", "a server that is ready", f"see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks nicely, then ends it and its workers: each has a session of its own, so no group holds them all."""
    try:
        workers = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        workers = []
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)  # for its workers, too; those that nobody has buried yet are waited for no longer
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    process.kill()
    process.wait()
