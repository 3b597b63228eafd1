"""What goes wrong around a service: too much to do, workers that die, clients that dawdle, clocks that jump, a full
disk. Nobody who was let in is let down.
"""

import http.client
import io
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from PIL import Image

from ocr_ops.core import metrics
from ocr_ops.core.audit import AuditLog
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.core.report import quantile
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, readiness, serve
from tests.tiny import draw

ROOT = Path(__file__).resolve().parents[2]
LINES = ["abc ab", "cab", "ba ac cc"]
Served = tuple[Workspace, Release]


def _document(pages: int = 1, lines: Sequence[str] = LINES) -> bytes:
    buffer = io.BytesIO()
    images = [Image.fromarray(draw(lines))] * pages
    images[0].save(buffer, "TIFF", save_all=True, append_images=images[1:], compression="tiff_deflate")
    return buffer.getvalue()


PAGE = _document()
FORM = httpx.Request("POST", "http://any", files={"file": ("page.tiff", PAGE)})
BODY = FORM.read()


@contextmanager
def _serving(served: Served, folder: Path, **env: str) -> Iterator[Server]:
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "OCR_OPS_HOME": str(served[0].home)}
    away["OCR_OPS_CACHE"] = "off"  # the same documents come round again, to be read
    with serve(ROOT, env={**away, **env}, log=folder / "server.log") as server:
        yield server


def _post(url: str, data: bytes = PAGE) -> httpx.Response:
    return httpx.post(f"{url}/v1/ocr", files={"file": ("page.tiff", data)}, timeout=120)


def _sound(answer: httpx.Response, pages: int = 1) -> bool:
    return (
        answer.status_code == 200
        and [page.text.splitlines() for page in Reading.model_validate_json(answer.content).pages] == [LINES] * pages
    )


