"""The same asked again under a key: one place in this process, one in a file, one in Redis, and the service as it is
called.
"""

import asyncio
import io
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from bentos.api import idempotency
from bentos.api.form import Asked, Document
from bentos.api.idempotency import HEADER, REPLAYED, Beside, Here, Idempotency, There
from bentos.api.problems import Refusal
from bentos.auth import Caller
from bentos.sealed import KEY_BYTES, Sealer
from bentos.store import Store
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.serving import ServingSettings, settings_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, serve
from tests.bentos.conftest import ROOT
from tests.redis_server import RedisServer, redis_running
from tests.tiny import build_release, draw

SEALER = Sealer(os.urandom(KEY_BYTES), "test")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["here", "file", "file that is away", "redis", "redis that is away"])
def run(request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path: Path) -> Callable[..., None]:
    """Runs a coroutine function with each place there is."""

    def runner(work: Callable[[Idempotency], Awaitable[None]]) -> None:
        async def inside() -> None:
            if request.param == "here":
                await work(Idempotency(Here(), SEALER))
                return
            if request.param.startswith("file"):
                (tmp_path / "plain").write_text("no folder")
                folder = tmp_path / ("plain" if request.param == "file that is away" else "idempotency")
                await work(Idempotency(Beside(folder / "answers.db", Here()), SEALER))
                return
            url = redis_server.url if request.param == "redis" else "redis://127.0.0.1:1/0"
            store = Store(url, prefix=os.urandom(4).hex())
            try:
                await work(Idempotency(There(store, Here()), SEALER))
            finally:
                await store.close()

        asyncio.run(inside())

    return runner


def asking(key: str | None, caller: str = "ann", path: str = "/v1/ocr") -> Request:
    headers = [] if key is None else [(HEADER.lower().encode(), key.encode("latin-1"))]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "query_string": b"",
        "server": ("x", 1),
    }
    return Request({**scope, "state": {"caller": Caller(caller, frozenset())}})


def asked(data: bytes = b"a", **options: object) -> Asked:
    return Asked((Document("a.png", data),), ReadOptions(**options), "json")


class Counting:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> Response:
        self.count += 1
        return Response(f"answer {self.count}", 200, media_type="text/plain")


async def once(
    idempotency: Idempotency, answer: Callable[[], Awaitable[Response]], request: Request, what: Asked
) -> tuple[bytes, str | None]:
    made = await idempotency.once(request, what, answer)
    return bytes(made.body), made.headers.get(REPLAYED)


