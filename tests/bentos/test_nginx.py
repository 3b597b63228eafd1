"""The committed nginx configuration, run by the real nginx: TLS, limits, what it passes on and what it does not."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr_ops.release.server import Server
from tests.certificates import Certificates, make

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "nginx" / "ocr.conf"
MAIN = """
user root; worker_processes 1; daemon off; pid nginx.pid; error_log error.log;
events {}
http {
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    include ocr.conf;
}
"""


class Upstream(ThreadingHTTPServer):
    """Says what it was sent; `/stream` sends a line, and the next when it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.go_on = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in (b"first\n", b"second\n", b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                if line == b"first\n":
                    self.server.go_on.wait(20)
            return
        body = json.dumps({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def start(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[int], tuple[int, int, Path]]]:
    """Starts nginx before a port of this machine: its own ports for HTTP and TLS, and its folder."""
    running: list[subprocess.Popen[bytes]] = []

    def call(upstream_port: int) -> tuple[int, int, Path]:
        folder = tmp_path_factory.mktemp("nginx")
        plain, secure = _free_port(), _free_port()
        text = CONFIGURATION.read_text(encoding="utf-8")
        for old, new in (
            ("listen 80 ", f"listen 127.0.0.1:{plain} "),
            ("listen 443 ", f"listen 127.0.0.1:{secure} "),
            ("127.0.0.1:3000", f"127.0.0.1:{upstream_port}"),
            ("/etc/nginx/tls/ocr.crt", str(certificates.certificate)),
            ("/etc/nginx/tls/ocr.key", str(certificates.key)),
            ("/var/log/nginx/", f"{folder}/"),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "ocr.conf").write_text(text, encoding="utf-8")
        (folder / "nginx.conf").write_text(MAIN, encoding="utf-8")
        command = ["nginx", "-p", str(folder), "-c", "nginx.conf"]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(process)
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", secure)) == 0:
                    return plain, secure, folder
            assert process.poll() is None, (folder / "error.log").read_text()

    yield call
    for process in running:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def front(start: Callable[[int], tuple[int, int, Path]], upstream: Upstream) -> tuple[int, int, Path]:
    return start(int(upstream.server_address[1]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def client(front: tuple[int, int, Path], certificates: Certificates) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(certificates.authority))
    with httpx.Client(base_url=f"https://localhost:{front[1]}", verify=context, timeout=30) as client:
        yield client


def test_everything_is_sent_over_tls(front: tuple[int, int, Path], client: httpx.Client) -> None:
    """A POST in the clear is told where to go, method and all."""
    answer = httpx.post(f"http://localhost:{front[0]}/v1/ocr?a=b", content=b"x")
    assert (answer.status_code, answer.headers["location"]) == (308, "https://localhost/v1/ocr?a=b")
    assert client.get("/v1/about").status_code == 200
    assert client.get("/v1/about").headers["server"] == "nginx"


@pytest.mark.parametrize(
    ("version", "taken"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_versions_of_tls_are_refused(
    front: tuple[int, int, Path], certificates: Certificates, version: ssl.TLSVersion, *, taken: bool
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.authority))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("localhost", front[1])) as connection:
        if taken:
            with context.wrap_socket(connection, server_hostname="localhost") as secure:
                assert secure.version() == f"TLSv1.{2 if version is ssl.TLSVersion.TLSv1_2 else 3}"
        else:
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_hostname="localhost")


def test_what_a_caller_claims_of_itself_is_not_passed_on(client: httpx.Client) -> None:
    """The service learns the address the connection came from, and that it was TLS; and the key."""
    claims = {
        "X-Forwarded-For": "8.8.8.8",
        "X-Forwarded-Proto": "http",
        "X-Real-IP": "8.8.8.8",
        "Forwarded": "for=8.8.8.8",
    }
    claims |= {"X-Forwarded-Host": "evil.example", "Authorization": "Bearer key"}
    told = client.get("/v1/about", headers=claims).json()
    assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert not {"x-real-ip", "forwarded", "x-forwarded-host"} & set(told)
    assert (told["authorization"], told["host"]) == ("Bearer key", "localhost")


def test_a_stream_is_passed_on_as_it_comes(client: httpx.Client, upstream: Upstream) -> None:
    """The second line is sent only after the first has arrived."""
    with client.stream("GET", "/stream") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "first"
        upstream.go_on.set()
        assert next(lines) == "second"


def test_too_large_a_body_is_a_problem(client: httpx.Client) -> None:
    """A batch of 64 MiB passes, and a job of 100."""
    assert client.post("/v1/ocr/batch", content=bytes(64 * 2**20)).status_code == 200
    assert client.post("/v1/jobs", content=bytes(100 * 2**20 + 60_000)).status_code == 200
    for path, megabytes in (("/v1/ocr", 64), ("/v1/jobs/", 64), ("/v1/jobs", 100)):
        answer = client.post(path, content=bytes((megabytes + 2) * 2**20))
        assert answer.status_code == answer.json()["status"] == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["expected"] == f"at most {megabytes} MiB"


def test_a_job_is_passed_on_as_all_else_is(client: httpx.Client) -> None:
    """Its place has a size of its own, and no other rules."""
    claims = {"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.8.8", "Authorization": "Bearer key"}
    jobs, about = (client.get(path, headers=claims).json() for path in ("/v1/jobs", "/v1/about"))
    assert jobs == {**about, "path": "/v1/jobs"}
    assert jobs["x-forwarded-for"] == "127.0.0.1"


def test_metrics_stay_inside(client: httpx.Client) -> None:
    """However they are spelt."""
    for path in (
        "/metrics",
        "/%6detrics",
        "//metrics",
        "/v1/../metrics",
        "/metrics?a",
        "/metrics%0A",
        "/metrics%0D%0A",
    ):
        assert client.get(str(client.base_url) + path).status_code == 404


def test_too_many_from_one_address_are_told_when_to_come_back(client: httpx.Client) -> None:
    """Forty at once, twenty a second beyond."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get("/v1/about"), range(200)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["type"] == "urn:ocr-ops:problem:rate-limited"


def test_a_service_that_is_away_is_a_problem(
    start: Callable[[int], tuple[int, int, Path]], certificates: Certificates
) -> None:
    _, secure, _ = start(_free_port())
    context = ssl.create_default_context(cafile=str(certificates.authority))
    for path in ("/v1/about", "/v1/jobs"):
        answer = httpx.get(f"https://localhost:{secure}{path}", verify=context)
        assert answer.status_code == answer.json()["status"] == 503
        assert answer.headers["retry-after"] == "5"


def test_no_key_comes_into_the_log(front: tuple[int, int, Path], client: httpx.Client) -> None:
    """Neither from a header nor from a query string, where some put it by mistake."""
    client.get("/v1/about?key=ocr_secret", headers={"Authorization": "Bearer ocr_secret"})
    log = (front[2] / "ocr.log").read_text(encoding="utf-8")
    assert "/v1/about 200" in log
    assert "ocr_secret" not in log


def test_a_service_without_keys_lets_nobody_in_through_nginx(
    start: Callable[[int], tuple[int, int, Path]], certificates: Certificates, server: Server
) -> None:
    """It would take them for callers on its own machine."""
    _, secure, _ = start(int(server.url.rpartition(":")[2]))
    context = ssl.create_default_context(cafile=str(certificates.authority))
    with httpx.Client(base_url=f"https://localhost:{secure}", verify=context, timeout=60) as client:
        answer = client.get("/v1/models")
        assert answer.status_code == 401
        assert answer.headers["strict-transport-security"]
        assert client.get("/readyz").status_code == 200
    assert httpx.get(f"{server.url}/v1/models").status_code == 200