def _eventually(holds: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def _in_flight(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{metrics.IN_FLIGHT} "))


def _workers(server: Server, service: str) -> list[psutil.Process]:
    alive = (one for one in psutil.Process(server.pid).children() if one.status() != psutil.STATUS_ZOMBIE)
    return [process for process in alive if service in process.cmdline()]


def test_no_document_is_lost_when_models_are_killed(served: Served, tmp_path: Path) -> None:
    """Each of them, while documents are being read, also where BentoML believes to be in a container."""
    with _serving(served, tmp_path, BENTOML_CONTAINERIZED="true") as server, ThreadPoolExecutor(4) as pool:
        for service in ("Detection", "Recognition"):
            [victim] = _workers(server, service)
            answers = [pool.submit(_post, server.url) for _ in range(24)]
            _eventually(lambda answers=answers: any(answer.done() for answer in answers))  # type: ignore[misc]
            victim.kill()
            assert [answer.result().text for answer in answers if not _sound(answer.result())] == []
            assert [worker.pid for worker in _workers(server, service)] != [victim.pid]


def test_documents_under_way_are_finished_when_the_service_is_told_to_end(served: Served, tmp_path: Path) -> None:
    """New ones are turned away meanwhile, and balancers are told."""
    with _serving(served, tmp_path, OCR_OPS_DRAIN_SECONDS="3") as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_post, server.url, _document(40))
        _eventually(lambda: _in_flight(server.url) == 1)
        os.kill(server.pid, signal.SIGTERM)
        _eventually(lambda: readiness(server.url).get("draining") is True)
        assert httpx.get(f"{server.url}/readyz", timeout=20).status_code == 503
        refused = _post(server.url)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert _sound(answer.result(), 40)
        psutil.Process(server.pid).wait(60)


def test_a_client_that_leaves_takes_its_document_along(server: Server) -> None:
    """Forty pages are not read for nobody."""
    before = _pages(server.url)
    patience = httpx.Timeout(60, read=0.3)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/ocr", files={"file": ("a.tiff", _document(40))}, timeout=patience)
    _eventually(lambda: _in_flight(server.url) == 0)
    done = _pages(server.url)
    assert done - before < 40
    assert _post(server.url, _document(1, ["cab cab"])).status_code == 200
    assert _pages(server.url) == done + 1


def _pages(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{metrics.PAGES}{{"))


def test_clients_that_trickle_are_closed(server: Server) -> None:
    """Heads that never end, two hundred of them: the service answers others, and takes their connections back; also of
    those who have had an answer before. One who had, and says nothing more, is waited for.
    """
    host, port = server.url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port)), timeout=60) for _ in range(200)]
    idle = socket.create_connection((host, int(port)), timeout=60)
    try:
        for connection in (idle, *held[:20]):
            _alive(connection)
        for connection in held:
            connection.sendall(b"POST /v1/ocr HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert _sound(_post(server.url))
        over = threading.Event()
        trickling = threading.Thread(target=_trickle, args=(held[0], over))
        trickling.start()
        for connection in held[1:]:
            assert _closed(connection)
        over.set()
        trickling.join()
        assert _closed(held[0])
        _alive(idle)
    finally:
        for connection in (idle, *held):
            connection.close()


def _alive(connection: socket.socket) -> None:
    """Asks, and takes the answer."""
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    found = b""
    while not found.endswith(b"}"):
        more = connection.recv(65536)
        assert more, found
        found += more
    assert found.startswith(b"HTTP/1.1 200 ")


def _trickle(connection: socket.socket, over: threading.Event) -> None:
    try:
        while not over.wait(0.5):
            connection.sendall(b"x")
    except OSError:
        pass


def _closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_clock_that_is_set_disturbs_nothing(served: Served, tmp_path: Path) -> None:
    """A day on, then two back, with documents under way and a short deadline: only the monotonic clock counts."""
    shim, step = tmp_path / "clock.so", tmp_path / "step"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, Path(__file__).with_name("clock.c"), "-ldl"], check=True)
    step.write_text("0")
    env = {"LD_PRELOAD": str(shim), "CLOCK_STEP": str(step)}
    seen = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env={**os.environ, **env, "CLOCK_STEP": str(_written(tmp_path / "day", "86400"))},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert float(seen.stdout) > time.time() + 80_000
    with (
        _serving(served, tmp_path, OCR_OPS_DOCUMENT_SECONDS="60", **env) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        for seconds in ("86400", "-172800", "0"):
            answers = [pool.submit(_post, server.url, _document(10)) for _ in range(2)]
            _eventually(lambda: _in_flight(server.url) > 0)
            step.write_text(seconds)
            assert all(_sound(answer.result(), 10) for answer in answers)
        assert readiness(server.url)["ready"] is True


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@contextmanager
def _disk() -> Iterator[Path]:
    """A file system of its own, for BentoML's home and temporary files, sockets with their short names among them."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=False).returncode:
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def test_a_full_disk_stops_nobody(served: Served, tmp_path: Path) -> None:
    """Documents are never written to it; nor do counters need room that they have not got yet. The audit log loses what
    happens meanwhile, tells how much, and goes on once there is room, as sound as before.
    """
    with _disk() as disk:
        (disk / "tmp").mkdir()
        audit = AuditLog(disk / "audit")
        env = {"BENTOML_HOME": str(disk), "TMPDIR": str(disk / "tmp")}
        env |= {"OCR_OPS_AUDIT": "on", "OCR_OPS_AUDIT_FOLDER": str(audit.folder)}
        with _serving(served, tmp_path, **env) as server:
            assert _sound(_post(server.url))
            _fill(disk)
            assert shutil.disk_usage(disk).free == 0
            assert all(_sound(_post(server.url)) for _ in range(5))
            _workers(server, "Recognition")[0].kill()
            assert _sound(_post(server.url))
            assert _post(server.url, b"nonsense").status_code == 415
            assert f'{metrics.REQUESTS}{{status="415"}}' in httpx.get(f"{server.url}/metrics", timeout=60).text
            _eventually(lambda: _audit_lost(server.url) > 0 and _audit_lost(server.url) + audit.verify().entries >= 8)
            (disk / "filler").unlink()
            kept = audit.verify().last
            assert _sound(_post(server.url))
            _eventually(lambda: audit.verify().last > kept)


def _audit_lost(url: str) -> float:
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{metrics.AUDIT_LOST} "))


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        while shutil.disk_usage(disk).free:
            try:
                filler.write(bytes(shutil.disk_usage(disk).free))
            except OSError:
                return


@dataclass(frozen=True, slots=True)
class Sent:
    status: int
    seconds: float
    retry_after: str | None


def _send(url: str, due: float) -> Sent:
    """A document on a connection of its own, by a client that takes little of the cores it shares with the service."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
    with closing(connection):
        connection.request("POST", "/v1/ocr", BODY, {"Content-Type": FORM.headers["content-type"]})
        answer = connection.getresponse()
        answer.read()
    return Sent(answer.status, time.monotonic() - due, answer.headers.get("retry-after"))


def _open_loop(url: str, rate: float, seconds: float) -> list[Sent]:
    """Documents at a rate, answered or not: what real users do. Times count from when each should have been sent."""
    with ThreadPoolExecutor(1000) as pool:
        begin, sent = time.monotonic(), []
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            sent.append(pool.submit(_send, url, due))
        return [one.result() for one in sent]


def _capacity(url: str, seconds: float) -> float:
    """Documents a second, asked for one after another by eight."""
    end = time.monotonic() + seconds

    def user(_: int) -> int:
        done = 0
        while (now := time.monotonic()) < end:
            done += _send(url, now).status == 200
        return done

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(user, range(8))) / seconds


@pytest.mark.slow
def test_too_much_is_turned_away_and_the_rest_is_served_in_time(
    served: Served, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Three times what it can do, for a minute: what is let in keeps the promise, and after it all is as before."""
    promised = 3.0
    env = {"OCR_OPS_MAX_IN_FLIGHT": "200", "OCR_OPS_PROMISED_SECONDS": f"{promised:.0f}"}
    with _serving(served, tmp_path, **env) as server:
        _capacity(server.url, 5)
        capacity = _capacity(server.url, 10)
        sent = _open_loop(server.url, 3 * capacity, 60)
        start = time.monotonic()
        _eventually(lambda: _post(server.url).status_code == 200, 10)
        recovered = time.monotonic() - start
        alone = min(_timed(server.url) for _ in range(5))
    served_in = [one.seconds for one in sent if one.status == 200]
    shed = [one for one in sent if one.status != 200]
    p95 = quantile(served_in, 0.95) or math.inf
    tell(
        f"capacity {capacity:.1f}/s; of {len(sent)} at three times that, {len(served_in)} served "
        f"({len(served_in) / 60:.1f}/s), p50 {median(served_in):.2f} s, p95 {p95:.2f} s; {len(shed)} turned away, "
        f"p50 {median(one.seconds for one in shed):.3f} s; served again after {recovered:.2f} s, "
        f"alone in {alone:.2f} s"
    )
    assert Counter(one.status for one in shed).keys() == {503}
    assert all(one.retry_after and int(one.retry_after) >= 1 for one in shed)
    assert p95 <= promised
    assert recovered < 5


def _timed(url: str) -> float:
    start = time.monotonic()
    assert _sound(_post(url))
    return time.monotonic() - start