def test_the_same_is_answered_as_the_first_time(run: Callable[..., None]) -> None:
    """By caller, path and key; without a key each is its own."""

    async def work(idempotency: Idempotency) -> None:
        answer = Counting()
        first, again = asking("k"), asking('"k"')  # a structured string names the same
        assert await once(idempotency, answer, first, asked()) == (b"answer 1", None)
        assert await once(idempotency, answer, again, asked()) == (b"answer 1", "true")
        made = await idempotency.once(asking("k"), asked(), answer)
        assert (made.status_code, made.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        assert await once(idempotency, answer, asking("k", caller="bob"), asked(b"b")) == (b"answer 2", None)
        assert await once(idempotency, answer, asking("k", path="/v1/ocr/batch"), asked()) == (b"answer 3", None)
        assert await once(idempotency, answer, asking(None), asked()) == (b"answer 4", None)

    run(work)


def test_another_request_under_the_same_key_is_refused(run: Callable[..., None]) -> None:
    async def work(idempotency: Idempotency) -> None:
        answer = Counting()
        await once(idempotency, answer, asking("k"), asked())
        others = [asked(b"b"), asked(deskew=False), Asked(asked().documents, ReadOptions(), "text")]
        others.append(Asked((Document("b.png", b"a"),), ReadOptions(), "json"))
        for other in others:
            with pytest.raises(Refusal) as refused:
                await once(idempotency, answer, asking("k"), other)
            assert (refused.value.status, refused.value.kind) == (422, "idempotency-conflict")
        assert answer.count == 1

    run(work)


def test_while_the_first_is_answered_the_second_is_told_to_wait(run: Callable[..., None]) -> None:
    async def work(idempotency: Idempotency) -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slow() -> Response:
            begun.set()
            await go.wait()
            return Response("slow", media_type="text/plain")

        first = asyncio.create_task(once(idempotency, slow, asking("k"), asked()))
        await begun.wait()
        answer = Counting()
        with pytest.raises(Refusal) as refused:
            await once(idempotency, answer, asking("k"), asked())
        assert (refused.value.status, refused.value.headers) == (409, {"Retry-After": "1"})
        go.set()
        assert await first == (b"slow", None)
        assert await once(idempotency, answer, asking("k"), asked()) == (b"slow", "true")

    run(work)


def test_what_failed_may_be_sent_again_corrected(run: Callable[..., None]) -> None:
    """Also what its caller did not wait for."""

    async def work(idempotency: Idempotency) -> None:
        async def broken() -> Response:
            raise Refusal("a", "torn", "whole", "again", 422, "unreadable-document")

        begun = asyncio.Event()

        async def endless() -> Response:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        with pytest.raises(Refusal, match="torn"):
            await once(idempotency, broken, asking("k"), asked())
        left = asyncio.create_task(once(idempotency, endless, asking("k"), asked(b"b")))
        await begun.wait()
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert await once(idempotency, Counting(), asking("k"), asked(b"c")) == (b"answer 1", None)

    run(work)


def test_a_key_is_held_as_long_as_it_is_answered(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what it was claimed for; what it was answered with is not touched."""
    monkeypatch.setattr(idempotency, "BEAT", 0.01)

    async def work(idempotency: Idempotency) -> None:
        place, held = idempotency.place, asyncio.Event()

        class Watched:
            async def hold(self, name: str, value: bytes, seconds: float) -> None:
                await place.hold(name, value, seconds)
                held.set()

            def __getattr__(self, name: str) -> Any:
                return getattr(place, name)

        idempotency.place = Watched()  # type: ignore[assignment]

        async def slow() -> Response:
            await held.wait()
            return Response("slow", media_type="text/plain")

        assert await once(idempotency, slow, asking("k"), asked()) == (b"slow", None)
        for name in ("m", "n"):
            assert await place.claim(name, b"mark", 60) is None
        await place.hold("m", b"mark", -1)
        await place.hold("n", b"answer", -1)
        assert await place.claim("m", b"again", 60) is None, "it is for as long as it was said last"
        assert await place.claim("n", b"again", 60) == b"mark"

    run(work)


@pytest.mark.parametrize("where", ["file", "redis"])
def test_a_process_that_dies_while_it_answers_holds_its_key_no_longer(
    where: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Not until the deadline of what it was asked."""
    place = f"Beside(Path({str(tmp_path / 'answers.db')!r}), Here())"
    if where == "redis":
        place = f"There(Store({redis_server.url!r}, prefix='dies', seconds=10), Here())"
    dying = f"""
import asyncio, os, signal
from pathlib import Path
from bentos.api import idempotency
from bentos.api.idempotency import Beside, Here, Idempotency, There
from bentos.sealed import Sealer
from bentos.store import Store
from tests.bentos.api.test_idempotency import asked, asking, once

async def dies():
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    await once(Idempotency({place}, Sealer(bytes(32), "test")), dies, asking("k"), asked())

idempotency.LEASE = 1.0
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", dying], cwd=ROOT, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL

    async def work() -> None:
        stores = [Store(redis_server.url, prefix="dies", seconds=10)] if where == "redis" else []
        kept = There(stores[0], Here()) if stores else Beside(tmp_path / "answers.db", Here())
        alive, answer = Idempotency(kept, Sealer(bytes(32), "test")), Counting()
        async with asyncio.timeout(30):
            while not answer.count:
                try:
                    assert await once(alive, answer, asking("k"), asked()) == (b"answer 1", None)
                except Refusal:
                    await asyncio.sleep(0.05)
        for store in stores:
            await store.close()

    asyncio.run(work())


def test_a_process_keeps_so_many_bytes_and_forgets_in_time() -> None:
    async def work() -> None:
        place = Here(most=5000)
        for number in range(100):
            assert await place.claim(f"{number}", bytes(100), 60) is None
        assert place.held <= 5000
        assert await place.claim("99", b"", 60) == bytes(100)
        assert await place.claim("0", b"again", 60) is None
        await place.put("x", b"v", -1)
        assert await place.claim("x", b"w", 60) is None

    asyncio.run(work())


def test_a_file_keeps_so_many_bytes_and_forgets_in_time(tmp_path: Path) -> None:
    """As a process does; of one answer a quarter of them."""
    path = tmp_path / "answers.db"

    def held() -> list[tuple[str, int]]:
        with closing(sqlite3.connect(path)) as database:
            return database.execute("SELECT name, length(value) FROM answers ORDER BY number").fetchall()

    async def work() -> None:
        place = Beside(path, Here(), most=5000)
        for number in range(100):
            assert await place.claim(f"{number}", bytes(100), 60) is None
        assert held() == [(f"{number}", 100) for number in range(88, 100)]
        assert await place.claim("99", b"", 60) == bytes(100)
        assert await place.claim("0", b"again", 60) is None
        await place.put("99", bytes(1250), 60)
        assert await place.claim("99", b"", 60) == bytes(1250)
        await place.put("99", bytes(1251), 60)
        assert await place.claim("99", b"free", 60) is None
        await place.put("x", b"v", -1)
        assert await place.claim("x", b"w", 60) is None
        await place.put("y", b"v", -1)
        await place.put("z", b"v", 60)
        assert "y" not in dict(held())

    asyncio.run(work())


def test_the_workers_of_a_machine_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For this user alone, which holds nothing that tells; what is answered by one is known to all, also while it is
    being answered.
    """
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path))

    async def work() -> None:
        first, second = (Idempotency.over(None, 2) for _ in range(2))
        begun, go = asyncio.Event(), asyncio.Event()
        answer = Counting()

        async def slow() -> Response:
            begun.set()
            await go.wait()
            return await answer()

        going = asyncio.create_task(once(first, slow, asking("invoice-7"), asked(b"secret")))
        await begun.wait()
        with pytest.raises(Refusal) as refused:
            await once(second, answer, asking("invoice-7"), asked(b"secret"))
        assert refused.value.status == 409
        go.set()
        assert await going == (b"answer 1", None)
        for one in (first, second, Idempotency.over(None, 2)):
            assert await once(one, answer, asking("invoice-7"), asked(b"secret")) == (b"answer 1", "true")
        with pytest.raises(Refusal) as refused:
            await once(second, answer, asking("invoice-7"), asked(b"another"))
        assert refused.value.kind == "idempotency-conflict"

    asyncio.run(work())
    folder = tmp_path / "idempotency"
    assert folder.stat().st_mode & 0o777 == 0o700
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"answers" in written
    assert all(word not in written for word in (b"invoice", b"secret", b"answer 1", b"ann"))


