"""The same code in two layouts: all in one process group, or three deployments that scale on their own."""

import asyncio
import io
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from bentos.api.app import OPERATIONS
from bentos.api.openapi import document
from bentos.deadline import HEADER, Deadline
from bentos.hop import Hop
from bentos.packing import pack, unpack_texts
from ocr_ops.core import metrics
from ocr_ops.core.errors import TooLate
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, readiness, serve
from tests.tiny import draw

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-the-hop"
Served = tuple[Workspace, Release]


@pytest.fixture(scope="module")
def apart(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Detection, recognition and gateway, each started by itself."""
    folder = tmp_path_factory.mktemp("apart")
    env = {"OCR_OPS_HOME": str(served[0].home), "OCR_OPS_HOP_KEY": KEY, "PYTHONPATH": str(ROOT)}
    servers: dict[str, Server] = {}
    with ExitStack() as held:
        for task in ("detection", "recognition"):
            service = f"bentos.{task}:{task.title()}"
            servers[task] = held.enter_context(serve(service, env=env, log=folder / f"{task}.log"))
            env = {**env, f"OCR_OPS_{task.upper()}_URL": servers[task].url}
        env = {**env, "OCR_OPS_DECODER_DOCUMENTS": "1"}
        servers["gateway"] = held.enter_context(serve(ROOT, env=env, log=folder / "gateway.log"))
        yield servers


def _page() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(["abc ab", "cab", "ba ac cc"])).save(buffer, "PNG")
    return buffer.getvalue()


def _read(server: Server) -> Reading:
    answer = httpx.post(f"{server.url}/v1/ocr", files={"file": ("page.png", _page())}, timeout=60)
    assert answer.status_code == 200, answer.text
    return Reading.model_validate_json(answer.content)


def test_three_deployments_read_as_one(apart: dict[str, Server], server: Server) -> None:
    assert _read(apart["gateway"]) == _read(server)


def test_a_gateway_of_its_own_starts_no_models(apart: dict[str, Server]) -> None:
    words = [" ".join(child.cmdline()) for child in psutil.Process(apart["gateway"].pid).children()]
    assert any("Gateway" in line for line in words)
    assert not any("Detection" in line or "Recognition" in line for line in words)


def test_each_tells_what_it_runs_and_counts_for_itself(apart: dict[str, Server], served: Served) -> None:
    """A probe needs no key; a picture does."""
    _read(apart["gateway"])
    for task in ("detection", "recognition"):
        assert readiness(apart[task].url)["digest"] == getattr(served[1], task).digest
        assert f'{metrics.BATCH_ITEMS}_count{{task="{task}"}}' in httpx.get(f"{apart[task].url}/metrics").text
        assert httpx.post(f"{apart[task].url}/{task}", content=b"").status_code == 401
    assert readiness(apart["gateway"].url)["models"]["detection"]["digest"] == served[1].detection.digest


def test_scans_share_a_decoding_process_unless_told_not_to(apart: dict[str, Server], server: Server) -> None:
    """The wardens stay; of what they forked, only what the next scan may use."""
    for one, kept in ((server, True), (apart["gateway"], False)):
        _read(one)
        deadline = time.monotonic() + 30
        while bool(_decoders(one)) != kept and time.monotonic() < deadline:
            time.sleep(0.05)
        assert bool(_decoders(one)) == kept


def _decoders(server: Server) -> int:
    """How many processes below a gateway have been forked to open documents."""
    count = 0
    for one in psutil.Process(server.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "ocr_ops.runtime.decoding" in one.cmdline():  # a warden, or what it forked, which forks nothing
                count += len(one.children())
    return count


def test_a_model_reads_nothing_for_another_release(
    apart: dict[str, Server], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its callers wait for one of theirs."""
    monkeypatch.setenv("OCR_OPS_HOP_KEY", KEY)
    crop = pack([np.full((32, 128), 255, np.uint8)])

    async def work() -> None:
        ours, theirs = (
            Hop(apart["recognition"].url, getattr(served[1], task).digest) for task in ("recognition", "detection")
        )
        try:
            assert unpack_texts(await ours.call("/recognize", crop, Deadline.after(60)))[0].text == ""
            with pytest.raises(TooLate):
                await theirs.call("/recognize", crop, Deadline.after(0.5))
        finally:
            await ours.close()
            await theirs.close()

    asyncio.run(work())


def test_a_gateway_without_a_model_says_so_and_waits_no_longer_than_its_caller(apart: dict[str, Server]) -> None:
    """The last test here: recognition is gone after it."""
    psutil.Process(apart["recognition"].pid).terminate()
    psutil.Process(apart["recognition"].pid).wait(60)
    ready = httpx.get(f"{apart['gateway'].url}/readyz", timeout=60)
    assert ready.status_code == 503
    told = document(OPERATIONS)["paths"]["/readyz"]["get"]["responses"]["503"]
    assert ready.headers["content-type"] in told["content"]
    models = readiness(apart["gateway"].url)["models"]
    assert models["recognition"] == {"error": "no answer: ModelAway"}
    assert "error" not in models["detection"]
    file, headers = {"file": ("page.png", _page())}, {HEADER: "1500", "Cache-Control": "no-store"}
    answer = httpx.post(f"{apart['gateway'].url}/v1/ocr", files=file, headers=headers, timeout=60)
    assert answer.status_code == 504  # the time it came with was too short
