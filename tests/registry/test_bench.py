"""A benchmark is a run in MLflow, with its report, and known to the versions it measured."""

from pathlib import Path

import pytest

from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import Registry
from ocr_ops.registry.bench import EXPERIMENT, log_bench
from tests.registered import register_release


def test_a_benchmark_is_logged_and_tied_to_what_it_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = Registry.open(Workspace(tmp_path / "home"))
    release, version = register_release(registry, tmp_path / "a", seed=1)
    run = log_bench(
        registry,
        title="12 pages",
        record='{"title": "12 pages"}',
        html="<!doctype html>",
        markdown="## 12 pages",
        metrics={"detection-tiny int8 + recognition-tiny int8, cpu": {"word_f1": 0.9, "cpu_ms": 344.0}},
        subjects=[release.digest, "sha256:" + "0" * 64],
        facts={"verdict": "PASS", "command": "ocr-ops bench"},
    )
    logged = registry.client.get_run(run)
    assert logged.info.status == "FINISHED"
    assert registry.client.get_experiment(logged.info.experiment_id).name == EXPERIMENT
    assert logged.data.metrics["detection-tiny-int8-recognition-tiny-int8-cpu.word_f1"] == 0.9
    assert logged.data.params["verdict"] == "PASS"
    assert logged.data.tags[f"ocr.{version.version}"] == release.digest
    files = {file.path for file in registry.client.list_artifacts(run, "bench")}
    assert files == {"bench/run.json", "bench/report.html", "bench/report.md"}
    assert registry.version("ocr", version.version).tags["bench"] == run
