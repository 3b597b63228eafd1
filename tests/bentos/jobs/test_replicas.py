"""Jobs of two real servers that share one real Redis: had from either, and finished by whoever is left."""

import io
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from bentos.jobs.runner import HEARTBEAT, LEASE
from ocr_ops.core import metrics
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, serve
from tests.bentos.api.test_jobs import DOCUMENT, LINES, TEXT, kill, over, submit, until, written
from tests.bentos.jobs.test_webhook import Receiver, verified
from tests.redis_server import redis_running
from tests.tiny import build_release, draw

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
LONG = 100
"""Pages, in the middle of which a server goes."""


@dataclass
class Replica:
    """A server, and somebody who calls it."""

    server: Server
    client: httpx.Client

    @property
    def pages(self) -> float:
        """Read by it since it started."""
        told = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in told if line.startswith(f"{metrics.PAGES}{{"))


@dataclass
class Replicas:
    """As many servers as are asked for, each on a machine of its own but for the Redis."""

    folder: Path
    redis: str
    stack: ExitStack
    up: list[Replica] = field(default_factory=list)
    begun: int = 0

    def two(self) -> tuple[Replica, Replica]:
        """Those that are up, and others in the place of those that went."""
        while len(self.up) < 2:
            self.begun += 1
            workspace = Workspace(self.folder / str(self.begun))
            build_release(workspace.champion)
            env = {
                "OCR_OPS_HOME": str(workspace.home),
                "OCR_OPS_REDIS_URL": self.redis,
                "OCR_OPS_CACHE_KEY": "0f" * 32,
                "OCR_OPS_WEBHOOKS": "anywhere",
            }
            server = self.stack.enter_context(serve(ROOT, env=env, log=workspace.home / "log"))
            client = self.stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
            self.up.append(Replica(server, client))
        return self.up[0], self.up[1]

    def reader_and_other(self, job: str) -> tuple[Replica, Replica]:
        """Who is in the middle of a job that is the only one, and who is not; the former is counted no more."""
        one, other = self.two()
        before = one.pages, other.pages
        until(other.client, job, lambda found: found["pages"]["done"] >= 3)
        if one.pages - before[0] < other.pages - before[1]:
            one, other = other, one
        self.up.remove(one)
        return one, other


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    with redis_running(folder / "redis") as redis, ExitStack() as stack:
        yield Replicas(folder, redis.url, stack)


@pytest.fixture(scope="module")
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture(scope="module")
def hook(receiver: Receiver) -> Iterator[str]:
    with receiver.running() as url:
        yield url


def long_document() -> bytes:
    """A page a line, compressed: a hundred bitmaps are more than may be submitted."""
    pages = [Image.fromarray(draw([LINES[number % len(LINES)]])) for number in range(LONG)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_deflate")
    return buffer.getvalue()


def told_of(receiver: Receiver, job: str) -> list[tuple[dict[str, str], bytes]]:
    return [(headers, body) for headers, body in receiver.got if headers["webhook-id"] == job]


def test_a_job_submitted_at_one_server_is_had_from_the_other(replicas: Replicas, receiver: Receiver, hook: str) -> None:
    """Polled, listed, known by its key, its result, its webhook, and gone for both once it is erased at one."""
    here, there = replicas.two()
    key = {"Idempotency-Key": "monday"}
    job = submit(here.client, headers=key, webhook=hook)
    place = f"/v1/jobs/{job['id']}"
    found = until(there.client, job["id"], lambda one: one.get("webhook") == "sent")
    assert (found["state"], found["pages"]) == ("done", {"done": 4, "total": 4})
    assert there.client.get(f"{place}/result", params={"output": "text"}).text == TEXT
    assert submit(there.client, DOCUMENT, key, webhook=hook)["id"] == job["id"]
    assert [one["id"] for one in there.client.get("/v1/jobs").json()["jobs"]] == [job["id"]]
    [(headers, body)] = told_of(receiver, job["id"])
    assert verified(headers, body, job["webhook_secret"])
    assert here.pages + there.pages == 4
    assert there.client.delete(place).status_code == 200
    assert here.client.get(place).status_code == 404


def test_a_server_told_to_end_leaves_its_job_to_the_other(replicas: Replicas, receiver: Receiver, hook: str) -> None:
    """SIGTERM in the middle of a job: the other goes on with it at once, where it was, and no page is read twice."""
    _, other = replicas.two()
    job = submit(other.client, long_document(), webhook=hook)["id"]
    reader, other = replicas.reader_and_other(job)
    before = other.pages
    os.kill(reader.server.pid, signal.SIGTERM)
    start = time.monotonic()
    until(other.client, job, lambda _found: other.pages > before)
    assert time.monotonic() - start < LEASE - HEARTBEAT
    finished(other, job)
    assert other.pages - before < LONG
    psutil.Process(reader.server.pid).wait(60)
    assert len(told_of(receiver, job)) == 1


def test_the_job_of_a_server_that_is_killed_is_finished_by_the_other(
    replicas: Replicas, receiver: Receiver, hook: str
) -> None:
    """`kill -9` in the middle of a job: the other waits for the lease to run out, and reads what is left."""
    here, _ = replicas.two()
    job = submit(here.client, long_document(), webhook=hook)
    reader, other = replicas.reader_and_other(job["id"])
    before = other.pages
    kill(reader.server)
    kept = other.client.get(f"/v1/jobs/{job['id']}").json()
    assert kept["state"] == "running"
    finished(other, job["id"])
    assert other.pages - before == LONG - kept["pages"]["done"]
    [(headers, body)] = told_of(receiver, job["id"])
    assert verified(headers, body, job["webhook_secret"])


def finished(server: Replica, job: str) -> None:
    """It is done, told of, and read to the letter."""
    found = until(server.client, job, lambda one: over(one) and one.get("webhook") == "sent")
    assert (found["state"], found["pages"]) == ("done", {"done": LONG, "total": LONG})
    answer = server.client.get(f"/v1/jobs/{job}/result", params={"output": "text"})
    assert answer.text == written([LINES[number % len(LINES)] for number in range(LONG)])
