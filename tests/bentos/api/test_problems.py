import asyncio
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from bentos.api.problems import PICKLE, PROBLEM, Foreign, Problem, Problems, Refusal, answer_of, problem_of
from ocr_ops.core.errors import (
    BadInput,
    ModelAway,
    ModelFailed,
    OcrOpsError,
    Overloaded,
    TooLate,
    UnreadableDocument,
    UsageError,
)

PARTS = ("page.png", "torn", "a whole page", "scan it again")
REFUSAL = Refusal(*PARTS, 429, "rate-limited", {"Retry-After": "7"})


def told(app: Any, **scope: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what an app answers."""
    sent: list[Message] = []
    whole = {"type": "http", "method": "GET", "path": "/x", "headers": [], "state": {"request_id": "r1"}, **scope}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(whole, receive, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def failing(error: Exception, *, late: bool = False) -> Any:
    """An app that fails so, before or after its answer has begun."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if late:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return Problems(app)


@pytest.mark.parametrize(
    ("error", "status", "kind", "headers"),
    [
        (UnreadableDocument(*PARTS), 422, "unreadable-document", {}),
        (UnreadableDocument(*PARTS, 413), 413, "unreadable-document", {}),
        (UsageError(*PARTS), 422, "usage-error", {}),
        (BadInput(*PARTS), 422, "bad-input", {}),
        (TooLate(*PARTS), 504, "too-late", {}),
        (TooLate(*PARTS, 503), 503, "too-late", {"retry-after": "1"}),
        (ModelAway(*PARTS), 503, "model-away", {"retry-after": "1"}),
        (ModelFailed(*PARTS), 503, "model-away", {"retry-after": "1"}),
        (Overloaded(*PARTS, 4), 503, "overloaded", {"retry-after": "4"}),
        (REFUSAL, 429, "rate-limited", {"retry-after": "7"}),
    ],
)
def test_each_error_is_a_problem(error: OcrOpsError, status: int, kind: str, headers: dict[str, str]) -> None:
    found = told(failing(error))
    assert found[0] == status
    assert found[1]["content-type"] == PROBLEM
    assert headers.items() <= found[1].items()
    assert ("retry-after" in found[1]) == bool(headers)
    problem = Problem.model_validate_json(found[2])
    assert problem.type == f"urn:ocr-ops:problem:{kind}"
    assert (problem.subject, problem.detail, problem.expected, problem.remedy) == PARTS
    assert problem.instance == "urn:ocr-ops:request:r1"


def test_what_starlette_refuses_is_a_problem_with_its_headers() -> None:
    status, headers, body = told(failing(HTTPException(405, headers={"Allow": "GET"})))
    assert (status, headers["allow"]) == (405, "GET")
    assert json.loads(body)["type"].endswith(":method-not-allowed")


def test_a_fault_of_ours_tells_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = told(failing(RuntimeError("secret of /etc")))
    assert status == 500
    assert b"secret" not in body
    assert "r1" in json.loads(body)["instance"]


def test_an_answer_that_has_begun_is_cut_and_not_added_to() -> None:
    for error in (REFUSAL, RuntimeError("x")):
        with pytest.raises(type(error)):
            told(failing(error, late=True))


def test_a_client_who_left_is_told_once_for_whoever_waits_for_an_answer() -> None:
    state = {"request_id": "r1"}
    assert told(failing(ClientDisconnect()), state=state)[0] == 400
    assert state["left"]


def test_what_is_not_ours_fails_as_we_do() -> None:
    assert told(Foreign(PlainTextResponse("fine")))[2] == b"fine"
    status, headers, body = told(Foreign(PlainTextResponse("Traceback", 500)))
    assert (status, headers["content-type"]) == (500, PROBLEM)
    assert b"Traceback" not in body
    status, headers, _ = told(Foreign(PlainTextResponse("no", 405, {"allow": "POST"})))
    assert (status, headers["allow"]) == (405, "POST")


def test_what_is_not_ours_is_sent_no_pickle() -> None:
    with pytest.raises(Refusal) as refused:
        told(Foreign(PlainTextResponse("ran it")), headers=[(b"content-type", PICKLE.encode())])
    assert refused.value.status == 415


def test_refusals_cross_processes() -> None:
    again = pickle.loads(pickle.dumps(REFUSAL))  # noqa: S301  our own
    assert (again.status, again.kind, again.headers, str(again)) == (429, "rate-limited", REFUSAL.headers, str(REFUSAL))


@given(st.text(), st.text())
def test_any_text_of_a_client_is_told_as_json(subject: str, found: str) -> None:
    error = Refusal(subject, found, "another", "correct it", 422, "invalid-option")
    body = json.loads(bytes(answer_of(error, "r").body))
    assert (body["subject"], body["detail"]) == (subject, found)
    assert problem_of(error).instance is None
