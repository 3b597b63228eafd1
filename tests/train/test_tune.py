import math
from pathlib import Path

import optuna
import pytest

from ocr_ops.core.spec import ModelSpec
from ocr_ops.train.networks import build
from ocr_ops.train.tune import propose, tune


@pytest.mark.parametrize("width", [0.5, 1.0, 1.25])
def test_a_proposal_is_a_network_that_can_be_built(recognition: Path, width: float) -> None:
    trial = optuna.trial.FixedTrial({"width": width, "learning_rate": 1e-3, "strength": 0.5})
    spec = propose(trial, ModelSpec.read(recognition))
    build(spec)
    assert spec.recipe["learning_rate"] == 1e-3
    assert spec.recipe["steps"] == 6


def test_a_study_is_kept_and_goes_on(detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocr_ops.train.tune.EXAM", 2)
    best = tune(detection, tmp_path, trials=1, minutes=0.005)
    assert best["widths"]
    assert math.isfinite(float(str(best["score"])))
    again = tune(detection, tmp_path, trials=1, minutes=0.005)
    assert float(str(again["score"])) >= float(str(best["score"]))
    study = optuna.load_study(study_name="small-detector", storage=f"sqlite:///{tmp_path / 'tune.db'}")
    assert len(study.trials) == 2
    assert not (tmp_path / "runs" / "small-detector.tune").exists()