def test_a_worker_alone_writes_nothing_to_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path))
    asyncio.run(_some(Idempotency.over(None)))
    assert list(tmp_path.iterdir()) == []


async def _some(idempotency: Idempotency) -> None:
    await once(idempotency, Counting(), asking("k"), asked())


def test_redis_holds_nothing_that_tells(redis_server: RedisServer) -> None:
    """Neither keys nor documents nor answers."""

    async def work() -> None:
        store = Store(redis_server.url, prefix="tells")
        try:
            answer = Counting()
            await once(Idempotency(There(store, Here()), SEALER), answer, asking("invoice-7"), asked(b"secret"))
        finally:
            await store.close()
        with redis_server.client() as client:
            (name,) = client.keys("tells:*")
            held = name + client.get(name)
            assert 0 < client.ttl(name) <= 24 * 3600
        assert all(word not in held for word in (b"invoice", b"secret", b"answer", b"ann"))

    asyncio.run(work())


@given(st.text(st.characters(codec="latin-1"), max_size=300))
def test_any_header_is_a_key_or_refused(value: str) -> None:
    async def work() -> None:
        try:
            await once(Idempotency(Here(), SEALER), Counting(), asking(value), asked())
        except Refusal as refused:
            if refused.status != 422:
                raise

    asyncio.run(work())


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def png(*lines: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(lines)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_service_reads_once(client: httpx.Client) -> None:
    key = {HEADER: os.urandom(8).hex()}
    first, again = (client.post("/v1/ocr", files={"file": ("a.png", png("ab"))}, headers=key) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert (first.headers.get(REPLAYED), again.headers.get(REPLAYED)) == (None, "true")
    assert first.headers["content-type"] == again.headers["content-type"]
    other = client.post("/v1/ocr", files={"file": ("a.png", png("ba"))}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:ocr-ops:problem:idempotency-conflict")
    batch = [client.post("/v1/ocr/batch", files={"file": png("c")}, headers=key) for _ in range(2)]
    assert batch[0].content == batch[1].content
    assert batch[1].headers[REPLAYED] == "true"


def test_of_many_at_once_one_is_answered_and_the_others_may_ask_again(client: httpx.Client) -> None:
    key, data = {HEADER: os.urandom(8).hex()}, png(*["abc abc"] * 8)

    def post(_: int) -> httpx.Response:
        return client.post("/v1/ocr", files={"file": ("a.png", data)}, headers=key)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(post, range(4)))
    assert {answer.status_code for answer in found} <= {200, 409}
    assert len({answer.content for answer in found if answer.status_code == 200}) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in found if answer.status_code == 409)
    assert post(0).headers[REPLAYED] == "true"


def test_a_service_of_two_gateways_reads_once(tmp_path: Path) -> None:
    """Whichever of them is asked again: each request comes on a connection of its own, and both answer some."""
    workspace = Workspace(tmp_path / "home")
    release = build_release(workspace.champion)
    ServingSettings(gateway_workers=2).save(settings_file(workspace, release.digest))
    data, key = png("ab c"), {HEADER: "k", "Connection": "close"}
    with serve(ROOT, env={"OCR_OPS_HOME": str(workspace.home)}, log=tmp_path / "log") as server:

        def post() -> httpx.Response:
            return httpx.post(f"{server.url}/v1/ocr", files={"file": ("a.png", data)}, headers=key, timeout=60)

        words = [" ".join(child.cmdline()) for child in psutil.Process(server.pid).children(recursive=True)]
        assert sum("--service-name Gateway" in line or "_bentoml_impl.worker.service" in line for line in words) >= 2
        first = post()
        assert (first.status_code, first.headers.get(REPLAYED)) == (200, None)
        for _ in range(20):
            again = post()
            assert (again.status_code, again.headers.get(REPLAYED)) == (200, "true")
            assert again.content == first.content
