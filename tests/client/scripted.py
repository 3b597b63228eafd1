"""A real server that answers as it is told, one scripted answer a request: what a client does when things go wrong."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROBLEM = "application/problem+json"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. `drop`: the connection ends after it, though more was promised. `hold`: it waits for that."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    hold: threading.Event | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Scripted:
    url: str
    script: list[Said] = field(default_factory=list)
    """What is still to be said; its last answer is said ever after."""
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Said:
        self.asked.append(asked)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def problem(status: int, kind: str = "overloaded", **headers: str) -> Said:
    body = {
        "type": f"urn:ocr-ops:problem:{kind}",
        "title": "no",
        "status": status,
        "detail": "what was found",
        "subject": "service",
        "expected": "what was expected",
        "remedy": "what to do",
        "instance": "urn:ocr-ops:request:5b0c",
    }
    told = {"Content-Type": PROBLEM} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Said(status, json.dumps(body).encode(), told)


def events(*told: dict[str, Any], drop: bool = False) -> Said:
    body = "".join(json.dumps(event) + "\n" for event in told).encode()
    return Said(200, body, {"Content-Type": NDJSON}, drop)


@contextmanager
def scripted(*script: Said, tls: ssl.SSLContext | None = None) -> Iterator[Scripted]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    told = Scripted(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}", list(script))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.RequestHandlerClass = _handler(told.answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(answer: Callable[[Asked], Said]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = answer(Asked(self.command, self.path, dict(self.headers), body))
            if said.hold is not None:
                said.hold.wait(60)
            if said.drop and not said.body:
                self.close_connection = True
                return
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body) + said.drop))
            with suppress(ConnectionError):  # who was held may have left
                self.end_headers()
                self.wfile.write(said.body)
            self.close_connection = self.close_connection or said.drop

        do_GET = do_POST = do_DELETE = do  # noqa: N815  names of the standard library

        def log_message(self, *_: object) -> None:
            pass

    return Handler
