import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from ocr_ops.core import metrics
from ocr_ops.core.release import Release
from ocr_ops.runtime import telemetry


def test_documents_and_stages_are_counted() -> None:
    """In a plain process the default registry holds the values."""
    telemetry.documents_in_flight(2)
    assert REGISTRY.get_sample_value(metrics.IN_FLIGHT) == 2
    with telemetry.stage("decode"):
        pass
    telemetry.document_answered(200, 0.17)
    telemetry.documents_in_flight(-2)
    assert REGISTRY.get_sample_value(metrics.IN_FLIGHT) == 0
    assert REGISTRY.get_sample_value(metrics.REQUESTS, {"status": "200"}) == 1
    assert REGISTRY.get_sample_value(metrics.STAGE_SECONDS + "_count", {"stage": "decode"}) >= 1  # type: ignore[operator]
    assert REGISTRY.get_sample_value(metrics.REQUEST_SECONDS + "_bucket", {"le": "0.15"}) == 0
    assert REGISTRY.get_sample_value(metrics.REQUEST_SECONDS + "_bucket", {"le": "0.2"}) == 1


def test_what_serves_is_told(tiny_release: Release) -> None:
    """By digest, not by name alone."""
    telemetry.release_loaded(tiny_release)
    telemetry.model_loaded(tiny_release.detection, "CPUExecutionProvider")
    assert REGISTRY.get_sample_value(metrics.RELEASE_INFO, {"digest": tiny_release.digest}) == 1
    labels = {
        "task": "detection",
        "model": "detection-bars",
        "precision": "fp32",
        "digest": tiny_release.detection.digest,
        "provider": "CPUExecutionProvider",
    }
    assert REGISTRY.get_sample_value(metrics.MODEL_INFO, labels) == 1
    telemetry.model_attested("detection", "CPUExecutionProvider", attested=False)
    labels = {"task": "detection", "provider": "CPUExecutionProvider"}
    assert REGISTRY.get_sample_value(metrics.MODEL_ATTESTED, labels) == 0


def test_processes_of_one_server_add_up(tmp_path: Path) -> None:
    """With a multiprocess folder, what two workers count is one figure."""
    work = "from ocr_ops.runtime import telemetry as t; t.document_answered(200, 0.1); t.batch('detection', 3)"
    show = "from ocr_ops.runtime import telemetry as t; import sys; sys.stdout.buffer.write(t.exposition()[0])"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", work], env=environment, check=True)
    text = subprocess.run([sys.executable, "-c", show], env=environment, check=True, capture_output=True).stdout
    lines = text.decode().splitlines()
    assert f'{metrics.REQUESTS}{{status="200"}} 2.0' in lines
    assert f'{metrics.BATCH_ITEMS}_sum{{task="detection"}} 6.0' in lines


def test_documents_are_those_of_all_processes_that_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one that was killed had in its hands is no longer read."""
    work = "from ocr_ops.runtime import telemetry as t; t.documents_in_flight(2); print(flush=True); input()"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert telemetry.documents_being_read() == 0

    def worker() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", work]
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with worker() as first, worker() as second:
        for one in (first, second):
            assert one.stdout is not None
            assert one.stdout.readline()
        assert telemetry.documents_being_read() == 4
        first.kill()
        first.wait()
        assert telemetry.documents_being_read() == 2
        second.kill()
    assert telemetry.documents_being_read() == 0


def test_many_scrapes_at_once_forget_a_dead_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them, in any process, removes what only held while it lived."""
    work = "from ocr_ops.runtime import telemetry as t; t.documents_in_flight(1); t.document_answered(200, 0.1)"
    subprocess.run(
        [sys.executable, "-c", work], env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}, check=True
    )
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    [dead] = tmp_path.glob("gauge_livesum_*.db")
    for other in range(200):
        shutil.copyfile(dead, dead.with_name(f"gauge_livesum_{2**22 + 1 + other}.db"))  # no process has such a number
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            texts = [text.decode() for text, _ in pool.map(lambda _: telemetry.exposition(), range(8))]
    finally:
        sys.setswitchinterval(before)
    assert all(f'{metrics.REQUESTS}{{status="200"}} 1.0' in text for text in texts)
    assert not list(tmp_path.glob("gauge_live*.db"))
