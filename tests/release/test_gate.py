import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.errors import BadInput, NotProven, OutsideSystem, ServerDied
from ocr_ops.core.policy import LoadPolicy
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Verdict
from ocr_ops.core.workspace import Workspace
from ocr_ops.release import gate as gating
from ocr_ops.release.gate import Sample, gate, judge, read_samples
from ocr_ops.release.server import Server, serve
from tests.tiny import build_release, draw

ROOT = Path(__file__).resolve().parents[2]
DIGEST = digest_bytes(b"release")
POLICY = LoadPolicy(users=2, seconds=3, min_requests=4, min_requests_per_second=0.2, max_p95_ms=30_000)


def _samples(count: int, ms: float = 100.0, failed: int = 0, every: float = 0.1) -> list[Sample]:
    return [
        Sample(
            start=1000 + i * every,
            ms=ms,
            status=500 if i < failed else 200,
            bytes=9,
            document="a.png",
            pages=1,
            lines=2,
            error="no" if i < failed else None,
        )
        for i in range(count)
    ]


def test_a_good_run_passes() -> None:
    report = judge(_samples(40), DIGEST, DIGEST, LoadPolicy())
    assert report.verdict is Verdict.PASS
    assert report.metrics["p95_ms"] == 100.0
    assert report.metrics["requests_per_second"] == pytest.approx(40 / 4.0)
    assert len(report.samples["ms"]) == 40


def test_no_samples_are_never_a_pass() -> None:
    report = judge([], DIGEST, DIGEST, LoadPolicy())
    assert report.verdict is Verdict.FAIL
    assert "p95_ms" not in report.metrics


@pytest.mark.parametrize(
    "samples",
    [
        _samples(19),
        _samples(40, failed=1),
        _samples(40, ms=10_001.0),
        _samples(40, every=10.0),
        _samples(40, failed=40),
    ],
    ids=["too few", "one failed", "slow", "rare", "all failed"],
)
def test_each_limit_closes_the_door(samples: list[Sample]) -> None:
    assert judge(samples, DIGEST, DIGEST, LoadPolicy()).verdict is Verdict.FAIL


@given(st.permutations(_samples(25, failed=2)))
def test_the_order_of_lines_changes_nothing(samples: list[Sample]) -> None:
    """Users write them as they finish."""
    report = judge(samples, DIGEST, DIGEST, LoadPolicy(max_failed_share=0.2))
    assert report.verdict is Verdict.PASS
    assert report.metrics["failed_share"] == pytest.approx(2 / 25)
    assert list(report.samples["start_s"]) == sorted(report.samples["start_s"])


@pytest.mark.parametrize("text", ["", '{"start": 1.0, "ms"', "{}\n", '{"start": 1}\nNaN\n'])
def test_samples_that_are_not_whole_prove_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "samples.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(NotProven):
        read_samples(tmp_path / "samples.jsonl")


def test_no_samples_file_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotProven, match="no samples"):
        read_samples(tmp_path / "samples.jsonl")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("gate") / "home")


@pytest.fixture(scope="module")
def release(workspace: Workspace) -> Release:
    return build_release(workspace.champion)


@pytest.fixture(scope="module")
def documents(workspace: Workspace) -> Path:
    folder = workspace.home / "documents"
    folder.mkdir(parents=True)
    for number, lines in enumerate((["abc"], ["a b", "cc"])):
        (folder / f"{number}.png").write_bytes(cv2.imencode(".png", draw(lines))[1].tobytes())
    return folder


@pytest.fixture
def server(workspace: Workspace, release: Release) -> Iterator[Server]:
    env = {"OCR_OPS_HOME": str(workspace.home)}
    with serve(ROOT, env=env, log=workspace.home / "log") as running:
        yield running


def test_a_server_is_judged_and_then_lost(
    server: Server, release: Release, documents: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server, since a start takes seconds: a pass, a wrong release, a crashed Locust, and a death under load."""
    report = gate(release.digest, server.url, documents, POLICY, workspace)
    assert report.verdict is Verdict.PASS
    assert report.subject == release.digest
    assert report.metrics["lines"] >= report.metrics["pages"] >= POLICY.min_requests

    with pytest.raises(NotProven, match="release sha256"):
        gate(DIGEST, server.url, documents, POLICY, workspace)

    broken = workspace.home / "locustfile.py"
    broken.write_text("raise RuntimeError('a locustfile that cannot be loaded')\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(gating, "LOCUSTFILE", broken)
        with pytest.raises(NotProven, match="locust: ended with"):
            gate(release.digest, server.url, documents, POLICY, workspace)

    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    given_up = threading.Event()

    def kill_once_loaded() -> None:
        while not any(path.stat().st_size for path in workspace.home.glob("load/*/samples.jsonl")):
            if given_up.wait(0.05):
                return
        for process in family:
            process.kill()

    killer = threading.Thread(target=kill_once_loaded)
    killer.start()
    try:
        with pytest.raises(ServerDied):
            gate(release.digest, server.url, documents, POLICY, workspace)
    finally:
        given_up.set()
        killer.join()


def test_no_server_is_no_evidence(documents: Path, workspace: Workspace) -> None:
    with pytest.raises(OutsideSystem, match="no answer"):
        gate(DIGEST, "http://127.0.0.1:9", documents, POLICY, workspace)


def test_no_documents_are_no_run(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(BadInput, match="no files"):
        gate(DIGEST, "http://127.0.0.1:9", tmp_path, POLICY, workspace)
