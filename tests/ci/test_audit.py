"""`ci/audit`: what a vulnerability service says decides, and no answer is no pass."""

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FLAW = {
    "id": "PYSEC-2026-1",
    "summary": "a flaw",
    "affected": [{"package": {"name": "pyjwt", "ecosystem": "PyPI"}}],
}


class Service(ThreadingHTTPServer):
    """Answers as OSV does; `flawed`: the package it knows a flaw of."""

    flawed: str | None = None
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        self.server.asked.append(name)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [FLAW]} if name == self.server.flawed else {}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    server.asked = []
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def audit(port: int, cache: Path, *more: str) -> tuple[int, str]:
    command = ["ci/audit", "--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{port}/", *more]
    done = subprocess.run(
        [*command, "--cache-dir", str(cache)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    return done.returncode, done.stderr


def test_every_package_of_both_locks_is_asked_about(service: Service, tmp_path: Path) -> None:
    code, told = audit(service.server_port, tmp_path)
    assert code == 0, told
    assert told.count("no known vulnerability") == 2
    assert {"mlflow", "pytest", "pyjwt", "onnxruntime"} <= set(service.asked)
    assert service.asked.count("pyjwt") == 2


def test_a_known_vulnerability_fails_until_someone_says_why_not(service: Service, tmp_path: Path) -> None:
    service.flawed = "pyjwt"
    code, told = audit(service.server_port, tmp_path)
    assert (code, told.count("Found 1 known vulnerability")) == (1, 2)
    assert "ci/audit.txt" in told
    assert audit(service.server_port, tmp_path, "--ignore-vuln", str(FLAW["id"]))[0] == 0


def test_without_an_answer_nothing_is_proven(tmp_path: Path, free_tcp_port: int) -> None:
    """Exit code 3, as everywhere."""
    code, told = audit(free_tcp_port, tmp_path)
    assert code == 3
    assert told.count("INCONCLUSIVE") == 2
    assert "no known vulnerability" not in told
