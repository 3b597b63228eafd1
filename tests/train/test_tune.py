import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from ocr_ops.core.errors import OutsideSystem, UsageError
from ocr_ops.core.spec import ModelSpec
from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import Registry
from ocr_ops.train import study as study_module
from ocr_ops.train import trial as trial_module
from ocr_ops.train import tune as tune_module
from ocr_ops.train.cost import cpu_ms
from ocr_ops.train.networks import build
from ocr_ops.train.study import Candidate, front, open_study
from ocr_ops.train.trial import hopeless, propose
from ocr_ops.train.tune import search
from tests.train.toy import Toy


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials learn a line through noise, and their networks cost what their widths say: milliseconds each."""

    def cost(specs: Sequence[ModelSpec]) -> list[float]:
        return [float(np.sum(spec.network["widths"])) * max(spec.input.height, 1) / 1000 for spec in specs]

    monkeypatch.setattr(trial_module, "_lesson", lambda _spec, _material: Toy())
    for module in (trial_module, tune_module):
        monkeypatch.setattr(module, "cpu_ms", cost)


@pytest.mark.parametrize("width", [0.5, 1.0, 1.25])
def test_a_proposal_is_a_network_that_can_be_built(recognition: Path, detection: Path, width: float) -> None:
    """Width, resolution, learning rate and augmentation come from the trial; the rest stays the spec's."""
    settings = {"width": width, "learning_rate": 1e-3, "strength": 0.5}
    reader = propose(FixedTrial({**settings, "height": 40}), ModelSpec.read(recognition))
    build(reader)
    assert (reader.input.height, reader.recipe["learning_rate"], reader.recipe["steps"]) == (40, 1e-3, 6)
    finder = propose(FixedTrial({**settings, "max_side": 512}), ModelSpec.read(detection))
    build(finder)
    assert (finder.input.max_side, finder.recipe["strength"]) == (512, 0.5)


def test_what_costs_more_is_measured_to_cost_more(recognition: Path) -> None:
    """Four times the width, at a height that is half as much again."""
    spec = ModelSpec.read(recognition)
    wide = spec.model_copy(
        update={
            "network": {**spec.network, "widths": (32, 32, 64, 64, 64)},
            "input": spec.input.model_copy(update={"height": 48}),
        }
    )
    small, large = cpu_ms([spec, wide], rounds=5)
    assert 0 < 2 * small < large


