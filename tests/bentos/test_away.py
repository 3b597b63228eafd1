"""What a service works beside goes away in turn: Redis, MLflow, Prometheus. Nobody who asks for a reading notices."""

import io
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import httpx
import pytest
from PIL import Image

from ocr_ops.core import metrics
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import serve
from tests.redis_server import redis_running
from tests.servers import mlflow_running, prometheus_running
from tests.tiny import draw

ROOT = Path(__file__).resolve().parents[2]
AFTER = 20
"""Answers to see once something is gone."""


class Stream:
    """Documents one after another, each another, until the block ends: what became of each."""

    def __init__(self, url: str) -> None:
        self.url, self.answers, self.over = url, list[str](), threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        rng = random.Random(0)
        with httpx.Client(base_url=self.url, timeout=120) as client:
            while not self.over.is_set():
                picture = io.BytesIO()
                Image.fromarray(draw(["".join(rng.choices("abc", k=8))], 400, 96)).save(picture, "PNG")
                try:
                    answer = client.post("/v1/ocr", files={"file": ("page.png", picture.getvalue())})
                except httpx.TransportError as error:
                    self.answers.append(repr(error))
                    continue
                read = answer.is_success and Reading.model_validate_json(answer.content).text.strip()
                self.answers.append("read" if read else f"{answer.status_code} {answer.text[:200]}")

    def wait(self, more: int) -> None:
        """Until so many more have been answered."""
        enough = len(self.answers) + more
        _until(lambda: len(self.answers) >= enough)


def _until(holds: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_request_fails_when_redis_mlflow_and_prometheus_stop_in_turn(
    served: tuple[Workspace, Release], tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """Each is in use until it is killed, and Redis again once it is back."""
    folders = {name: tmp_path / name for name in ("redis", "mlflow", "prometheus")}
    for folder in folders.values():
        folder.mkdir()
    with (
        redis_running(folders["redis"]) as redis,
        mlflow_running(folders["mlflow"]) as mlflow,
        serve(
            ROOT,
            env={
                "OCR_OPS_HOME": str(served[0].home),
                "OCR_OPS_REDIS_URL": redis.url,
                "OCR_OPS_CACHE_KEY": "00" * 32,
                "MLFLOW_TRACKING_URI": mlflow.url,
            },
            log=tmp_path / "server.log",
        ) as server,
        prometheus_running(folders["prometheus"], server.url.removeprefix("http://")) as prometheus,
        Stream(server.url) as stream,
    ):
        stream.wait(AFTER)
        _until(lambda: prometheus.query(f"sum({metrics.PAGES}) > 0"))
        assert redis.client().dbsize()
        redis.kill()
        stream.wait(AFTER)
        redis.start()
        _until(lambda: redis.client().dbsize())
        mlflow.kill()
        stream.wait(AFTER)
        prometheus.kill()
        stream.wait(AFTER)
    tell(f"{len(stream.answers)} requests while Redis, MLflow and Prometheus were killed in turn")
    assert [answer for answer in stream.answers if answer != "read"] == []
