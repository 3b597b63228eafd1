"""No call is lost on the hop, beside the gateway or over the network, and nobody else gets in."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from bentos.deadline import HEADER, Deadline
from bentos.hop import Hop
from bentos.lending import LARGE
from bentos.packing import MEDIA_TYPE, pack
from ocr_ops.core.errors import ModelAway, ModelFailed, ServerDied, TooLate
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, readiness, serve
from tests.held import Held

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-the-hop"
BODY = pack([np.zeros((1, 7), np.uint8)])


@contextmanager
def _echo(service: str, folder: Path, served: Workspace, **env: str) -> Iterator[Server]:
    settings = {"PYTHONPATH": str(ROOT), "OCR_OPS_HOME": str(served.home), **env}
    with serve(f"tests.bentos.echo:{service}", env=settings, log=folder / f"{service}.log") as server:
        yield server


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, served: tuple[Workspace, Release]) -> Iterator[Server]:
    """Both services in one process group, as in BentoML's images: there BentoML itself would replace no worker."""
    with _echo("Outer", tmp_path_factory.mktemp("together"), served[0], BENTOML_CONTAINERIZED="true") as server:
        yield server


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory, served: tuple[Workspace, Release]) -> Iterator[Server]:
    """The inner service as a deployment of its own."""
    with _echo("Inner", tmp_path_factory.mktemp("inner"), served[0], OCR_OPS_HOP_KEY=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def apart(
    tmp_path_factory: pytest.TempPathFactory, served: tuple[Workspace, Release], inner: Server
) -> Iterator[Server]:
    """The gateway as a deployment of its own, and the inner service another."""
    folder = tmp_path_factory.mktemp("apart")
    with _echo("Outer", folder, served[0], OCR_OPS_HOP_KEY=KEY, ECHO_URL=inner.url) as server:
        yield server


@pytest.fixture(params=["together", "apart"])
def outer(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def _many(server: Server, count: int) -> dict[str, int]:
    answer = httpx.post(f"{server.url}/many", json={"count": count, "concurrency": 32}, timeout=500)
    found: dict[str, int] = answer.raise_for_status().json()
    return found


def _one(server: Server, route: str, width: int, seconds: float) -> str:
    body = {"route": route, "width": width, "seconds": seconds}
    return httpx.post(f"{server.url}/one", json=body, timeout=100).raise_for_status().text


def _inners(server: Server) -> list[psutil.Process]:
    """Workers of the inner service."""
    return _workers(server, "Inner")


def _workers(server: Server, service: str) -> list[psutil.Process]:
    alive = (one for one in psutil.Process(server.pid).children() if one.status() != psutil.STATUS_ZOMBIE)
    return [process for process in alive if service in process.cmdline()]


def _eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_no_call_of_500_is_lost(outer: Server) -> None:
    assert _many(outer, 500) == {"ok": 500}


@pytest.mark.slow
def test_no_call_of_10000_is_lost(outer: Server, request: pytest.FixtureRequest, tell: Callable[[str], None]) -> None:
    assert _many(outer, 500) == {"ok": 500}
    before, start = Held.by(outer.pid), time.monotonic()
    assert _many(outer, 10_000) == {"ok": 10_000}
    seconds, after = time.monotonic() - start, Held.by(outer.pid)
    tell(f"{request.node.name}: 10000 calls, none lost, {10_000 / seconds:.0f} a second; {before}; after them {after}")
    assert after.descriptors <= before.descriptors + 8
    assert after.memory <= before.memory + 16


def test_no_call_is_lost_when_a_worker_is_killed(together: Server) -> None:
    """Those under way are made again, once another worker is in its place."""
    with ThreadPoolExecutor(1) as pool:
        calls = pool.submit(_many, together, 1_000)
        for _ in range(2):
            time.sleep(0.3)
            _eventually(lambda: bool(_inners(together)))
            _inners(together)[0].kill()
    assert calls.result() == {"ok": 1_000}


def test_a_call_that_kills_its_workers_is_given_up(together: Server) -> None:
    """After the third, long before its deadline; those that it took along are made again, and answered."""
    with ThreadPoolExecutor(4) as pool:
        beside = [pool.submit(_one, together, "/slow", 1, 90) for _ in range(3)]
        _eventually(lambda: httpx.get(f"{together.url}/readyz").json()["inside"] == 3)
        assert _one(together, "/die", 1, 90) == "ModelFailed"
        assert [call.result() for call in beside] == ["done"] * 3
    assert _many(together, 10) == {"ok": 10}


@pytest.mark.parametrize(("route", "error"), [("/fail", "ModelFailed"), ("/nowhere", "ModelAway")])
def test_a_call_that_a_model_fails_at_is_told_from_a_model_of_another_kind(
    outer: Server, route: str, error: str
) -> None:
    assert _one(outer, route, 1, 90) == error


def test_a_call_that_kills_its_workers_takes_none_of_another_gateway_along(
    inner: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Gateways of one machine make such calls one by one, as each does its own."""
    monkeypatch.setenv("OCR_OPS_HOP_KEY", KEY)
    alone = tmp_path / "alone"
    alone.touch()

    async def work() -> None:
        first, *others = gateways = [Hop(inner.url, shared=alone) for _ in range(4)]
        try:
            beside = [
                asyncio.create_task(one.call("/slow", pack([np.zeros((1, 1), np.uint8)]), Deadline.after(90)))
                for one in others
            ]
            with pytest.raises(ModelFailed):
                await first.call("/die", BODY, Deadline.after(90))
            assert await asyncio.gather(*beside) == [b"done"] * 3
        finally:
            for gateway in gateways:
                await gateway.close()

    asyncio.run(work())


def test_workers_told_to_end_alone_are_replaced(together: Server) -> None:
    """A model that is told so later does not believe that all are about to end, since a gateway was."""
    [gateway] = _workers(together, "Outer")
    [model] = _inners(together)
    gateway.terminate()
    gateway.wait(60)
    _eventually(lambda: bool(_workers(together, "Outer")))
    assert _many(together, 10) == {"ok": 10}
    model.terminate()
    model.wait(60)
    assert _many(together, 10) == {"ok": 10}


def test_an_answer_that_comes_too_late_is_not_waited_for(outer: Server) -> None:
    start = time.monotonic()
    assert _one(outer, "/slow", 60, 0.5) == "TooLate"
    assert time.monotonic() - start < 20


def test_work_ends_at_the_deadline_of_its_caller(inner: Server) -> None:
    """Which goes with the call: nobody has to hang up."""
    before = _left(inner)
    headers = {"content-type": MEDIA_TYPE, "authorization": f"Bearer {KEY}", HEADER: "200"}
    answer = httpx.post(f"{inner.url}/slow", content=pack([np.zeros((1, 60), np.uint8)]), headers=headers, timeout=50)
    assert answer.status_code == 504
    _eventually(lambda: _left(inner) == before + 1)


def test_work_ends_when_its_caller_leaves(inner: Server) -> None:
    before = _left(inner)
    headers = {"content-type": MEDIA_TYPE, "authorization": f"Bearer {KEY}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{inner.url}/slow", content=pack([np.zeros((1, 60), np.uint8)]), headers=headers, timeout=0.5)
    _eventually(lambda: _left(inner) == before + 1)


def _left(inner: Server) -> int:
    return int(httpx.get(f"{inner.url}/readyz").json()["digest"])


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": MEDIA_TYPE}, BODY, 401),
        ({"content-type": MEDIA_TYPE, "authorization": "Bearer other"}, BODY, 401),
        ({"content-type": MEDIA_TYPE, "authorization": f"Bearer {KEY}"}, b"\x80\x04.", 400),
        ({"content-type": "application/vnd.bentoml+pickle", "authorization": f"Bearer {KEY}"}, b"\x80\x04.", 415),
        ({"content-type": MEDIA_TYPE, "authorization": f"Bearer {KEY}", HEADER: "soon"}, BODY, 400),
        ({"content-type": MEDIA_TYPE, "authorization": f"Bearer {KEY}"}, BODY, 200),
    ],
    ids=["no key", "another key", "garbage", "pickle", "no deadline", "all right"],
)
def test_only_packed_pictures_with_the_key_are_answered(
    inner: Server, headers: dict[str, str], content: bytes, status: int
) -> None:
    assert httpx.post(f"{inner.url}/widths", content=content, headers=headers).status_code == status


def test_pickle_is_refused_beside_the_gateway_too(together: Server) -> None:
    """Where BentoML's own services take it from each other."""
    [worker] = _inners(together)
    path = next(socket.laddr for socket in worker.net_connections("unix") if str(socket.laddr).endswith(".sock"))
    headers = {"content-type": "application/vnd.bentoml+pickle", "authorization": f"Bearer {_key_of(worker)}"}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://model") as client:
        assert client.post("/widths", content=b"\x80\x04.", headers=headers).status_code == 415
        assert client.post("/widths", content=BODY, headers={"content-type": MEDIA_TYPE}).status_code == 401


def test_nothing_listens_but_the_service(together: Server) -> None:
    """BentoML's process manager would, to any user of the machine, and start the programs that it is told to."""
    manager = psutil.Process(together.pid)
    group = [one for one in (manager, *manager.children(True)) if one.status() != psutil.STATUS_ZOMBIE]
    heard = [one for process in group for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.port for one in heard} == {urlsplit(together.url).port}


def _key_of(worker: psutil.Process) -> str:
    return str(worker.environ()["OCR_OPS_HOP_KEY"])


@pytest.mark.parametrize("key", [{}, {"OCR_OPS_HOP_KEY": ""}], ids=["none", "empty"])
def test_a_model_open_to_the_network_wants_a_key(
    tmp_path: Path, served: tuple[Workspace, Release], key: dict[str, str]
) -> None:
    """One line, with how to make one."""
    env = {"PYTHONPATH": str(ROOT), "OCR_OPS_HOME": str(served[0].home), **key}
    with (
        pytest.raises(ServerDied, match=r"without OCR_OPS_HOP_KEY.*openssl rand"),
        serve("tests.bentos.echo:Inner", env=env, log=tmp_path / "log", host="0.0.0.0"),
    ):
        pass


def test_a_gateway_with_another_key_knows_that_it_has_no_model(
    inner: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the model is, and what it said, is told the log alone: callers of the service learn what went wrong."""
    monkeypatch.setitem(os.environ, "OCR_OPS_HOP_KEY", "other")

    async def ask() -> None:
        hop = Hop(inner.url)
        try:
            with pytest.raises(ModelAway, match="401"):
                await hop.loaded()
            with pytest.raises(ModelAway, match="401") as refused:
                await hop.call("/widths", BODY, Deadline.after(20))
            assert refused.type is ModelAway, "no call has anything to do with it"
            assert inner.url not in str(refused.value)
            assert "OCR_OPS_HOP_KEY" not in str(refused.value)
            assert f"model at {inner.url}: status 401, " in caplog.text
            assert "the key of OCR_OPS_HOP_KEY is wanted" in caplog.text
        finally:
            await hop.close()

    asyncio.run(ask())


def test_what_a_model_cannot_see_is_sent(inner: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lent to another group, nor to a model that does not see our memory."""
    monkeypatch.setitem(os.environ, "OCR_OPS_HOP_KEY", KEY)
    body = pack([np.zeros((LARGE // 100, 120), np.uint8)])

    async def ask() -> None:
        hop = Hop(inner.url)
        try:
            assert not hop.lends
            hop.lends = True
            assert await hop.call("/widths", body, Deadline.after(20)) == b"\x78"
            assert not hop.lends
        finally:
            await hop.close()

    asyncio.run(ask())


def test_a_model_that_is_not_there_is_waited_for_until_the_deadline() -> None:
    async def ask() -> None:
        hop = Hop("http://127.0.0.1:9")
        try:
            with pytest.raises(ModelAway):
                await hop.loaded()
            with pytest.raises(TooLate) as late:
                await hop.call("/widths", BODY, Deadline.after(0.3))
            assert "127.0.0.1" not in str(late.value)
        finally:
            await hop.close()

    asyncio.run(ask())


def test_answers_under_way_are_finished_when_all_is_told_to_end(together: Server) -> None:
    """The models end after the gateway, though everybody is told at once. The last test of these servers."""
    assert _many(together, 1) == {"ok": 1}  # the model is up, too
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_one, together, "/slow", 3, 60)
        _eventually(lambda: readiness(together.url)["inside"] == 1)
        psutil.Process(together.pid).terminate()
        assert answer.result() == "done"
    psutil.Process(together.pid).wait(60)
