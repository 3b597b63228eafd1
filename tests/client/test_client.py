"""What a client does when a service is slow, full, gone, or not one: each failure is the right error, or no failure."""

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from ocr_ops.client import AsyncClient, Client, Document, ReadOptions, Retry
from ocr_ops.client.documents import document
from ocr_ops.client.flows import BYTES_AT_ONCE, Lines, batches
from ocr_ops.core import errors
from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.reading import Page, Reading
from tests import certificates
from tests.client.scripted import Said, Scripted, events, problem, scripted

PAGE = Page(width=10, height=10, lines=()).model_dump(mode="json")
READING = Said(body=Reading(pages=(Page(width=10, height=10, lines=()),)).model_dump_json().encode())
QUICK = Retry(first=0.01, most=0.02)
READ = b"a document"

Asking = Callable[[Client], Any]


def in_turn(server: Scripted, ask: str, *arguments: Any, **settings: Any) -> Any:
    with Client(server.url, retry=QUICK, timeout=20) as client:
        return getattr(client, ask)(*arguments, **settings)


def in_asyncio(server: Scripted, ask: str, *arguments: Any, **settings: Any) -> Any:
    async def asked() -> Any:
        async with AsyncClient(server.url, retry=QUICK, timeout=20) as client:
            found: Awaitable[Any] = getattr(client, ask)(*arguments, **settings)
            return await found

    return asyncio.run(asked())


@pytest.fixture(params=[in_turn, in_asyncio])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Both clients behave alike."""
    return request.param


@pytest.fixture
def page_events() -> list[dict[str, Any]]:
    return [{"event": "page", "page": {**PAGE, "number": number, "of": 3}} for number in (2, 5, 6)]


@pytest.mark.parametrize(
    "before",
    [
        problem(503, "overloaded", Retry_After="0"),
        problem(429, "rate-limited", Retry_After="0"),
        problem(503, "model-away"),
        problem(409, "in-progress", Retry_After="0"),
        Said(502, b"<html>bad gateway</html>", {"Content-Type": "text/html"}),
        Said(504, b""),
        Said(body=b"", drop=True),
        Said(body=b'{"pages": [', drop=True),
    ],
)
def test_what_may_pass_is_tried_again_with_the_same_key(ask: Callable[..., Any], before: Said) -> None:
    """Also broken connections: reading twice does no harm, and a service that knows the key answers once."""
    with scripted(before, before, READING) as server:
        assert ask(server, "read", READ).pages
        assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
        assert len(server.asked) == 3
        remaining = [int(asked.headers["X-OCR-Ops-Remaining-Ms"]) for asked in server.asked]
        assert remaining == sorted(remaining, reverse=True)
        assert 0 < remaining[0] <= 20_000


@pytest.mark.parametrize(
    ("said", "kind", "word"),
    [
        (problem(415, "unreadable-document"), errors.UnreadableDocument, "what was found"),
        (problem(422, "unwritable-language"), errors.UnwritableLanguage, "what to do"),
        (problem(422, "invalid-option"), errors.Refused, "what was expected"),
        (problem(401, "unauthorized"), errors.NotAllowed, "service"),
        (problem(403, "forbidden"), errors.NotAllowed, "service"),
        (problem(409, "job-not-done"), errors.Refused, "what was found"),
        (problem(500, "failed"), errors.ServiceFailed, "5b0c"),
        (Said(404, b"not here", {"Content-Type": "text/plain"}), errors.Refused, "404 Not Found"),
        (Said(302, b"", {"Location": "http://elsewhere/"}), errors.Refused, "302"),
        (Said(body=b"<html>hello</html>"), errors.ServiceFailed, "none of an ocr_ops service"),
        (Said(500, b"{", {"Content-Type": "application/problem+json"}), errors.ServiceFailed, "500"),
    ],
)
def test_what_will_not_pass_is_an_error_at_once(
    ask: Callable[..., Any], said: Said, kind: type[OcrOpsError], word: str
) -> None:
    """Of the right kind, on one line, after one request."""
    with scripted(said) as server:
        with pytest.raises(kind, match=word) as caught:
            ask(server, "read", READ)
        assert type(caught.value) is kind
        assert "\n" not in str(caught.value)
        assert len(server.asked) == 1


def test_attempts_end(ask: Callable[..., Any]) -> None:
    """With what the service said last."""
    with scripted(problem(503, "overloaded", Retry_After="0")) as server:
        with pytest.raises(errors.Overloaded):
            ask(server, "read", READ)
        assert len(server.asked) == QUICK.attempts


def test_a_wait_that_would_outlast_the_deadline_is_not_begun() -> None:
    """A service that wants to be left alone for an hour is not waited for, whichever way it says so."""
    for told in ("3600", formatdate(time.time() + 3600, usegmt=True)):
        with scripted(problem(429, "quota", Retry_After=told)) as server, Client(server.url, timeout=30) as client:
            start = time.monotonic()
            with pytest.raises(errors.Overloaded):
                client.read(READ)
            assert time.monotonic() - start < 10
            assert len(server.asked) == 1


def test_retry_after_is_honoured(ask: Callable[..., Any]) -> None:
    """Not a moment sooner."""
    with scripted(problem(503, "overloaded", Retry_After="1"), READING) as server:
        start = time.monotonic()
        ask(server, "read", READ)
        assert time.monotonic() - start >= 1


@pytest.mark.parametrize(("failed", "most"), [(1, 0.25), (2, 0.5), (3, 1.0), (9, 10.0), (500, 10.0)])
def test_waits_grow_and_are_drawn_by_lot(failed: int, most: float) -> None:
    """From nothing to the longest; what a service asks for is a floor."""
    assert [Retry().delay(failed, None, luck) for luck in (0.0, 0.5, 1.0)] == [0, most / 2, most]
    assert Retry().delay(failed, 7, 0.5) == 7 + most / 2


def test_nobody_there_is_told(ask: Callable[..., Any]) -> None:
    """After as many attempts."""
    with scripted(READING) as server:
        pass
    with pytest.raises(errors.ServiceAway, match="no answer"):
        ask(server, "read", READ)


def test_a_certificate_that_is_not_trusted_is_told_at_once(
    ask: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It will not be trusted the next time either; with its authority the service is read."""
    made, tries = certificates.make(tmp_path), []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    tls.sni_callback = lambda *_: tries.append("a handshake")
    with scripted(READING, tls=tls) as server:
        with pytest.raises(errors.ServiceAway, match=r"no trust in it: .*CERTIFICATE_VERIFY_FAILED") as told:
            ask(server, "read", READ)
        assert "SSL_CERT_FILE" in told.value.remedy
        assert len(tries) == 1
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
        assert isinstance(ask(server, "read", READ), Reading)


