"""The same asked again under a key: one place in this process, one in Redis, and the service as it is called."""

import asyncio
import io
import os
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from bentos.api.form import Asked, Document
from bentos.api.idempotency import HEADER, REPLAYED, Here, Idempotency, There
from bentos.api.problems import Refusal
from bentos.auth import Caller
from bentos.deadline import Deadline
from bentos.sealed import KEY_BYTES, Sealer
from bentos.store import Store
from ocr_ops.core.options import ReadOptions
from ocr_ops.release.server import Server
from tests.redis_server import RedisServer, redis_running
from tests.tiny import draw

SEALER = Sealer(os.urandom(KEY_BYTES), "test")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["here", "redis", "redis that is away"])
def run(request: pytest.FixtureRequest, redis_server: RedisServer) -> Callable[..., None]:
    """Runs a coroutine function with each place there is."""

    def runner(work: Callable[[Idempotency], Awaitable[None]]) -> None:
        async def inside() -> None:
            if request.param == "here":
                await work(Idempotency(Here(), SEALER))
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
    made = await idempotency.once(request, what, Deadline.after(30), answer)
    return bytes(made.body), made.headers.get(REPLAYED)


def test_the_same_is_answered_as_the_first_time(run: Callable[..., None]) -> None:
    """By caller, path and key; without a key each is its own."""

    async def work(idempotency: Idempotency) -> None:
        answer = Counting()
        first, again = asking("k"), asking('"k"')  # a structured string names the same
        assert await once(idempotency, answer, first, asked()) == (b"answer 1", None)
        assert await once(idempotency, answer, again, asked()) == (b"answer 1", "true")
        made = await idempotency.once(asking("k"), asked(), Deadline.after(30), answer)
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