def test_a_study_is_kept_and_goes_on(detection: Path, tmp_path: Path) -> None:
    """Its folder has the picture, the figures, and a spec that can be trained for each of the front."""
    first = search(detection, tmp_path, trials=2, steps=6)
    again = search(detection, tmp_path, trials=5, steps=6)
    assert (first.counts["complete"] + first.counts["pruned"], sum(again.counts.values())) == (2, 7)
    assert (again.folder / "study.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((again.folder / "front.json").read_text())
    assert told["trials"] == again.counts
    assert [row["trial"] for row in told["front"]] == [one.number for one in again.front]
    for one in again.front:
        assert ModelSpec.read(again.folder / f"trial-{one.number}").name == f"small-detector-trial-{one.number}"
    assert not list(tmp_path.glob("runs/*/*"))


def test_trials_of_other_terms_are_not_mixed(detection: Path, tmp_path: Path) -> None:
    """Trainings of unlike length tell nothing about each other; a study of another name takes them."""
    search(detection, tmp_path, trials=1, steps=4)
    with pytest.raises(UsageError, match="begun with steps 4"):
        search(detection, tmp_path, trials=1, steps=5)
    assert search(detection, tmp_path, trials=1, steps=5, study="longer").front


def test_every_trial_is_a_run_within_the_studys(detection: Path, tmp_path: Path) -> None:
    """In MLflow: settings, figures, scores by rung, the picture; a second command adds to the same run."""
    registry = Registry.open(Workspace(tmp_path))
    found = search(detection, tmp_path, trials=2, steps=6, registry=registry)
    assert search(detection, tmp_path, trials=1, steps=6, registry=registry).run == found.run
    parent = registry.client.get_run(found.run)
    assert parent.data.metrics["trials_complete"] + parent.data.metrics["trials_pruned"] == 3
    assert {file.path for file in registry.client.list_artifacts(found.run, "study")} >= {"study/study.png"}
    query = f"tags.`mlflow.parentRunId` = '{found.run}'"
    children = registry.client.search_runs([parent.info.experiment_id], query)
    assert {run.info.run_name for run in children} == {f"small-detector trial {i}" for i in range(3)}
    for run in children:
        assert set(run.data.params) == {"width", "max_side", "learning_rate", "strength"}
        assert run.data.metrics["cpu_ms"] > 0
        assert registry.client.get_metric_history(run.info.run_id, "score")


def test_two_processes_share_one_study(recognition: Path, tmp_path: Path) -> None:
    """Their trials add up, each with a number of its own. They are real: a spawned process knows no toys."""
    found = search(recognition, tmp_path, trials=3, steps=3, workers=2)
    study = optuna.load_study(study_name="small-reader", storage=f"sqlite:///{tmp_path / 'tune.db'}")
    assert sorted(trial.number for trial in study.trials) == [0, 1, 2]
    assert found.counts["complete"] + found.counts["pruned"] == 3
    assert len({json.dumps(trial.params) for trial in study.trials}) == 3


HANGING = """
import sys, threading
from pathlib import Path
from ocr_ops.train import study, trial, tune
study.HEARTBEAT = 1
def hang(*_):
    print("hanging", flush=True)
    threading.Event().wait()
trial._lesson = hang
tune.search(Path(sys.argv[1]), Path(sys.argv[2]), trials=1, steps=6)
"""


@pytest.fixture
def killed(detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A study whose only worker was killed in the middle of its trial."""
    monkeypatch.setattr(study_module, "HEARTBEAT", 1)
    monkeypatch.setattr(study_module, "GRACE", 2)
    arguments = [sys.executable, "-c", HANGING, str(detection), str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env={**os.environ}) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == b"hanging\n"
        worker.send_signal(signal.SIGKILL)
    return optuna.load_study(study_name="small-detector", storage=f"sqlite:///{tmp_path / 'tune.db'}")


def test_a_killed_workers_trial_is_tried_again(killed: optuna.Study, detection: Path, tmp_path: Path) -> None:
    """Its heart stops: the trial fails, and the next worker takes its settings up."""
    assert [trial.state for trial in killed.trials] == [TrialState.RUNNING]
    while killed.trials[0].state is TrialState.RUNNING:  # each command looks for the dead before it begins a trial
        search(detection, tmp_path, trials=1, steps=6)
    search(detection, tmp_path, trials=1, steps=6)
    assert killed.trials[0].state is TrialState.FAIL
    again = [t for t in killed.trials[1:] if t.system_attrs.get("failed_trial") == 0]
    assert [(t.params, t.state.is_finished()) for t in again] == [(killed.trials[0].params, True)]


def test_a_store_that_is_away_is_one_error(detection: Path, tmp_path: Path) -> None:
    """Without the password, whatever the driver says."""
    for url in (f"sqlite:///{tmp_path}/none/tune.db", "postgresql://me:secret@127.0.0.1:1/x", "nonsense"):
        with pytest.raises(OutsideSystem) as away:
            search(detection, tmp_path, trials=1, steps=6, storage=url)
        assert "secret" not in str(away.value)


def test_workers_propose_unlike_trials(tmp_path: Path) -> None:
    """And the same worker the same ones: a search on one machine can be run again."""

    def first(name: str, seed: str) -> dict[str, Any]:
        study = open_study(f"sqlite:///{tmp_path / name}.db", "s", {"steps": 1}, seed)
        study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=1)
        return study.trials[0].params

    assert first("a", "7 0") == first("b", "7 0") != first("c", "7 1")


def trial_of(number: int, cost: float, scores: list[float]) -> FrozenTrial:
    attrs = {"cpu_ms": cost, **{f"score_{i}": score for i, score in enumerate(scores)}}
    made = create_trial(state=TrialState.RUNNING, user_attrs=attrs)
    made.number = number
    return made


def test_a_trial_is_held_only_against_what_costs_no_more() -> None:
    """A small network need not be as good as a large one; a large one has to be better than small ones."""
    others = [trial_of(i, cost, [score]) for i, (cost, score) in enumerate([(1, 0.5), (2, 0.6), (3, 0.7), (9, 0.9)])]
    assert hopeless(trial_of(8, 4, [0.55]), others, 0)
    assert not hopeless(trial_of(8, 4, [0.65]), others, 0)
    assert not hopeless(trial_of(8, 2.5, [0.1]), others, 0)  # two are too few to tell
    assert not hopeless(trial_of(8, 4, [0.1, 0.1]), others, 1)  # nobody came that far


def test_the_front_is_what_nothing_beats() -> None:
    """In score and cost together; of equals the first."""
    made = [(0, 0.5, 1.0), (1, 0.4, 2.0), (2, 0.8, 3.0), (3, 0.8, 3.0), (4, 0.9, 9.0), (5, 0.7, 3.0)]
    best = front([Candidate(number, score, cost, {}) for number, score, cost in made])
    assert [one.number for one in best] == [0, 2, 4]
    assert front([]) == []


def test_a_page_exam_sees_the_resolution(detection: Path) -> None:
    """A detector is examined on whole pages as it will be served, not on views of fixed size."""
    lesson: Callable[..., Any] = trial_module._PageExam
    spec = ModelSpec.read(detection)
    with torch.no_grad():
        figures = lesson(spec, trial_module.Material(), 1).evaluate()
    assert 0 <= figures["score"] <= 1
