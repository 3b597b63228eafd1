import json
import shutil
from pathlib import Path

import pytest

from ocr_ops.core.errors import BadInput, BadRecord, NotProven
from ocr_ops.core.record import digest_file
from ocr_ops.core.spec import ModelSpec
from ocr_ops.train.fit import Training, fit, publish_best, spec_text
from tests.train.conftest import DETECTION

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Training]]:
    """A folder with a detector's `model` and its `runs`, and what the training gave: made once, never written into."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "model").mkdir()
    (folder / "model" / "model.toml").write_text(DETECTION, encoding="utf-8")
    return folder, fit(folder / "model", folder / "runs", publish=True)


@pytest.fixture
def detection(made: tuple[Path, list[Training]], tmp_path: Path) -> Path:
    """The trained model; its run stands in `runs`, beside it."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "model"


def test_a_leg_publishes_weights_with_the_story_of_their_making(
    made: tuple[Path, list[Training]], detection: Path, tmp_path: Path
) -> None:
    (training,) = made[1]
    assert training.step == 6
    assert training.weights == digest_file(detection / "weights.safetensors")
    assert Training.from_file(detection / "training.json") == training
    assert training.exams[-1]["score"] == training.figures["score"]
    assert "small-detector: step 6" in str(training)
    assert (tmp_path / "runs" / "small-detector" / "metrics.jsonl").is_file()


def test_a_fresh_leg_starts_over(detection: Path, tmp_path: Path) -> None:
    (detection / "weights.safetensors").unlink()
    with pytest.raises(NotProven, match="6 steps"):
        fit(detection, tmp_path / "runs")
    assert fit(detection, tmp_path / "runs", fresh=True)[0].step == 6
    assert not (detection / "weights.safetensors").exists()


def test_a_wider_network_starts_from_the_weights_of_another(
    detection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec.read(detection)
    head = int(str(spec.network["head"]))
    wide = spec.model_copy(update={"name": "wide", "network": {**spec.network, "head": head + 8}})
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "model.toml").write_text(spec_text(wide), encoding="utf-8")
    assert fit(tmp_path / "wide", tmp_path / "runs", source=detection)[0].step == 6
    told = capsys.readouterr().err
    assert "wide: from" in told
    assert " 0 grown" not in told


def test_a_setting_nobody_reads_is_a_slip_of_the_pen(detection: Path, tmp_path: Path) -> None:
    text = (detection / "model.toml").read_text(encoding="utf-8")
    (detection / "model.toml").write_text(text.replace("strength", "strenght"), encoding="utf-8")
    with pytest.raises(
        BadRecord, match=r"small-detector: \[recipe\] strenght; expected .*strength.*; correct model.toml"
    ):
        fit(detection, tmp_path / "runs")


def test_a_run_folder_is_a_model_folder_with_pictures(detection: Path, tmp_path: Path) -> None:
    """All that registering needs, on a machine that has the folder alone."""
    run = tmp_path / "runs" / "small-detector"
    assert ModelSpec.read(run) == ModelSpec.read(detection)
    assert Training.from_file(run / "training.json").weights == digest_file(run / "weights.safetensors")
    assert {"curves.png", "samples.png", "worst.png"} <= {file.name for file in run.iterdir()}


def test_a_spec_is_written_as_it_is_read(recognition: Path, tmp_path: Path) -> None:
    spec = ModelSpec.read(recognition).model_copy(update={"charset": ' "\\\x7f€ſ𝔄#=[]'})
    (tmp_path / "model.toml").write_text(spec_text(spec), encoding="utf-8")
    assert ModelSpec.read(tmp_path) == spec


def test_nothing_is_published_of_a_run_that_was_never_evaluated(detection: Path, tmp_path: Path) -> None:
    with pytest.raises(NotProven, match="no evaluated weights"):
        publish_best(tmp_path, detection)


def test_weights_are_not_published_into_another_models_folder(
    detection: Path, recognition: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="small-reader"):
        publish_best(tmp_path / "runs" / "small-detector", recognition)
    assert not (recognition / "weights.safetensors").exists()


@pytest.mark.parametrize("name", ["recognition-tiny", "detection-tiny"])
def test_the_shipped_story_is_that_of_the_shipped_weights(name: str) -> None:
    training = Training.from_file(MODELS / name / "training.json")
    assert training.model == name
    assert training.weights == digest_file(MODELS / name / "weights.safetensors")
    assert training.exams[-1]["step"] == training.step
    assert json.dumps(training.figures["score"]) in (MODELS / name / "training.json").read_text(encoding="utf-8")
