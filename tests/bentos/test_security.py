"""The real service over TLS, with keys: who gets in, how much they get, and what is written down about them."""

import io
import json
import pickle
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from ocr_ops.core.audit import AuditLog
from ocr_ops.core.keys import Key, Limits, Role, change_keys, now
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.workspace import Workspace
from ocr_ops.release import server as servers
from tests.bentos.conftest import ROOT
from tests.certificates import make as make_certificates
from tests.tiny import build_release, draw

TEXT = "abc cab"
MARK = "confidential-7d1f"
"""In names and queries of requests; nothing may write it down."""


def document(pages: int) -> bytes:
    buffer = io.BytesIO()
    images = [Image.fromarray(draw([TEXT])) for _ in range(pages)]
    images[0].save(buffer, "TIFF", save_all=True, append_images=images[1:])
    return buffer.getvalue()


@dataclass(frozen=True)
class Guarded:
    """A service on TLS that asks for keys."""

    url: str
    certificates: Path
    """Of the authority that signed its own."""
    context: ssl.SSLContext
    workspace: Workspace
    log: Path

    def key(self, name: str, *roles: Role, **limits: int) -> tuple[Key, str]:
        kinds: tuple[Role, ...] = roles or ("read",)
        changed = change_keys(
            self.workspace.api_keys, lambda ring: ring.create(name, kinds, Limits(**limits), None, now())
        )
        assert changed.secret
        return changed.key, changed.secret

    def ask(self, path: str, key: str = "", method: str = "GET", **more: Any) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}
        with httpx.Client(base_url=self.url, verify=self.context, timeout=120) as client:
            return client.request(method, path, headers=headers, **more)

    def read(self, key: str, pages: int = 1, **more: Any) -> httpx.Response:
        return self.ask("/v1/ocr", key, "POST", files={"file": (f"{MARK}.tif", document(pages))}, **more)

    def audited(self, caller: str | None, count: int = 1) -> list[dict[str, Any]]:
        """The newest entries about a caller, once there are so many: they are written a moment after the answer."""
        deadline = time.monotonic() + 30
        while True:
            log = AuditLog(self.workspace.audit)
            found = [entry.event.model_dump() for entry in log.entries() if entry.event.caller == caller]
            if len(found) >= count:
                return found[-count:]
            assert time.monotonic() < deadline, found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """`bentoml serve . --ssl-certfile ...`, as people start it."""
    folder = tmp_path_factory.mktemp("guarded")
    workspace = Workspace(folder / "home")
    build_release(workspace.champion)
    certificates = make_certificates(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = ssl.create_default_context(cafile=str(certificates.authority))
    service = Guarded(f"https://localhost:{port}", certificates.authority, context, workspace, folder / "log")
    service.key("first")
    command = [sys.executable, "-m", "bentoml", "serve", ".", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--ssl-certfile", str(certificates.certificate), "--ssl-keyfile", str(certificates.key)]
    with service.log.open("wb") as output, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCR_OPS_HOME", str(workspace.home))
        patch.setenv("BENTOML_HOME", str(folder / "bentoml"))
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                if service.ask("/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None, service.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield service
    finally:
        servers._stop(process)


def test_documents_are_read_over_tls_for_those_with_a_key(guarded: Guarded) -> None:
    """And who they were and what they asked for is in the audit log."""
    key, secret = guarded.key("reader")
    answer = guarded.read(secret, headers={"X-Request-ID": "case-7"})
    assert answer.status_code == 200, answer.text
    assert TEXT.split(maxsplit=1)[0] in answer.text
    assert answer.headers["strict-transport-security"]
    [event] = guarded.audited(key.id)
    assert event["action"] == "POST /v1/ocr"
    assert (event["outcome"], event["status"], event["request"]) == ("done", 200, "case-7")
    assert (event["documents"], event["pages"], event["output"]) == ((digest_bytes(document(1)),), 1, "json")


def test_ciphers_of_old_are_refused(guarded: Guarded) -> None:
    """TLS 1.2 is spoken with those that encrypt and authenticate in one."""
    port = httpx.URL(guarded.url).port

    def agreed(ciphers: str) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(guarded.certificates)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as spoken,
        ):
            return str(spoken.cipher())

    assert "GCM" in agreed("ECDHE+AESGCM")
    assert "CHACHA20" in agreed("ECDHE+CHACHA20")
    with pytest.raises(ssl.SSLError):
        agreed("ECDHE+SHA1")


def test_others_get_nothing(guarded: Guarded) -> None:
    """Not even from this machine, once there is a key; nor with the wrong role, or a key taken back a moment ago."""
    assert guarded.read("").status_code == 401
    corrector, secret = guarded.key("corrector", "feedback")
    assert guarded.read(secret).status_code == 403
    assert guarded.audited(corrector.id)[0]["outcome"] == "refused"
    _, secret = guarded.key("gone")
    assert guarded.ask("/v1/models", secret).status_code == 200
    change_keys(guarded.workspace.api_keys, lambda ring: ring.revoke("gone", now()))
    assert guarded.ask("/v1/models", secret).status_code == 401
    assert guarded.audited(None)[0]["status"] == 401


def test_who_asks_too_often_waits(guarded: Guarded) -> None:
    _, secret = guarded.key("hasty", requests_per_minute=3)
    answers = [guarded.ask("/v1/models", secret) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"requests";q=3;w=60'
    assert answers[0].headers["ratelimit"].startswith('"requests";r=2;')
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60


def test_pages_are_charged_as_they_are_read(guarded: Guarded) -> None:
    """What cannot be read costs nothing; a long document ends where the quota does; then nothing is received at all."""
    key, secret = guarded.key("thrifty", pages_per_day=6, pages_per_month=100)
    bad = guarded.ask("/v1/ocr", secret, "POST", files={"file": ("a.png", b"no picture")})
    assert bad.status_code == 415
    first = guarded.read(secret, 2)
    assert first.status_code == 200
    assert guarded.read(secret, 3).status_code == 200
    streamed = guarded.read(secret, 4, headers={"Accept": "application/x-ndjson"})
    events = [json.loads(line) for line in streamed.text.splitlines()]
    assert [event["event"] for event in events] == ["page", "problem"]
    assert events[-1]["problem"]["status"] == 429
    refused = guarded.read(secret, 1)
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:ocr-ops:problem:quota-used-up"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    submitted = guarded.ask("/v1/jobs", secret, "POST", files={"file": ("a.tif", document(1))})
    assert submitted.status_code == 429
    assert submitted.headers["retry-after"]
    assert [event["pages"] for event in guarded.audited(key.id, 6)] == [0, 2, 3, 2, 0, 0]


def test_jobs_are_charged_and_audited_as_their_callers(guarded: Guarded) -> None:
    """When they are handed in, and when they are over; nobody else sees them."""
    key, secret = guarded.key("patient", pages_per_day=5)
    _, other = guarded.key("curious")
    submitted = guarded.ask("/v1/jobs", secret, "POST", files={"file": (f"{MARK}.tif", document(3))})
    assert submitted.status_code == 202, submitted.text
    job = submitted.json()["id"]
    assert guarded.ask(f"/v1/jobs/{job}", other).status_code == 404
    events = guarded.audited(key.id, 2)
    while events[-1]["action"] != "job":
        events = guarded.audited(key.id, 2)
    handed_in = next(event for event in events if event["action"] == "POST /v1/jobs")
    assert (handed_in["subject"], handed_in["documents"]) == (job, (digest_bytes(document(3)),))
    assert (events[-1]["subject"], events[-1]["outcome"], events[-1]["pages"]) == (job, "done", 3)
    answer = guarded.read(secret, 1)
    assert '"pages-day";r=1;' in answer.headers["ratelimit"]


def test_metrics_of_a_guarded_service(guarded: Guarded) -> None:
    """For this machine without a key; through a proxy for their role alone."""
    assert guarded.ask("/metrics").status_code == 200
    passed_on = {"X-Forwarded-For": "192.0.2.7"}
    assert guarded.ask("/metrics", headers=passed_on).status_code == 401
    _, secret = guarded.key("prometheus", "metrics")
    assert guarded.ask("/metrics", secret, headers=passed_on).status_code == 200
    assert guarded.ask("/v1/models", secret).status_code == 403


class Poison:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_no_pickle_is_opened(guarded: Guarded, tmp_path: Path) -> None:
    """It would be code to run: not on any path, not for any caller."""
    _, secret = guarded.key("pickler", "admin")
    mark = tmp_path / "ran"
    poison = pickle.dumps({"file": Poison(mark)})
    headers = {"Content-Type": "application/vnd.bentoml+pickle"}
    for path in ("/v1/ocr", "/ocr", "/detect", "/recognize", "/v1/ocr/batch"):
        assert guarded.ask(path, secret, "POST", content=poison, headers=headers).status_code in (404, 415)
        assert guarded.ask(path, secret, "POST", files={"file": ("a.pkl", poison)}).status_code < 500
    assert not mark.exists()


def test_nothing_confidential_is_written_down(guarded: Guarded) -> None:
    """Not what documents say, their names, queries or keys: neither in a log, nor in the audit log, nor in metrics."""
    key, secret = guarded.key("careful")
    assert guarded.read(secret).status_code == 200
    wrong = {"Authorization": f"Bearer {secret[:-1]}", "X-Note": MARK, "User-Agent": MARK, "Referer": f"http://{MARK}"}
    assert guarded.read("", headers=wrong).status_code == 401
    assert guarded.ask(f"/v1/ocr?key={secret}&{MARK}={MARK}", "", "POST").status_code == 401
    assert guarded.ask(f"/v1/{MARK}", secret).status_code == 404
    assert guarded.ask("/v1/ocr", secret, "POST", files={"file": (f"{MARK}.png", document(1)[:99])}).status_code == 422
    guarded.audited(key.id, 2)
    written = [guarded.log, *guarded.workspace.audit.iterdir(), *guarded.workspace.home.glob("*.db*")]
    everything = b"".join(path.read_bytes() for path in written) + guarded.ask("/metrics").content
    assert key.id.encode() in everything
    for word in (secret, secret[13:-6], secret[:-1], MARK, TEXT):
        assert word.encode() not in everything, word
    assert not re.search(rb"(?<![0-9a-f])cab(?![0-9a-f])", everything)  # digests are full of its letters


def test_the_audit_log_is_sound(guarded: Guarded) -> None:
    """All that the tests before this one asked for."""
    assert AuditLog(guarded.workspace.audit).verify().entries > 5
