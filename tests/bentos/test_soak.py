"""Ten thousand documents, and nothing of them left behind."""

import io
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import httpx
import pytest
from PIL import Image

from ocr_ops.core.release import Release
from ocr_ops.core.report import quantile
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import serve
from tests.fuzz.corpus import seeds
from tests.held import Held
from tests.tiny import draw

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("OCR_OPS_SOAK", "10000"))
OUTPUTS = ("json", "text", "hocr", "alto", "tsv", "markdown", "pdf")


@dataclass(frozen=True, slots=True)
class Request:
    """A document, what is to come out, and the status that has to be answered."""

    name: str
    data: bytes
    output: str = "json"
    status: int = 200


def _page(form: str, pages: int = 1) -> bytes:
    picture, data = Image.fromarray(draw(["abc ab", "cab", "ba ac cc"], 320, 192)), io.BytesIO()
    more = {"save_all": True, "append_images": [picture] * (pages - 1)} if pages > 1 else {}
    picture.save(data, form, **more)
    return data.getvalue()


def _mix() -> list[Request]:
    """A page in every output, every kind of document, several pages, and what cannot be read."""
    page, kinds = _page("PNG"), seeds()
    return [
        *(Request("page.png", page, output) for output in OUTPUTS),
        *(Request(name, data) for name, data in kinds.items()),
        Request("pages.tiff", _page("TIFF", 4)),
        Request("text.pdf", kinds["text.pdf"], "pdf"),
        Request("scan.pdf", kinds["scan.pdf"], "pdf"),
        Request("nonsense", b"nonsense", status=415),
        Request("cut.png", page[:300], status=422),
        Request("cut.pdf", kinds["text.pdf"][:200], status=422),
    ]


def _seconds(client: httpx.Client, request: Request) -> float:
    start = time.monotonic()
    file, form = {"file": (request.name, request.data)}, {"output": request.output}
    answer = client.post("/v1/ocr", files=file, data=form)
    assert answer.status_code == request.status, (request.name, request.output, answer.text)
    return time.monotonic() - start


def _slower(old: httpx.Client, new: httpx.Client, requests: Sequence[Request]) -> float:
    """How many times as long one takes as the other, asked in turn for the same: the median of pairs."""
    pairs = []
    for number, request in enumerate(requests):
        both = [(client, _seconds(client, request)) for client in ((old, new) if number % 2 else (new, old))]
        taken = dict(both)
        pairs.append(taken[old] / taken[new])
    return median(pairs)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_documents_leave_no_trace(
    served: tuple[Workspace, Release], tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """The last tenth leaves as much memory, descriptors and threads as the second did, of the same documents; and the
    service is as fast as one that has just started, asked in turn: others on this machine do not count.
    """
    mix, seen = _mix(), []
    env = {"OCR_OPS_HOME": str(served[0].home), "OCR_OPS_CACHE": "off", "OCR_OPS_PROMISED_SECONDS": "600"}
    with (
        serve(ROOT, env=env, log=tmp_path / "server.log") as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        before = Held.by(server.pid)
        for tenth in range(1, 11):
            requests = (mix * (COUNT // len(mix)))[: COUNT // 10]
            random.Random(tenth).shuffle(requests)
            times = list(pool.map(partial(_seconds, client), requests))
            held = Held.by(server.pid)
            tell(
                f"{tenth * len(times)} documents: {held}, p50 {quantile(times, 0.5):.3f} s, "
                f"p99 {quantile(times, 0.99):.3f} s, {(held.cpu - before.cpu) / len(times) * 1000:.1f} ms of CPU each"
            )
            seen.append(before := held)
        with (
            serve(ROOT, env=env, log=tmp_path / "fresh.log") as fresh,
            httpx.Client(base_url=fresh.url, timeout=120) as other,
        ):
            _slower(client, other, mix)
            ratio = _slower(client, other, mix * 6)
    tell(f"beside one that has just started: {ratio:.2f} of its time")
    second, last = seen[1], seen[-1]
    assert last.memory <= second.memory + 24
    assert last.descriptors <= second.descriptors + 8
    assert last.threads <= second.threads + 4
    assert ratio <= 1.15
