"""`ocr-ops train`: a leg, its run in MLflow, and weights that the next stage takes."""

import json
from pathlib import Path

import pytest

from ocr_ops.cli import main
from ocr_ops.core.record import digest_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import Registry


def test_a_leg_is_logged_in_mlflow_and_its_weights_register(
    detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parameters, curves and pictures of the run; then a version of the model with the weights' digest."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["train", str(detection), "--publish", "--json"])
    trained = json.loads(capsys.readouterr().out)
    assert trained["step"] == 6

    registry = Registry.open(Workspace.current())
    run = registry.client.get_run(trained["mlflow run"])
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe.steps"] == "6"
    assert {"loss", "score"} <= run.data.metrics.keys()
    artifacts = {item.path for item in registry.client.list_artifacts(run.info.run_id, "samples")}
    assert "samples/samples.png" in artifacts

    main(["register", str(detection), "--json"])
    registered = json.loads(capsys.readouterr().out)
    assert registered["model"] == "ocr-detection"
    assert registered["digest"] == digest_file(detection / "weights.safetensors")


def test_the_best_settings_of_a_study_are_printed(
    detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One short trial, as JSON."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    main(["tune", str(detection), "--trials", "1", "--minutes", "0.02"])
    best = json.loads(capsys.readouterr().out)
    assert "learning_rate" in best