@pytest.mark.parametrize("url", ["localhost:3000", "ftp://host", "", "http://", "http://[::1", "file:///etc"])
def test_no_url_is_a_usage_error(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(errors.UsageError):
        Client(url)


def test_a_stream_that_breaks_goes_on_where_it_was(ask: Callable[..., Any], page_events: list[dict[str, Any]]) -> None:
    """Each page once, in order, however often the connection is lost."""
    seen: list[tuple[int, int | None]] = []
    whole = events(*page_events, {"event": "done", "pages": 3})
    script = (events(page_events[0], drop=True), events(*page_events[:2]), problem(503, "overloaded"), whole)
    with scripted(*script) as server:
        reading = ask(server, "read", READ, progress=lambda done, count: seen.append((done, count)))
        assert len(reading.pages) == 3
        assert seen == [(1, 3), (2, 3), (3, 3)]
        assert [page.number for page in reading.pages] == [2, 5, 6]
        assert len(server.asked) == 4
        assert all("application/x-ndjson" in asked.headers["Accept"] for asked in server.asked)


def test_a_text_may_have_any_line_break_in_it(ask: Callable[..., Any]) -> None:
    """Only a line feed ends an event, and JSON has none; nor does it matter how the bytes are cut."""
    odd = "a\u2028b\u2029c\x85d\u000be\u000cf\x1cg"
    body = b"".join(
        json.dumps(event, ensure_ascii=False).encode() + b"\n"
        for event in (
            {"event": "page", "page": PAGE},
            {"event": "done", "content": {"encoding": "utf-8", "data": odd}},
        )
    )
    with scripted(Said(body=body)) as server:
        assert ask(server, "read", READ, output="text", progress=lambda *_: None) == odd
    for step in (1, 2, 7, len(body)):
        lines = Lines()
        found = [line for at in range(0, len(body), step) for line in lines.fed(body[at : at + step])]
        assert "".join(f"{line}\n" for line in found).encode() == body
        assert len(found) == 2


def test_a_problem_in_a_stream_is_an_error(ask: Callable[..., Any], page_events: list[dict[str, Any]]) -> None:
    """Of its kind, after the pages before it."""
    found = {"type": "urn:ocr-ops:problem:unreadable-document", "status": 422, "detail": "page 2 is broken"}
    with (
        scripted(events(page_events[0], {"event": "problem", "problem": found})) as server,
        pytest.raises(errors.UnreadableDocument, match="page 2 is broken"),
    ):
        ask(server, "read", READ, progress=lambda *_: None)


@pytest.mark.parametrize(
    "line", [b"no json\n", b"[]\n", b'{"event": "page", "page": {}}\n', b'{"event": "page"}\n', b'{"event": 3}\n']
)
def test_a_stream_of_nonsense_is_an_error(ask: Callable[..., Any], line: bytes) -> None:
    """And not tried again."""
    with scripted(Said(body=line)) as server:
        with pytest.raises(errors.ServiceFailed, match="none of an ocr_ops service"):
            ask(server, "read", READ, progress=lambda *_: None)
        assert len(server.asked) == 1


def test_content_comes_with_progress(ask: Callable[..., Any], page_events: list[dict[str, Any]]) -> None:
    """Text as text, PDFs as bytes."""
    pdf = {"media_type": "application/pdf", "encoding": "base64", "data": "JVBERg=="}
    text = {"media_type": "text/plain", "encoding": "utf-8", "data": "ä\n"}
    for content, expected in ((pdf, b"%PDF"), (text, "ä\n")):
        with scripted(events(page_events[0], {"event": "done", "pages": 1, "content": content})) as server:
            assert ask(server, "read", READ, output="pdf", progress=lambda *_: None) == expected


def item(index: int, status: int = 200, kind: str = "") -> dict[str, Any]:
    problem = {"problem": {"type": f"urn:ocr-ops:problem:{kind}"}}
    told: dict[str, Any] = {"reading": {"pages": []}} if status == 200 else problem
    return {"event": "document", "document": {"index": index, "name": "x", "status": status, **told}}


def named(count: int) -> list[Document]:
    return [Document(f"{i}.png", bytes([65 + i])) for i in range(count)]


def test_of_a_batch_only_what_may_yet_succeed_is_sent_again(ask: Callable[..., Any]) -> None:
    """Answers stand once they are there; an error in its place is one document's own."""
    first = events(item(0), item(1, 415, "unreadable-document"), item(2, 503, "overloaded"), drop=True)
    second = events(item(0), item(1), {"event": "done", "documents": 2})
    with scripted(first, second) as server:
        found = ask(server, "batch", named(4))
        assert [outcome.name for outcome in found] == ["0.png", "1.png", "2.png", "3.png"]
        assert [type(outcome.error) for outcome in found] == [type(None), errors.UnreadableDocument] + [type(None)] * 2
        assert all(outcome.reading is not None for outcome in found if outcome.error is None)
        assert [name for name in ("0.png", "1.png", "2.png", "3.png") if name.encode() in server.asked[1].body] == [
            "2.png",
            "3.png",
        ]


ALONE = events(item(0, 504, "too-late"), {"event": "done", "documents": 1})


@pytest.mark.parametrize(
    ("after", "second", "third"),
    [
        ([ALONE], errors.TooLate, errors.OutsideSystem),
        ([problem(503, "overloaded", Retry_After="3600")], errors.Overloaded, errors.Overloaded),
        ([problem(401, "unauthorized")], errors.Overloaded, errors.NotAllowed),
        ([events({"event": "document", "document": {"index": 7}})], errors.Overloaded, errors.ServiceFailed),
        ([Said(body=b"nonsense\n")], errors.Overloaded, errors.ServiceFailed),
    ],
)
def test_answers_of_a_batch_are_kept_when_trying_is_over(
    ask: Callable[..., Any], after: list[Said], second: type[OcrOpsError], third: type[OcrOpsError]
) -> None:
    """A document keeps what was said of it last; one of which nothing was said has what went wrong."""
    seen: list[tuple[int, int]] = []
    first = events(item(0), item(1, 503, "overloaded"), drop=True)
    with scripted(first, *after) as server:
        found = ask(server, "batch", named(3), progress=lambda done, of: seen.append((done, of)))
        assert found[0].reading is not None
        assert isinstance(found[1].error, second)
        assert isinstance(found[2].error, third)
        assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_batch_that_nobody_answers_is_an_error(ask: Callable[..., Any]) -> None:
    """Not one a document; and what one request too large for the service comes to says nothing about the next."""
    for said in (problem(401, "unauthorized"), problem(413, "too-large")):
        with scripted(said) as server, pytest.raises((errors.NotAllowed, errors.Refused)):
            ask(server, "batch", named(40))
    rest = events(*(item(index) for index in range(8)), {"event": "done", "documents": 8})
    with scripted(problem(413, "too-large"), rest) as server:
        found = ask(server, "batch", named(40))
        assert [type(outcome.error) for outcome in found] == [errors.Refused] * 32 + [type(None)] * 8
    whole = events(*(item(index) for index in range(32)), {"event": "done", "documents": 32})
    with scripted(whole, problem(401, "unauthorized")) as server:
        found = ask(server, "batch", named(70))
        assert [type(outcome.error) for outcome in found] == [type(None)] * 32 + [errors.NotAllowed] * 38
        assert len(server.asked) == 2


def test_a_path_of_a_batch_that_cannot_be_opened_is_an_error_in_its_place(
    ask: Callable[..., Any], tmp_path: Path
) -> None:
    """The others are sent."""
    (tmp_path / "there.png").write_bytes(READ)
    with scripted(events(item(0), item(1), {"event": "done", "documents": 2})) as server:
        found = ask(server, "batch", [tmp_path / "none.png", tmp_path / "there.png", tmp_path, READ, "nu\0ll.png"])
        assert [outcome.name for outcome in found] == [
            "none.png", "there.png", tmp_path.name, "document", "nu\0ll.png",
        ]  # fmt: skip
        assert [isinstance(outcome.error, errors.UnreadableDocument) for outcome in found] == [
            True, False, True, False, True,
        ]  # fmt: skip
        assert len(server.asked) == 1
        assert isinstance(ask(server, "batch", [tmp_path])[0].error, errors.UnreadableDocument)
        assert len(server.asked) == 1


def job(state: str, done: int = 0, **more: Any) -> Said:
    told = {"id": "a/b", "state": state, "name": "x", "pages": {"done": done, "total": 3}, "created": "now", **more}
    return Said(body=json.dumps(told).encode(), headers={"Content-Type": "application/json"})


def test_a_job_is_waited_for(ask: Callable[..., Any]) -> None:
    """As long as it takes, through lost connections, with its pages told; then its result is fetched."""
    seen: list[tuple[int, int | None]] = []
    pdf = Said(body=b"%PDF", headers={"Content-Type": "application/pdf"})
    with scripted(job("waiting"), job("running", 1), Said(drop=True, body=b""), job("done", 3), pdf) as server:
        assert ask(server, "wait", "a/b", progress=lambda done, total: seen.append((done, total))) == b"%PDF"
        assert seen == [(0, 3), (1, 3), (3, 3)]
        assert [asked.path for asked in server.asked] == ["/v1/jobs/a%2Fb"] * 4 + ["/v1/jobs/a%2Fb/result"]


def test_a_job_that_comes_to_nothing_is_an_error(ask: Callable[..., Any]) -> None:
    """Its own, when it failed; and when it is cancelled, or takes too long."""
    found = {"type": "urn:ocr-ops:problem:unreadable-document", "status": 415, "detail": "an unknown type"}
    for said, kind in (
        (job("failed", problem=found), errors.UnreadableDocument),
        (job("cancelled"), errors.Refused),
        (job("running"), errors.TooLate),
    ):
        with scripted(said) as server, pytest.raises(kind):
            ask(server, "wait", "a/b", timeout=1.0)


def test_a_job_is_submitted_looked_at_and_cancelled(ask: Callable[..., Any]) -> None:
    """With a webhook; the key stays the same when it is submitted again."""
    with scripted(problem(503, "overloaded", Retry_After="0"), job("waiting", webhook_secret="whsec_x")) as server:
        submitted = ask(server, "submit", READ, webhook="https://example.org/told")
        assert (submitted.id, submitted.state, submitted.webhook_secret) == ("a/b", "waiting", "whsec_x")
        assert not submitted.over
        assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
        assert b"https://example.org/told" in server.asked[1].body
    with scripted(job("cancelled")) as server:
        assert ask(server, "cancel", submitted).over
        assert ask(server, "job", "a/b").state == "cancelled"
        assert [asked.method for asked in server.asked] == ["DELETE", "GET"]
    listed = Said(body=b'{"jobs": [' + job("done").body + b"]}")
    with scripted(listed) as server:
        assert [one.state for one in ask(server, "jobs")] == ["done"]


def test_batches_are_as_large_as_a_service_takes() -> None:
    """By number and by size, and none is empty."""
    small, large = Document("s", b"."), Document("l", bytes(BYTES_AT_ONCE // 2 + 1))
    assert batches([]) == []
    assert batches([small] * 70) == [range(32), range(32, 64), range(64, 70)]
    assert batches([large, large, small]) == [range(1), range(1, 3)]


def test_options_and_key_are_sent(ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is as by default is left for the service to decide."""
    monkeypatch.setenv("OCR_OPS_API_KEY", "secret")
    with scripted(READING) as server:
        ask(server, "read", Document("päge.png", READ), ReadOptions(pages="1-3", upscale=True, orientation=False))
        (asked,) = server.asked
        assert asked.headers["Authorization"] == "Bearer secret"
        for name, value in (("pages", "1-3"), ("upscale", "true"), ("orientation", "false"), ("output", "json")):
            assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in asked.body
        assert b'name="contrast"' not in asked.body
        assert READ in asked.body


@pytest.mark.parametrize(
    ("given", "kept", "sent"),
    [
        (None, "", None),
        ("", " \n", None),
        (None, "secret\n", "Bearer secret"),
        ("", "secret", "Bearer secret"),
        (" mine\r\n", "secret", "Bearer mine"),
    ],
)
def test_an_empty_key_is_none_and_white_space_is_no_part_of_one(
    monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str, sent: str | None
) -> None:
    """As files and unset variables of a container leave them."""
    monkeypatch.setenv("OCR_OPS_API_KEY", kept)
    with scripted(READING) as server, Client(server.url, given) as client:
        client.read(READ)
        assert server.asked[0].headers.get("Authorization") == sent


@pytest.mark.parametrize("key", ["sécret", "sec\nret", "sec\x1bret", "sec\udce4ret", "sec\x7fret"])
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_what_no_key_can_be_is_told_without_it(
    monkeypatch: pytest.MonkeyPatch, client: type[Client | AsyncClient], key: str
) -> None:
    """Before anything is sent."""
    monkeypatch.setenv("OCR_OPS_API_KEY", key)
    for given, subject in ((key, "key"), (None, "OCR_OPS_API_KEY")):
        with pytest.raises(errors.UsageError, match=f"^{subject}: .*printable ASCII") as caught:
            client("http://localhost:3000", given)
        assert "ret" not in str(caught.value)


def test_what_cannot_be_written_as_http_is_told_once_and_without_its_headers() -> None:
    """One of them is the key."""
    with scripted(READING) as server, Client(server.url, "secret", retry=QUICK) as client:
        tried: list[object] = []
        client._http.headers["X-Odd"] = "secret\nmore"
        client._http.event_hooks = {"request": [tried.append]}
        for ask in (client.ready, lambda: client.read(READ)):
            with pytest.raises(errors.UsageError, match="cannot be written as HTTP") as caught:
                ask()
            assert "secret" not in str(caught.value)
        assert len(tried) == 2
        assert not server.asked
        assert "secret" not in repr(client._settings)


def test_sources_are_paths_bytes_and_files(tmp_path: Path) -> None:
    """Each with the name a service is to call it."""
    path = tmp_path / "page.png"
    path.write_bytes(READ)
    assert document(path) == document(str(path)) == Document("page.png", READ)
    assert document(READ) == Document("document", READ)
    with path.open("rb") as file:
        assert document(file) == Document("page.png", READ)
    odd = tmp_path / "p\udce4ge.png"
    odd.write_bytes(READ)
    assert document(odd) == Document("p\ufffdge.png", READ)
    with odd.open("rb") as file:
        assert document(file) == Document("p\ufffdge.png", READ)
    for missing in (tmp_path / "none.png", tmp_path, tmp_path / "n\udce4ne.png"):
        with pytest.raises(errors.UnreadableDocument, match="a readable file") as caught:
            document(missing)
        assert str(caught.value).isprintable()


def test_the_client_needs_nothing_that_serves() -> None:
    """Nor numpy, nor the workbench."""
    poisoned = ("bentoml", "onnxruntime", "numpy", "cv2", "PIL", "pypdfium2", "starlette", "mlflow", "torch", "click")
    code = f"import sys; sys.modules.update(dict.fromkeys({poisoned!r})); import ocr_ops.client"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
