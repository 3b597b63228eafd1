import json
from pathlib import Path

import pytest

from ocr_ops.core.errors import BadInput, NotProven
from ocr_ops.core.record import digest_file
from ocr_ops.train.fit import Training, fit, publish_best

MODELS = Path(__file__).parents[2] / "models"


def test_a_leg_publishes_weights_with_the_story_of_their_making(detection: Path, tmp_path: Path) -> None:
    training = fit(detection, tmp_path / "runs", publish=True)
    assert training.step == 6
    assert training.weights == digest_file(detection / "weights.safetensors")
    assert Training.from_file(detection / "training.json") == training
    assert training.exams[-1]["score"] == training.figures["score"]
    assert "small-detector: step 6" in str(training)
    assert (tmp_path / "runs" / "small-detector" / "metrics.jsonl").is_file()


def test_a_fresh_leg_starts_over(detection: Path, tmp_path: Path) -> None:
    fit(detection, tmp_path / "runs")
    with pytest.raises(NotProven, match="6 steps"):
        fit(detection, tmp_path / "runs")
    assert fit(detection, tmp_path / "runs", fresh=True).step == 6
    assert not (detection / "weights.safetensors").exists()


def test_nothing_is_published_of_a_run_that_was_never_evaluated(detection: Path, tmp_path: Path) -> None:
    with pytest.raises(NotProven, match="no evaluated weights"):
        publish_best(tmp_path, detection)


def test_weights_are_not_published_into_another_models_folder(
    detection: Path, recognition: Path, tmp_path: Path
) -> None:
    fit(detection, tmp_path / "runs")
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
