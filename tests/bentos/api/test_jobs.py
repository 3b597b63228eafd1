"""Jobs and cache of a real service: its own, with a cache and webhooks to this machine."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ocr_ops.core import metrics
from ocr_ops.core.reading import Reading
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, serve
from tests.bentos.engines import document
from tests.bentos.jobs.test_webhook import Receiver, verified
from tests.tiny import build_release

ROOT = Path(__file__).resolve().parents[3]
LINES = ["abc ab", "cab", "ba ac", "cc"]
DOCUMENT = document(*([line] for line in LINES))


def written(lines: list[str]) -> str:
    """As `output=text` has them, a page each."""
    return "\f".join(f"{line}\n" for line in lines)


TEXT = written(LINES)
SETTINGS = {"OCR_OPS_WEBHOOKS": "anywhere", "OCR_OPS_JOBS_EACH": "40", "OCR_OPS_JOB_PAGES": "200"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("jobs") / "home")
    build_release(workspace.champion)
    return workspace


@pytest.fixture(scope="module")
def own_server(home: Workspace) -> Iterator[Server]:
    with serve(ROOT, env={"OCR_OPS_HOME": str(home.home), **SETTINGS}, log=home.home / "log") as server:
        yield server


@pytest.fixture(scope="module")
def client(own_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=own_server.url, timeout=60) as client:
        yield client


def submit(client: httpx.Client, data: bytes = DOCUMENT, headers: dict[str, str] | None = None, **fields: str) -> Any:
    answer = client.post("/v1/jobs", files={"file": ("a.tif", data)}, data=fields, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()


def until(client: httpx.Client, job: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        answer = client.get(f"/v1/jobs/{job}")
        found: dict[str, Any] = answer.json()
        assert answer.status_code == 200, answer.text
        if condition(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def over(job: dict[str, Any]) -> bool:
    return job["state"] in ("done", "failed", "cancelled")


def test_a_job_from_submission_to_result(client: httpx.Client) -> None:
    """Polled, told by webhook, given in several outputs, and erased."""
    receiver = Receiver()
    with receiver.running() as url:
        job = submit(client, webhook=url, output="text")
        found = until(client, job["id"], lambda one: one.get("webhook") == "sent")
    assert (found["state"], found["name"]) == ("done", "a.tif")
    assert found["pages"] == {"done": 4, "total": 4}
    [(headers, body)] = receiver.got
    assert verified(headers, body, job["webhook_secret"])
    assert "webhook_secret" not in found
    place = f"/v1/jobs/{job['id']}"
    assert client.get(f"{place}/result").text == TEXT
    reading = Reading.model_validate_json(client.get(f"{place}/result", params={"output": "json"}).content)
    assert reading.text == "\f".join(LINES)
    assert client.get(f"{place}/result", params={"output": "pdf"}).content.startswith(b"%PDF-")
    assert client.get(f"{place}/result", params={"output": "tea"}).status_code == 422
    assert job["id"] in [one["id"] for one in client.get("/v1/jobs").json()["jobs"]]
    assert client.delete(place).status_code == 200
    assert client.get(place).status_code == client.get(f"{place}/result").status_code == 404


def test_what_is_wrong_with_a_document_is_told(client: httpx.Client) -> None:
    """As `/v1/ocr` would have: the job's problem, and its result's status."""
    job = submit(client, b"hello, world" * 9)
    found = until(client, job["id"], over)
    assert (found["state"], found["problem"]["status"]) == ("failed", 415)
    answer = client.get(f"/v1/jobs/{job['id']}/result")
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_job_may_be_larger_than_a_request(client: httpx.Client) -> None:
    """Sixty pages: too many to wait for. Only those asked for are read."""
    long = document(*([[line] for line in LINES] * 15))
    assert client.post("/v1/ocr", files={"file": ("a.tif", long)}).status_code == 413
    found = until(client, submit(client, long, pages="2-3,58-90")["id"], over)
    assert (found["state"], found["pages"]) == ("done", {"done": 5, "total": 5})


@pytest.mark.parametrize(
    ("fields", "headers", "status"),
    [
        ({"webhook": ""}, {}, 422),
        ({"webhook": "ftp://example.org"}, {}, 422),
        ({"webhook": "https://user:pass@example.org"}, {}, 422),
        ({"webhook": "https://a..b/"}, {}, 422),
        ({"webhook": "https://xn--a-/"}, {}, 422),
        ({"hook": "https://example.org"}, {}, 422),
        ({"pages": "3-1"}, {}, 422),
        ({}, {"Idempotency-Key": "x" * 300}, 422),
    ],
)
def test_what_cannot_be_asked(
    client: httpx.Client, fields: dict[str, str], headers: dict[str, str], status: int
) -> None:
    answer = client.post("/v1/jobs", files={"file": ("a.tif", DOCUMENT)}, data=fields, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_submitted_again_it_is_the_same_job(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "monday"}
    first = submit(client, headers=key)
    assert submit(client, headers=key)["id"] == first["id"]
    answer = client.post("/v1/jobs", files={"file": ("a.tif", DOCUMENT + b"\0")}, headers=key)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("idempotency-conflict")


def test_a_job_is_cancelled(client: httpx.Client) -> None:
    """Its result is then none."""
    jobs = [submit(client, document(*([[line] for line in LINES] * 10))) for _ in range(3)]
    place = f"/v1/jobs/{jobs[-1]['id']}"
    early = client.get(f"{place}/result")
    assert early.status_code == 409
    assert early.headers["retry-after"]
    assert client.delete(place).json()["state"] == "cancelled"
    assert client.get(place).json()["state"] == "cancelled"
    assert client.get(f"{place}/result").status_code == 409
    for job in jobs[:-1]:
        client.delete(f"/v1/jobs/{job['id']}")


def test_unknown_jobs_are_unknown(client: httpx.Client) -> None:
    for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
        assert client.request(method, f"/v1/jobs/nothing{path}").status_code == 404


def cache_count(client: httpx.Client, result: str) -> float:
    text = client.get("/metrics").text
    found = [line for line in text.splitlines() if line.startswith(f'{metrics.CACHE_ASKED}{{result="{result}"}}')]
    return float(found[0].split()[-1]) if found else 0.0


def test_answers_are_cached_unless_asked_otherwise(client: httpx.Client) -> None:
    """Whatever the output; and an administrator may have them forgotten."""
    data = document(["abc ab cab"], ["b"])

    def read(**headers: str) -> str:
        query = {"output": "text"}
        answer = client.post("/v1/ocr", files={"file": ("a.tif", data)}, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.text

    hits, bypasses = cache_count(client, "hit"), cache_count(client, "bypass")
    first = read()
    assert read() == first == read(**{"Cache-Control": "max-age=0, No-Store"}) == written(["abc ab cab", "b"])
    again = client.post("/v1/ocr", files={"file": ("b.tif", data)})
    assert Reading.model_validate_json(again.content).text == "abc ab cab\fb"
    assert (cache_count(client, "hit") - hits, cache_count(client, "bypass") - bypasses) == (2, 1)
    assert client.delete("/v1/cache").status_code == 204
    read()
    assert cache_count(client, "hit") - hits == 2


def test_a_killed_service_finishes_its_job_once_it_is_back(
    home: Workspace, own_server: Server, client: httpx.Client
) -> None:
    """`kill -9` of every process in the middle of a job: another server reads what is left, and no page twice."""
    job = submit(client, document(*([[line] for line in LINES] * 12)))["id"]
    before = until(client, job, lambda one: one["pages"]["done"] >= 3)
    kill(own_server)
    assert before["state"] == "running"
    env = {"OCR_OPS_HOME": str(home.home), **SETTINGS}
    with (
        serve(ROOT, env=env, log=home.home / "log2") as server,
        httpx.Client(base_url=server.url, timeout=60) as another,
    ):
        found = until(another, job, over)
        assert (found["state"], found["pages"]) == ("done", {"done": 48, "total": 48})
        assert another.get(f"/v1/jobs/{job}/result", params={"output": "text"}).text == written(LINES * 12)
        read = [line for line in another.get("/metrics").text.splitlines() if line.startswith(f"{metrics.PAGES}{{")]
        assert sum(float(line.split()[-1]) for line in read) <= 48 - before["pages"]["done"]


def kill(server: Server) -> None:
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    psutil.wait_procs(family, timeout=20)
