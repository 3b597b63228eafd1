"""Whatever others read pages with is measured alike, and what is missing is said."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import cv2
import numpy as np
import pytest

from ocr_ops.bench import peers, worker
from ocr_ops.bench.peers import peer
from ocr_ops.bench.worker import Image, System, cores
from ocr_ops.core.errors import OutsideSystem, UsageError
from tests.tiny import draw

BURN = "import sys, time\nwhile time.process_time() < {seconds}: pass\nprint(len(open(sys.argv[1], 'rb').read()))"
ANSWERS = {
    "/text": ("text/plain", b"two words"),
    "/json": (
        "application/json",
        b'{"pages": [{"width": 1, "height": 1, "lines": [%s]}], "release": "sha256:0"}'
        % b'{"text": "two words", "confidence": 1, "polygon": [[0, 0]], "words": []}',
    ),
    "/other": ("application/json", b'{"result": []}'),
}


@pytest.fixture
def page() -> Image:
    return draw(("abc cab", "cc"))


def printed(words: tuple[str, ...]) -> Image:
    """A page any OCR reads."""
    image = np.full((80 + 60 * len(words), 500, 3), 255, np.uint8)
    for row, word in enumerate(words):
        cv2.putText(image, word, (40, 80 + 60 * row), cv2.FONT_HERSHEY_DUPLEX, 1.2, (0, 0, 0), 2, cv2.LINE_AA)
    return image


@pytest.fixture
def service() -> Iterator[str]:
    """A service that answers with a fixed text, and 404 elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kind, answer = ANSWERS.get(self.path, ("text/plain", b"nobody here"))
            self.send_response(200 if self.path in ANSWERS and b'name="file"' in body else 404)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def opened(name: str, threads: int = 1) -> Iterator[System]:
    with closing(peer(name)(threads)) as system:
        yield system


def test_a_command_is_charged_for_what_its_children_burn(page: Image, tmp_path: Path) -> None:
    """CPU seconds of the whole family, not of the shell that started it."""
    script = tmp_path / "burn.py"
    script.write_text(BURN.format(seconds=0.2))
    with opened(f"cmd:sh -c '{sys.executable} {script} {{image}}; true'") as system:
        sample = system.read(page)
    assert int(sample.text) > 100
    assert sample.cpu_ms is not None
    assert sample.cpu_ms >= 200


def test_a_command_is_held_to_its_cores(page: Image) -> None:
    """With all it starts; whoever starts it is not."""
    before = os.sched_getaffinity(0)
    tell = "import os; print(*sorted(os.sched_getaffinity(0)))"
    with opened(f"cmd:sh -c '{sys.executable} -c \"{tell}\"; true' {{image}}") as system:
        assert tuple(map(int, system.read(page).text.split())) == cores(1)
    assert os.sched_getaffinity(0) == before


def test_the_memory_of_a_command_is_its_own(page: Image) -> None:
    """Of it and its children, not of the process that started it, which holds much more here."""
    held = np.ones((200, 1 << 20), np.uint8)
    with opened("cmd:sh -c 'read line < $0; sleep 0.2' {image}") as system:
        small = system.read(page).peak_mb
    burn = "import time; kept = bytearray(120 * 10**6); time.sleep(0.2)"
    with opened(f"cmd:sh -c '{sys.executable} -c \"{burn}\"; true' {{image}}") as system:
        large = system.read(page).peak_mb
    assert small is not None
    assert large is not None
    assert held.nbytes > 200e6
    assert 200 > large > 120
    assert 60 > small > 0


def test_a_command_that_fails_is_told_with_its_last_words(page: Image) -> None:
    """Not read as an empty page."""
    with (
        opened("cmd:sh -c 'echo no such model >&2; exit 3' {image}") as system,
        pytest.raises(OutsideSystem, match="code 3: no such model"),
    ):
        system.read(page)


def test_a_command_that_hangs_is_stopped(page: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything it started."""
    monkeypatch.setattr(worker, "TIMEOUT", 0.2)
    with (
        opened("cmd:sh -c 'sleep 60; true' {image}") as system,
        pytest.raises(OutsideSystem, match="code -9"),
    ):
        system.read(page)


def test_a_program_that_is_not_there(page: Image) -> None:
    """One line with its name."""
    with (
        opened("cmd:no-such-program {image}") as system,
        pytest.raises(OutsideSystem, match="no-such-program: No such file"),
    ):
        system.read(page)


@pytest.mark.parametrize("path", ["/text", "/json"])
def test_an_endpoint_answers_with_text_or_a_reading(service: str, page: Image, path: str) -> None:
    """Its CPU is nobody's to know."""
    with opened(service + path) as system:
        sample = system.read(page)
        assert system.ready_ms is None
    assert sample.text == "two words"
    assert sample.cpu_ms is None
    assert sample.wall_ms > 0


@pytest.mark.parametrize(("path", "found"), [("/other", "result"), ("/none", "HTTP 404: 'nobody here'")])
def test_an_endpoint_that_answers_otherwise(service: str, page: Image, path: str, found: str) -> None:
    """What it said is shown."""
    with opened(service + path) as system, pytest.raises(OutsideSystem, match=found):
        system.read(page)


def test_no_endpoint(page: Image) -> None:
    """Nobody listens on port 1."""
    with opened("http://127.0.0.1:1/") as system, pytest.raises(OutsideSystem, match="refused"):
        system.read(page)


@pytest.mark.parametrize("name", ["easyocr", "cmd:", "cmd:cat page.png", "ftp://host/", ""])
def test_an_unknown_peer_is_a_wrong_command(name: str) -> None:
    """Said before anything starts."""
    with pytest.raises(UsageError, match="--peers"):
        peer(name)


def test_a_missing_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Never left out silently."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutsideSystem, match="apt-get"):
        peer("tesseract")(1)

    def missing(name: str) -> str:
        raise peers.PackageNotFoundError(name)

    monkeypatch.setattr(peers, "version", missing)
    with pytest.raises(OutsideSystem, match=r"pip install 'ocr-ops\[peers\]'"):
        peer("rapidocr")(1)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("name", "there"), [("tesseract", which("tesseract")), ("rapidocr", find_spec("rapidocr"))], ids=str
)
def test_real_peers_read_print(name: str, there: object) -> None:
    """With their version, their CPU seconds and their memory."""
    if not there:
        pytest.skip(f"no {name} here")
    with opened(name) as system:
        sample = system.read(printed(("Invoice", "Total 42")))
    assert sample.text.split() == ["Invoice", "Total", "42"]
    assert sample.cpu_ms is not None
    assert sample.cpu_ms > 10
    assert sample.peak_mb is not None
    assert sample.peak_mb > 10
    assert system.version[0].isdigit()
