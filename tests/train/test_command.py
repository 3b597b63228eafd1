"""`ocr-ops train`: a leg, its run in MLflow, and weights that the next stage takes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ocr_ops.cli import main
from ocr_ops.core.record import digest_file
from ocr_ops.core.spec import ModelSpec
from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import Registry
from ocr_ops.train.networks import build


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


def test_a_run_without_mlflow_is_registered_whole_later(
    detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained where MLflow is not installed; the run folder alone is then registered elsewhere."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "away"))
    with monkeypatch.context() as away:
        away.setattr(Registry, "installed", staticmethod(lambda: False))
        away.setattr(Registry, "open", lambda _: pytest.fail("there is no MLflow"))
        main(["train", str(detection), "--json", "--evaluate-every", "2"])
    shown = capsys.readouterr()
    assert "MLflow is not installed" in shown.err
    assert "ocr-ops register" in shown.err
    assert json.loads(shown.out)["mlflow run"] == "none"

    folder = Path(json.loads(shown.out)["folder"]).rename(tmp_path / "carried")
    shutil.rmtree(detection)
    (folder / "weights.safetensors").unlink()  # as if the leg had been cut off before its end
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["register", str(folder), "--json"])
    registered = json.loads(capsys.readouterr().out)
    assert registered["digest"] == digest_file(folder / "weights.safetensors")

    client = Registry.open(Workspace.current()).client
    run = client.get_run(registered["run"])
    assert {"loss", "rate", "score"} <= run.data.metrics.keys()
    assert len(client.get_metric_history(registered["run"], "score")) == 3
    artifacts = {item.path for item in client.list_artifacts(registered["run"], "samples")}
    assert {f"samples/{name}" for name in ("samples.png", "worst.png", "curves.png", "metrics.jsonl")} <= artifacts


def test_a_fine_tuning_that_shows_nothing_is_no_success(
    recognition: Path, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step of an untrained network: both read nothing right, so no difference can be shown."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("ocr_ops.train.finetune.RENDERED", 4)
    torch.manual_seed(0)
    save_file(build(ModelSpec.read(recognition)).state_dict(), recognition / "weights.safetensors")
    words = ["--from", str(recognition), "--data", str(crops), "--name", "mine", "--steps", "1", "--no-mlflow"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *words, "--json"])
    shown = capsys.readouterr()
    row = json.loads(shown.out)
    assert ended.value.code == (3 if row["verdict"] == "no difference shown" else 1)
    assert (row["published"], row["mlflow run"]) == ("no", "none")
    assert "8 documents" in shown.err
    assert (tmp_path / "home" / "runs" / "mine" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    "words", [[], ["--name", "x", "m"], ["--from", "m"], ["--from", "m", "--data", "d"], ["m", "--steps", "3"]]
)
def test_options_that_contradict_each_other_are_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--no-mlflow", *words])
    assert ended.value.code == 2


def test_the_front_of_a_study_is_printed(
    detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One short trial, as JSON; it is in MLflow, and its spec can be trained."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["tune", str(detection), "--trials", "1", "--steps", "3", "--json"])
    output = capsys.readouterr()
    best = json.loads(output.out)
    assert best["cpu_ms"] > 0
    assert {"score", "learning_rate", "strength", "width", "max_side"} < set(best)
    assert "1 complete; mlflow run " in output.err
    assert (tmp_path / "home" / "studies" / "small-detector" / "trial-0" / "model.toml").is_file()
