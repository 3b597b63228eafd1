import os
from pathlib import Path

import cv2
import pytest

from ocr_ops.core.errors import ServerDied
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings
from ocr_ops.release import trial
from ocr_ops.release.trial import Slo, Stage, pinned
from tests.tiny import draw


def _stage(tmp_path: Path) -> Stage:
    documents = tmp_path / "documents"
    documents.mkdir()
    cv2.imwrite(str(documents / "page.png"), draw(["abc ab", "cab"]))
    everywhere = tuple(sorted(os.sched_getaffinity(0)))
    return Stage(documents, Slo(p95_ms=60_000), 2.0, everywhere[:1], everywhere, tmp_path / "logs")


def test_a_service_is_measured_under_real_load(
    tiny_release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served from this clone with its settings, on the cores it may have; users come until it is full."""
    monkeypatch.setattr(trial, "FEWEST_ANSWERS", 1)  # how many a busy machine gives in two seconds is not the point
    outcome = _stage(tmp_path).measure(tiny_release, ServingSettings(max_batch_size=8), accuracy=0.9)
    assert outcome.accuracy == 0.9
    assert outcome.throughput > 0
    assert outcome.memory_mb > 100
    assert outcome.figures["failed_share"] == 0
    assert outcome.figures["cpu_s_a_page"] > 0


def test_a_service_that_does_not_start_is_one_point_lost(tiny_release: Release, tmp_path: Path) -> None:
    with pytest.raises(ServerDied, match="max_side"):
        _stage(tmp_path).measure(tiny_release, ServingSettings(max_side=500), accuracy=0.9)


def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned(sorted(before)[:1]):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
