"""What a page looks like, on a real service: a JPEG, recorded, and by its deadline."""

import io
import socket
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from bentos.api.problems import PROBLEM
from bentos.deadline import HEADER
from ocr_ops.core.audit import AuditLog, Event
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server
from tests.tiny import draw


def png(*lines: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(lines)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def entry(workspace: Workspace, request: str) -> Event:
    """What the audit log says of a request, once it does: it is written a moment after the answer."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for one in AuditLog(workspace.audit).entries():
            if one.event.request == request:
                return one.event
    pytest.fail(f"no entry about {request}")


@pytest.mark.parametrize("accept", ["image/jpeg", "image/*", "*/*", "image/avif,image/webp,image/*;q=0.8", None])
def test_a_page_is_a_jpeg_to_whoever_asks_for_one(client: httpx.Client, accept: str | None) -> None:
    """Of the page's proportions; as much as `Accept` says."""
    headers = {} if accept is None else {"Accept": accept}
    answer = client.post("/v1/preview", files={"file": ("a.png", png("ab"))}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(answer.content)) as found, Image.open(io.BytesIO(png("ab"))) as sent:
        assert found.format == "JPEG"
        assert found.size == sent.size


def test_a_wrong_output_is_refused_there_too(client: httpx.Client) -> None:
    """As by all forms."""
    answer = client.post("/v1/preview", files={"file": ("a.png", png("ab"))}, data={"output": "docx"})
    assert answer.status_code == 422


def test_who_looked_at_which_document_is_recorded(client: httpx.Client, served: tuple[Workspace, Release]) -> None:
    request, data = uuid.uuid4().hex, png("ab c")
    answer = client.post("/v1/preview", files={"file": ("a.png", data)}, headers={"X-Request-ID": request})
    assert answer.status_code == 200
    found = entry(served[0], request)
    assert (found.action, found.outcome, found.documents) == ("POST /v1/preview", "done", (digest_bytes(data),))


def test_a_body_that_does_not_come_is_waited_for_until_the_deadline(server: Server) -> None:
    """Not for the minute that a body may take."""
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/preview HTTP/1.1\r\nHost: localhost\r\n{HEADER}: 300\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65_536).decode()
    assert answer.startswith("HTTP/1.1 504 ")
    assert PROBLEM in answer
