import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from _bentoml_impl.client import RemoteProxy

from bentos.hop import CONNECTION, calls
from ocr_ops.core.errors import OutsideSystem
from ocr_ops.release.server import Server, serve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("echo") / "log"
    with serve("tests.bentos.echo:Outer", env={"PYTHONPATH": str(ROOT)}, log=log) as server:
        yield server


def _outcomes(server: Server, count: int) -> dict[str, int]:
    body = {"count": count, "concurrency": 32}
    answer = httpx.post(f"{server.url}/many", json=body, timeout=500)
    found: dict[str, int] = answer.raise_for_status().json()
    return found


def test_no_call_of_1500_is_lost(echo: Server) -> None:
    """BentoML's own settings lose a few per cent of these."""
    assert _outcomes(echo, 1_500) == {"ok": 1_500}


@pytest.mark.slow
def test_no_call_of_10000_is_lost(echo: Server) -> None:
    assert _outcomes(echo, 10_000) == {"ok": 10_000}


@pytest.fixture
def proxy() -> Iterator[Any]:
    """BentoML's client, as `bentoml.depends` makes it."""
    proxy: Any = RemoteProxy("http://127.0.0.1:1")
    yield proxy
    asyncio.run(proxy.close())


def test_a_client_that_rotates_its_session_is_refused(proxy: Any) -> None:
    """A new BentoML may rename the setting: the gateway then refuses to start, rather than lose calls."""
    with pytest.raises(OutsideSystem, match="rotating session loses calls"):
        calls(proxy)


def test_a_client_without_the_setting_is_refused(proxy: Any) -> None:
    del proxy.to_async._session_manager.max_requests
    with pytest.raises(OutsideSystem, match="None"):
        calls(proxy)


def test_a_client_that_keeps_its_session_is_taken(proxy: Any) -> None:
    for name, value in CONNECTION.items():
        setattr(proxy.to_async._session_manager, name, value)
    assert calls(proxy) is proxy.to_async
