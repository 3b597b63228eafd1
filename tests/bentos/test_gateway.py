import io
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import httpx
import psutil
import pytest
from PIL import Image

from ocr_ops.core import metrics
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server
from ocr_ops.runtime.documents import LIMITS
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import draw

ROOT = Path(__file__).resolve().parents[2]
LINES = ["abc ab", "cab", "ba ac cc"]
Served = tuple[Workspace, Release]


def _document(lines: list[str], form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(lines)).save(buffer, form, **options)
    return buffer.getvalue()


PNG = _document(LINES)


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def _post(client: httpx.Client, data: bytes, name: str = "page.png") -> httpx.Response:
    return client.post("/v1/ocr", files={"file": (name, data)})


def _text(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return Reading.model_validate_json(answer.content).text


def _assert_problem(answer: httpx.Response, status: int, word: str = "") -> dict[str, Any]:
    """RFC 9457, whole and honest; nothing of our insides."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["type"].startswith("urn:ocr-ops:problem:")
    assert all(found[member] for member in ("title", "detail", "subject", "expected", "remedy"))
    assert word in answer.text
    assert "Traceback" not in answer.text
    return found


def test_who_is_no_gateway_does_not_load_what_it_is_made_of() -> None:
    """BentoML's own process and the models' workers load the service too, and would take a third longer to start."""
    code = "import sys, bentos.gateway; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"aiohttp", "docx", "jwt", "pypdfium2", "redis", "bentos.api.app"} & set(done.stdout.split())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "PDF"])
def test_every_format_is_read(client: httpx.Client, form: str) -> None:
    options = {"PDF": {"resolution": 200}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(form, {})
    assert _text(_post(client, _document(LINES, form, **options))).splitlines() == LINES


def test_the_answer_is_that_of_the_reader_in_one_process(client: httpx.Client, served: Served) -> None:
    """The hop, the batches and the chunks change nothing."""
    answer = Reading.model_validate_json(_post(client, PNG).content)
    assert answer == Reader(served[1], threads=1).read(PNG, "page.png")


def test_a_page_upside_down_takes_the_same_way_here(client: httpx.Client, served: Served) -> None:
    """What is doubtful is read again, through the hops as in one process."""
    for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270):
        buffer = io.BytesIO()
        Image.fromarray(draw(LINES)).transpose(turn).save(buffer, "PNG")
        answer = Reading.model_validate_json(_post(client, buffer.getvalue()).content)
        assert answer == Reader(served[1], threads=1).read(buffer.getvalue(), "page.png")


def test_pages_come_in_their_order(client: httpx.Client) -> None:
    pages = [["a"], ["b ab"], ["c", "cc"]]
    images = [Image.fromarray(draw(lines)) for lines in pages]
    buffer = io.BytesIO()
    images[0].save(buffer, "TIFF", save_all=True, append_images=images[1:])
    assert _text(_post(client, buffer.getvalue())) == "\f".join("\n".join(lines) for lines in pages)


def test_a_page_without_text_is_a_page_without_lines(client: httpx.Client) -> None:
    answer = Reading.model_validate_json(_post(client, _document([])).content)
    assert [page.lines for page in answer.pages] == [()]


def test_more_crops_than_a_batch_holds_are_all_read(client: httpx.Client) -> None:
    """Sixty, in calls of thirty-two at most."""
    lines = ["a   b   c   a   b"] * 12
    buffer = io.BytesIO()
    Image.fromarray(draw(lines, height=640)).save(buffer, "PNG")
    assert _text(_post(client, buffer.getvalue())).splitlines() == ["a b c a b"] * 12


def test_neighbours_in_a_batch_change_no_answer(client: httpx.Client) -> None:
    documents = [_document([word]) for word in ("a", "ab ab ab", "c", "bb")]
    alone = [_post(client, document).content for document in documents]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda document: _post(client, document).content, documents * 4))
    assert together == alone * 4


def test_bentoml_clients_read_documents(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "page.png"
    path.write_bytes(PNG)
    with bentoml.SyncHTTPClient(server.url) as client:
        answer = client.ocr(file=path)
    client._temp_dir.cleanup()  # BentoML leaves it to the garbage collector, which warns
    assert Reading.model_validate(answer).text.splitlines() == LINES


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        (b"", 422, "no bytes"),
        (PNG[:300], 422, "truncated"),
        (b"GIF89a" + bytes(40), 422, ""),
        (b"hello, world" * 9, 415, "unknown type"),
        (b"%PDF-1.7 and no more", 422, ""),
        (bytes(LIMITS.max_bytes + 1), 413, "20,971,520"),
    ],
    ids=["empty", "truncated", "broken", "text", "broken PDF", "too large"],
)
def test_bad_documents_are_problems(client: httpx.Client, data: bytes, status: int, word: str) -> None:
    _assert_problem(_post(client, data), status, word)


MULTIPART = {"content-type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"files": {"other": ("a.png", PNG)}}, 400),
        ({"data": {"file": "http://127.0.0.1/a.png"}, "files": {"x": ("x", b"x")}}, 400),
        ({"files": [("file", ("a.png", PNG)), ("file", ("b.png", PNG))]}, 400),
        ({"content": PART + PNG, "headers": MULTIPART}, 400),
        ({"content": b"nothing of the kind", "headers": MULTIPART}, 400),
        ({"content": PNG, "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": PNG, "headers": {"content-type": "image/png"}}, 415),
        ({"json": {"file": "http://127.0.0.1/a.png"}}, 415),
        ({"content": b"cos\nsystem\n", "headers": {"content-type": "application/vnd.bentoml+pickle"}}, 415),
        ({}, 415),
    ],
    ids=["no field", "a URL", "two", "cut", "garbage", "no boundary", "raw", "json", "pickle", "nothing"],
)
def test_bad_requests_are_problems(client: httpx.Client, request_: dict[str, Any], status: int) -> None:
    _assert_problem(client.post("/v1/ocr", **request_), status)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/v1/ocr", 405), ("PUT", "/v1/ocr", 405), ("POST", "/readyz", 405)),
        *(("GET", "/v1/nothing", 404), ("POST", "/v1/ocr/", 404), ("POST", "/v1/ocr/batch/", 404)),
    ],
)
def test_wrong_methods_and_paths_are_problems(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    _assert_problem(answer, status)
    assert ("allow" in answer.headers) == (status == 405)


def test_a_body_without_a_length_is_bounded_as_it_comes(client: httpx.Client) -> None:
    """50 MB are on offer; the service stops listening after 20."""
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield PART
        for _ in range(50):
            sent += 1
            yield bytes(2**20)

    _assert_problem(client.post("/v1/ocr", content=body(), headers=MULTIPART), 413)


def test_a_declared_length_is_enough_to_refuse(server: Server) -> None:
    """The answer comes before a single byte of the body."""
    host, port = server.url.removeprefix("http://").split(":")
    head = "POST /v1/ocr HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: 999999999\r\n\r\n".encode())
        assert b" 413 " in connection.recv(4096).partition(b"\r\n")[0]


def test_clients_that_leave_hurt_nobody(server: Server, client: httpx.Client) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = "POST /v1/ocr HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    for _ in range(6):  # more than are let in at once: none may keep its place
        connection = socket.create_connection((host, int(port)), timeout=20)
        connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + PART)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert _text(_post(client, PNG)).splitlines() == LINES


def test_what_is_too_much_is_turned_away_with_a_time_to_come_back(server: Server) -> None:
    """Four are let in; four uploads that never end hold those places."""
    host, port = server.url.removeprefix("http://").split(":")
    head = "POST /v1/ocr HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    held = [socket.create_connection((host, int(port)), timeout=20) for _ in range(4)]
    try:
        for connection in held:
            connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode() + PART)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while f"{metrics.IN_FLIGHT} 4.0" not in client.get("/metrics").text:
                pass
            answer = _post(client, PNG)
            _assert_problem(answer, 503, "4 documents in flight")
            assert int(answer.headers["retry-after"]) >= 1
            assert client.get("/readyz").status_code == 200
    finally:
        for connection in held:
            connection.close()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while f"{metrics.IN_FLIGHT} 0.0" not in client.get("/metrics").text:
            pass
        assert _post(client, PNG).status_code == 200


def test_readiness_tells_the_release_and_each_provider(client: httpx.Client, served: Served) -> None:
    state = client.get("/readyz").json()
    assert state["ready"] is True
    assert state["release"] == served[1].digest
    assert state["models"]["detection"] == {
        "digest": served[1].detection.digest,
        "provider": "CPUExecutionProvider",
        "attested": False,
    }
    assert state["attested"] is False
    assert state["models"]["recognition"]["digest"] == served[1].recognition.digest


def test_liveness_is_answered(client: httpx.Client) -> None:
    assert [client.get(path).status_code for path in ("/livez", "/healthz")] == [200, 200]


def test_metrics_of_all_three_services_are_on_the_one_port(client: httpx.Client, served: Served) -> None:
    _post(client, PNG)
    _post(client, b"nonsense")
    found = client.get("/metrics").text
    for name in (metrics.REQUESTS, metrics.PAGES, metrics.LINES):
        assert f"\n{name}" in found
    assert f'{metrics.REQUESTS}{{status="200"}}' in found
    assert f'{metrics.REQUESTS}{{status="415"}}' in found
    assert f'{metrics.STAGE_SECONDS}_count{{stage="decode"}}' in found
    for task in ("detection", "recognition"):
        assert f'{metrics.BATCH_ITEMS}_count{{task="{task}"}}' in found
        assert f'digest="{getattr(served[1], task).digest}"' in found
    assert f'{metrics.RELEASE_INFO}{{digest="{served[1].digest}"}} 1.0' in found
    for task in ("detection", "recognition"):
        assert f'{metrics.MODEL_ATTESTED}{{provider="CPUExecutionProvider",task="{task}"}} 0.0' in found


def test_a_model_that_dies_comes_back(server: Server, served: Served) -> None:
    """Its calls wait in the socket, which outlives it."""
    family = psutil.Process(server.pid).children(recursive=True)
    victim = next(process for process in family if "Detection" in process.cmdline())
    victim.kill()
    with httpx.Client(base_url=server.url, timeout=120) as client:
        assert _text(_post(client, PNG)).splitlines() == LINES
        assert client.get("/readyz").json()["release"] == served[1].digest
        assert client.get("/livez").json() == {"alive": True}


def test_strangers_paths_make_no_metrics(client: httpx.Client) -> None:
    client.get("/a-path-nobody-serves")
    assert "a-path-nobody-serves" not in client.get("/metrics").text


def test_only_the_gateway_has_a_port(server: Server) -> None:
    """The models speak pickle: they may be reached through a socket file of this server alone."""
    family = psutil.Process(server.pid).children(recursive=True)
    listening = {
        connection.laddr
        for process in [psutil.Process(server.pid), *family]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    ports = {address.port for address in listening if address.ip not in ("127.0.0.1", "::1")}
    assert ports == set()
    assert int(server.url.rpartition(":")[2]) in {address.port for address in listening}


def test_a_service_that_was_never_admitted_here_warns(client: httpx.Client, served: Served) -> None:
    """Each model's worker, in the log."""
    assert client.get("/readyz").status_code == 200
    log = (served[0].home / "server.log").read_text(encoding="utf-8")
    for task in ("detection", "recognition"):
        assert f"unattested: {task} of release" in log


def test_the_log_holds_no_traceback(client: httpx.Client, served: Served) -> None:
    """After everything above: bad input is not news."""
    log = (served[0].home / "server.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
