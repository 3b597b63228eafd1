import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

LOCUSTFILE = Path(__file__).resolve().parents[2] / "loadtests" / "locustfile.py"
WORD = {"text": "a", "confidence": 0.5, "polygon": [[0, 0], [1, 0], [1, 1]]}
READING = {"pages": [{"width": 4, "height": 4, "lines": [{**WORD, "words": [WORD]}]}]}
ANSWERS: dict[bytes, tuple[int, bytes]] = {
    b"good": (200, json.dumps(READING).encode()),
    b"shapeless": (200, b'{"hello": "world"}'),
    b"no pages": (200, b'{"pages": []}'),
    b"html": (200, b"<html>"),
    b"broken": (500, b'{"detail": "oh no"}'),
}


class _Stub(BaseHTTPRequestHandler):
    """Answers a document by what it says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"silence" in body:
            self.server.silent.wait(60)  # type: ignore[attr-defined]
        status, answer = next((found for word, found in ANSWERS.items() if word in body), (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stub)
    server.silent = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.silent.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def _run(folder: Path, url: str, documents: list[str], seconds: int = 2) -> tuple[int, list[dict[str, Any]]]:
    posted, samples = folder / "documents", folder / "samples.jsonl"
    posted.mkdir()
    for number, text in enumerate(documents):
        (posted / f"{number}.png").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", url, "--users", "2"]
    command += ["--spawn-rate", "2", "--run-time", f"{seconds}s", "--stop-timeout", "1", "--exit-code-on-error", "0"]
    command += ["--documents", str(posted), "--samples", str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    lines = samples.read_text(encoding="utf-8").splitlines() if samples.exists() else []
    return done.returncode, [json.loads(line) for line in lines]


def test_every_request_is_a_line_and_none_is_judged(stub: str, tmp_path: Path) -> None:
    """What is no reading is an error, whatever its status says; every document takes its turn."""
    code, samples = _run(tmp_path, stub, list(map(bytes.decode, ANSWERS)))
    assert code == 0
    assert max(sample["start"] for sample in samples) - samples[0]["start"] > 1  # the two seconds are a run's own
    assert {sample["document"] for sample in samples} == {f"{i}.png" for i in range(5)}
    assert {key for sample in samples for key in sample} == {
        "start", "ms", "status", "bytes", "document", "pages", "lines", "error",
    }  # fmt: skip
    outcomes = Counter((sample["document"], sample["status"], sample["error"] is None) for sample in samples)
    assert set(outcomes) == {
        ("0.png", 200, True),
        ("1.png", 200, False),
        ("2.png", 200, False),
        ("3.png", 200, False),
        ("4.png", 500, False),
    }
    good = next(sample for sample in samples if sample["document"] == "0.png")
    assert (good["pages"], good["lines"], good["bytes"]) == (1, 1, 4)
    assert good["ms"] > 0


def test_a_server_that_is_not_there_leaves_samples(tmp_path: Path) -> None:
    code, samples = _run(tmp_path, "http://127.0.0.1:9", ["good"])
    assert code == 0
    assert samples
    assert all(sample["status"] == 0 and sample["error"] for sample in samples)


def test_a_request_that_hangs_is_a_sample(stub: str, tmp_path: Path) -> None:
    """Were it dropped, a server that stops answering would look fast."""
    _, samples = _run(tmp_path, stub, ["silence"])
    assert [sample["status"] for sample in samples] == [0, 0]
    assert all(sample["ms"] > 1000 and sample["error"] for sample in samples)


def test_an_empty_folder_is_no_run(stub: str, tmp_path: Path) -> None:
    code, samples = _run(tmp_path, stub, [])
    assert (code != 0, samples) == (True, [])
