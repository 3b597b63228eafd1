"""Calls that read, on a real service: options, outputs, several documents, pages as they are read."""

import base64
import io
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pypdfium2
import pytest
from PIL import Image

from bentos.api.accept import EVENTS, MEDIA_TYPES, NDJSON
from bentos.api.ocr import BATCH_FILES, Batch, BatchDoneEvent, DocumentEvent, DoneEvent, PageEvent
from bentos.api.problems import PROBLEM, Problem
from bentos.api.stream import ProblemEvent
from bentos.deadline import HEADER
from ocr_ops.core import metrics
from ocr_ops.core.reading import Reading
from ocr_ops.release.server import Server
from tests.tiny import draw

PAGES = [["a"], ["b ab"], ["c", "cc"]]


def tiff(pages: list[list[str]], **options: Any) -> bytes:
    images = [Image.fromarray(draw(lines)) for lines in pages]
    buffer = io.BytesIO()
    images[0].save(buffer, "TIFF", save_all=True, append_images=images[1:], **options)
    return buffer.getvalue()


TIFF = tiff(PAGES)
CUT = TIFF[: len(TIFF) - 600_000]
"""Its last page is not whole."""
LONG = tiff([["ab ab ab"] * 8] * 40, compression="tiff_lzw")
FILE = {"file": ("pages.tif", TIFF)}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def problem(answer: httpx.Response, status: int) -> Problem:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    found = Problem.model_validate_json(answer.content)
    assert found.instance == f"urn:ocr-ops:request:{answer.headers['x-request-id']}"
    return found


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def events(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Names and data of server-sent events."""
    assert answer.status_code == 200, answer.text
    found = []
    for event in answer.text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_only_the_pages_asked_for_are_read(client: httpx.Client) -> None:
    for more in ({"data": {"pages": "2-3"}}, {"params": {"pages": "2-3"}}):
        answer = client.post("/v1/ocr", files=FILE, **more)
        assert Reading.model_validate_json(answer.content).text == "b ab\fc\ncc"


@pytest.mark.parametrize("kind", MEDIA_TYPES)
def test_every_output_comes_by_field_and_by_accept(client: httpx.Client, kind: str) -> None:
    output = MEDIA_TYPES[kind]
    by_accept = client.post("/v1/ocr", files=FILE, headers={"accept": kind})
    by_field = client.post("/v1/ocr", files=FILE, data={"output": output})
    assert by_accept.status_code == by_field.status_code == 200
    assert by_accept.headers["content-type"] == by_field.headers["content-type"]
    if output == "pdf":
        assert [len(pypdfium2.PdfDocument(answer.content)) for answer in (by_accept, by_field)] == [3, 3]
    else:
        assert by_accept.content == by_field.content
        assert "ab" in by_field.text


def test_the_field_wins_over_accept(client: httpx.Client) -> None:
    answer = client.post("/v1/ocr", files=FILE, data={"output": "text"}, headers={"accept": "application/pdf"})
    assert answer.headers["content-type"].startswith("text/plain")
    assert problem(client.post("/v1/ocr", files=FILE, headers={"accept": "image/png"}), 406)


def test_a_language_the_release_cannot_write_is_refused(client: httpx.Client) -> None:
    found = problem(client.post("/v1/ocr", files=FILE, data={"language": "de"}), 422)
    assert found.type.endswith(":unwritable-language")


def test_pages_come_as_lines_of_json(client: httpx.Client) -> None:
    answer = client.post("/v1/ocr", files=FILE, headers={"accept": NDJSON})
    assert answer.headers["content-type"] == NDJSON
    *pages, done = lines(answer)
    found = [PageEvent.model_validate(page) for page in pages]
    assert [(page.page.number, page.page.of) for page in found] == [(1, 3), (2, 3), (3, 3)]
    assert [page.page.text for page in found] == ["a", "b ab", "c\ncc"]
    assert DoneEvent.model_validate(done).pages == 3


def test_pages_come_as_server_sent_events(client: httpx.Client) -> None:
    answer = client.post("/v1/ocr", files=FILE, headers={"accept": EVENTS})
    assert answer.headers["content-type"].startswith(EVENTS)
    found = events(answer)
    assert [name for name, _ in found] == ["page", "page", "page", "done"]
    assert [event["event"] for _, event in found] == ["page", "page", "page", "done"]


def test_a_page_is_sent_when_it_is_read(client: httpx.Client) -> None:
    """Not when all are: the first comes while most of the document is still to do."""
    start = time.monotonic()
    with client.stream("POST", "/v1/ocr", files={"file": ("m.tif", LONG)}, headers={"accept": NDJSON}) as answer:
        came = [time.monotonic() - start for _ in answer.iter_lines()]
    assert len(came) == 41
    assert came[0] < came[-1] / 2


def test_a_stream_ends_with_the_output_asked_for(client: httpx.Client) -> None:
    *_, done = lines(client.post("/v1/ocr", files=FILE, headers={"accept": NDJSON}, data={"output": "text"}))
    assert done["content"]["data"] == client.post("/v1/ocr", files=FILE, data={"output": "text"}).text
    *_, done = lines(client.post("/v1/ocr", files=FILE, headers={"accept": NDJSON}, data={"output": "pdf"}))
    assert len(pypdfium2.PdfDocument(base64.b64decode(done["content"]["data"]))) == 3


def test_what_is_wrong_from_the_start_has_its_status_and_what_is_later_ends_the_stream(client: httpx.Client) -> None:
    assert problem(client.post("/v1/ocr", files={"file": b"nonsense"}, headers={"accept": NDJSON}), 415)
    *pages, last = lines(client.post("/v1/ocr", files={"file": CUT}, headers={"accept": NDJSON}))
    assert len(pages) >= 1
    assert ProblemEvent.model_validate(last).problem.status == 422


def test_each_document_of_a_batch_is_answered_on_its_own(client: httpx.Client) -> None:
    files = [("file", ("a.tif", TIFF)), ("file", ("b.txt", b"nonsense")), ("file", ("c.tif", CUT)), ("file", TIFF)]
    answer = client.post("/v1/ocr/batch", files=files, data={"pages": "1,3"})
    assert answer.status_code == 200
    found = Batch.model_validate_json(answer.content).documents
    assert [one.index for one in found] == [0, 1, 2, 3]
    assert [one.name for one in found][:3] == ["a.tif", "b.txt", "c.tif"]
    assert [one.status for one in found] == [200, 415, 422, 200]
    assert [one.reading.text if one.reading else None for one in found] == ["a\fc\ncc", None, None, "a\fc\ncc"]
    assert [one.problem.subject if one.problem else None for one in found] == [None, "b.txt", "c.tif", None]


def test_a_batch_may_be_in_any_output_and_come_one_after_the_other(client: httpx.Client) -> None:
    files = [("file", ("a.tif", TIFF)), ("file", ("b.txt", b"nonsense"))]
    answer = client.post("/v1/ocr/batch", files=files, params={"output": "markdown"}, headers={"accept": NDJSON})
    *documents, done = lines(answer)
    first, second = (DocumentEvent.model_validate(one).document for one in documents)
    assert first.content is not None
    assert "b ab" in first.content.data
    assert second.status == 415
    assert BatchDoneEvent.model_validate(done).documents == 2


def test_a_batch_is_bounded(client: httpx.Client) -> None:
    many = [("file", (f"{number}.txt", b"x")) for number in range(BATCH_FILES + 1)]
    assert problem(client.post("/v1/ocr/batch", files=many), 400).expected.startswith(f"1 to {BATCH_FILES} files")


def test_a_deadline_is_kept(client: httpx.Client) -> None:
    late = client.post("/v1/ocr", files=FILE, headers={HEADER: "1"})
    told = problem(late, 504)
    assert told.type.endswith(":too-late")
    assert HEADER in told.remedy
    assert client.post("/v1/ocr", files=FILE, headers={HEADER: "60000"}).status_code == 200
    assert problem(client.post("/v1/ocr", files=FILE, headers={HEADER: "soon"}), 422)


def test_a_caller_who_leaves_gives_back_its_place_at_once(server: Server, client: httpx.Client) -> None:
    """While its document is being read; so does one who leaves a stream."""
    host, port = server.url.removeprefix("http://").split(":")
    body = httpx.Request("POST", "http://x", files={"file": ("m.tif", LONG)})
    data = body.read()
    for accept in ("application/json", NDJSON):
        head = f"POST /v1/ocr HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
        head += f"Content-Type: {body.headers['content-type']}\r\nContent-Length: {len(data)}\r\n\r\n"
        for _ in range(4):  # as many as are let in
            connection = socket.create_connection((host, int(port)), timeout=20)
            connection.sendall(head.encode() + data)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        start = time.monotonic()
        while f"{metrics.IN_FLIGHT} 0.0" not in client.get("/metrics").text:
            assert time.monotonic() - start < 20
        assert client.post("/v1/ocr", files=FILE).status_code == 200
