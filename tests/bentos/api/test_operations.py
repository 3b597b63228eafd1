import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from bentos.api.operations import Dispatch, Match, Operation, Table
from bentos.api.problems import Refusal
from tests.bentos.api.test_problems import told


async def handler(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {request.state.match.parameters}")


def operation(method: str, path: str) -> Operation:
    return Operation(method, path, handler, "", None, {})  # type: ignore[arg-type]


TABLE = Table([operation("POST", "/v1/jobs"), operation("GET", "/v1/jobs"), operation("GET", "/v1/jobs/{id}")])


@pytest.mark.parametrize(
    ("method", "path", "template", "found", "allow"),
    [
        ("GET", "/v1/jobs", "/v1/jobs", True, "GET, HEAD, OPTIONS, POST"),
        ("HEAD", "/v1/jobs", "/v1/jobs", True, "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/v1/jobs", "/v1/jobs", False, "GET, HEAD, OPTIONS, POST"),
        ("GET", "/v1/jobs/a1", "/v1/jobs/{id}", True, "GET, HEAD, OPTIONS"),
        ("GET", "/v1/jobs/a/1", None, False, None),
        ("GET", "/v1/jobs/", None, False, None),
        ("GET", "/v1/JOBS", None, False, None),
        ("GET", "/v1/jobs\n", None, False, None),
        ("GET", "/v1/jobs/a1\n", None, False, None),
        ("GET", "/v1/jobs/a\x7f1", None, False, None),
    ],
)
def test_a_request_matches_a_path_and_its_methods(
    method: str, path: str, template: str | None, found: bool, allow: str | None
) -> None:
    match = TABLE.match(method, path)
    assert (match.path, match.operation is not None, match.allow) == (template, found, allow)


def test_the_operation_answers_and_the_rest_is_others() -> None:
    app = Dispatch(PlainTextResponse("others"))

    def body(method: str, path: str) -> bytes:
        state = {"match": TABLE.match(method, path)}
        return told(app, method=method, path=path, state=state)[2]

    assert body("GET", "/v1/jobs/a1") == b"GET {'id': 'a1'}"
    assert body("GET", "/elsewhere") == b"others"
    assert body("OPTIONS", "/v1/jobs") == b""
    with pytest.raises(Refusal) as refused:
        body("PUT", "/v1/jobs")
    assert (refused.value.status, refused.value.headers) == (405, {"Allow": "GET, HEAD, OPTIONS, POST"})


def test_a_path_with_a_control_character_is_nobodys() -> None:
    """BentoML's routes take one with a line feed at its end, too."""
    for path in ("/livez\n", "/v1/jobs\n", "/\x00", "/a\x85"):
        with pytest.raises(HTTPException) as refused:
            told(Dispatch(PlainTextResponse("others")), path=path, state={"match": TABLE.match("GET", path)})
        assert refused.value.status_code == 404


def test_nothing_matched_is_nothing_allowed() -> None:
    assert Match() == TABLE.match("GET", "/")
