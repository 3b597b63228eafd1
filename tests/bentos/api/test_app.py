"""What every call has in common, on a real service: ids, logs, metrics, methods, problems."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bentos.api.about import About, Models
from bentos.api.app import OPERATIONS
from bentos.api.examples import EXAMPLES
from bentos.api.openapi import document, limited
from bentos.api.problems import PROBLEM
from ocr_ops import __version__
from ocr_ops.core.record import Told
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server

DOCUMENT = document(OPERATIONS)
PATHS = sorted({operation.path for operation in OPERATIONS})


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def logged(served: tuple[Workspace, Release], request: str) -> dict[str, Any]:
    """The line of the access log about a request."""
    start = time.monotonic()
    while time.monotonic() - start < 20:
        for line in (served[0].home / "server.log").read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and f'"{request}"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
    pytest.fail(f"no line about {request}")


def test_a_sane_request_id_is_kept_and_another_is_replaced(client: httpx.Client) -> None:
    assert client.get("/v1/about", headers={"x-request-id": "job-7/page.3"}).headers["x-request-id"] == "job-7/page.3"
    for bad in ("", "a b", "x" * 129, "<script>", "-"):
        made = client.get("/v1/about", headers={"x-request-id": bad}).headers["x-request-id"]
        assert uuid.UUID(made).hex == made


def test_a_request_is_one_line_of_the_log_without_what_it_said(
    client: httpx.Client, served: tuple[Workspace, Release]
) -> None:
    """Neither the name of its file nor its query: both may tell of people."""
    name = uuid.uuid4().hex
    answer = client.post(
        "/v1/ocr?pages=7", files={"file": ("Jane Doe, HIV.png", b"secret")}, headers={"x-request-id": name}
    )
    assert answer.status_code == 415
    line = logged(served, name)
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/ocr", 415)
    assert (line["documents"], line["output"]) == (1, "json")
    assert line["received"] > 0
    assert line["sent"] == len(answer.content)
    log = (served[0].home / "server.log").read_text(encoding="utf-8")
    assert "Jane" not in log
    assert "secret" not in log
    assert "pages=7" not in log


def test_probes_that_succeed_are_not_logged(client: httpx.Client, served: tuple[Workspace, Release]) -> None:
    client.get("/livez", headers={"x-request-id": "quiet-probe"})
    client.get("/v1/about", headers={"x-request-id": "loud-call"})
    assert logged(served, "loud-call")["status"] == 200
    assert "quiet-probe" not in (served[0].home / "server.log").read_text(encoding="utf-8")


def test_requests_are_counted_by_route_whatever_strangers_ask(client: httpx.Client) -> None:
    client.get("/v1/about")
    client.get("/wp-login.php")
    client.request("BREW", "/v1/about")
    found = client.get("/metrics").text
    assert 'ocr_http_requests_total{method="GET",route="/v1/about",status="200"}' in found
    assert 'ocr_http_requests_total{method="GET",route="other",status="404"}' in found
    assert 'ocr_http_requests_total{method="other",route="/v1/about",status="405"}' in found
    assert 'ocr_http_request_duration_seconds_bucket{le="0.5",route="/v1/about"}' in found
    assert "wp-login" not in found


@pytest.mark.parametrize("path", PATHS)
def test_each_path_tells_its_methods(client: httpx.Client, path: str) -> None:
    """OPTIONS lists them, HEAD is GET without a body, others are 405 with the list."""
    url = path.replace("{", "").replace("}", "")
    allow = client.options(url).headers["allow"].split(", ")
    ours = {operation.method for operation in OPERATIONS if operation.path == path}
    assert set(allow) == {*ours, "OPTIONS"} | ({"HEAD"} if "GET" in ours else set())
    refused = client.patch(url)
    assert (refused.status_code, refused.headers["allow"]) == (405, ", ".join(allow))
    assert refused.headers["content-type"] == PROBLEM
    if "GET" in ours and "{" not in path:
        head, whole = client.head(url), client.get(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]


def test_the_service_tells_what_it_is(client: httpx.Client, served: tuple[Workspace, Release]) -> None:
    about = About.model_validate_json(client.get("/v1/about").content)
    assert (about.version, about.release) == (__version__, served[1].digest)
    assert about.limits.document_bytes == 20 * 2**20
    assert about.limits.in_flight == 4
    assert set(about.options["properties"]) >= {"pages", "language", "deskew"}
    models = Models.model_validate_json(client.get("/v1/models").content)
    assert models.release == served[1].digest
    detection, recognition = models.models
    assert (detection.digest, recognition.digest) == (served[1].detection.digest, served[1].recognition.digest)
    assert (recognition.characters, recognition.languages, recognition.provider) == (4, (), "CPUExecutionProvider")
    assert detection.characters is None


def test_the_document_is_served_as_it_is_made(client: httpx.Client) -> None:
    """But for the languages, of which the release can write none."""
    assert client.get("/openapi.json").json() == client.get("/docs.json").json() == limited(DOCUMENT, ())


def test_the_languages_told_are_those_of_the_release() -> None:
    def told(languages: tuple[str, ...]) -> list[dict[str, Any]]:
        read = limited(DOCUMENT, languages)["paths"]["/v1/ocr"]["post"]
        form = read["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
        query = {one["name"]: one["schema"] for one in read["parameters"]}
        return [fields["language"] for fields in (form, query) if "language" in fields]

    assert told(()) == []
    for schema in told(("de", "sr-Latn")):
        taken = [tag for tag in ("de", "de-AT", "sr-Latn", "sr", "fr", "den") if re.search(schema["pattern"], tag)]
        assert taken == ["de", "de-AT", "sr-Latn"]
        assert schema["examples"] == ["de"]
    assert len(told(("fr",))) == 2


def test_the_document_tells_all_operations() -> None:
    told = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert told == {(operation.method, operation.path) for operation in OPERATIONS if operation.told}
    names = [call["operationId"] for methods in DOCUMENT["paths"].values() for call in methods.values()]
    assert len(names) == len(set(names))


def test_every_model_tells_what_its_fields_are() -> None:
    """What is no `Told` would lose the words under its fields."""
    assert DOCUMENT["components"]["schemas"].keys() <= {kind.__name__ for kind in Told.__subclasses__()}


def test_examples_are_of_their_schemas() -> None:
    """As JSON they come back to what they were."""
    for kind, example in EXAMPLES.items():
        (shown,) = DOCUMENT["components"]["schemas"][kind.__name__]["examples"]
        assert kind.model_validate(shown) == example


def test_every_reference_leads_somewhere() -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "$ref":
                    yield value
                else:
                    yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(DOCUMENT))
    assert "#/components/schemas/Page" in found
    for reference in found:
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_log_holds_no_traceback(client: httpx.Client, served: tuple[Workspace, Release]) -> None:
    assert client.get("/livez").status_code == 200
    assert "Traceback" not in (served[0].home / "server.log").read_text(encoding="utf-8")
