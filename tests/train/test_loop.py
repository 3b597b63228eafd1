import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ocr_ops.core.errors import BadInput, BadRecord, NotProven
from ocr_ops.train import loop
from tests.train.toy import Toy, toy_spec

ROOT = Path(__file__).parents[2]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return loop.read_tensors(folder / loop.CHECKPOINT)[0]


def test_the_loss_falls_and_the_run_folder_tells_of_it(tmp_path: Path) -> None:
    figures = loop.fit(Toy(), toy_spec(200), loop.Leg(tmp_path))
    rows = [json.loads(row) for row in (tmp_path / loop.METRICS).read_text(encoding="utf-8").splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.1 * losses[0]
    assert figures["score"] == rows[-1]["score"] > -0.5
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert (tmp_path / loop.PICTURE).is_file()
    assert loop.read_tensors(tmp_path / loop.BEST)[1]["figures"] == figures


def test_two_legs_end_where_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop.fit(Toy(), toy_spec(50), loop.Leg(tmp_path / "whole"))

    # Nothing is left of the first leg's memory but its folder; it stops in the middle of a pool.
    first = loop.Leg(tmp_path / "parts", minutes=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop._Course, "over", property(lambda course: course.step >= 20))
        loop.fit(Toy(), toy_spec(50), first)
    loop.fit(Toy(), toy_spec(50), replace(first, minutes=None))

    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_worker_processes_change_nothing_but_the_speed() -> None:
    alone, helped = (loop.batches(Toy(), 4, workers) for workers in (0, 1))
    for _ in range(8):
        left, right = next(alone), next(helped)
        assert torch.equal(left["image"], right["image"])


def test_a_run_killed_at_any_moment_resumes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.train.toy", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = 0
        for line in process.stderr:
            seen += line.count("score")
            if seen >= 3:
                break
        process.kill()
        process.stderr.read()
    step = loop.read_tensors(tmp_path / loop.CHECKPOINT)[1]["step"]
    assert step > 0
    loop.fit(Toy(), toy_spec(step + 5), loop.Leg(tmp_path))
    assert loop.read_tensors(tmp_path / loop.CHECKPOINT)[1]["step"] == step + 5
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".pkl"]


def test_a_finished_schedule_is_not_a_success_of_no_steps(tmp_path: Path) -> None:
    loop.fit(Toy(), toy_spec(3), loop.Leg(tmp_path))
    with pytest.raises(NotProven, match="3 steps"):
        loop.fit(Toy(), toy_spec(3), loop.Leg(tmp_path))


def test_the_schedule_rises_and_falls() -> None:
    shares = [loop.one_cycle(i / 100) for i in range(101)]
    assert max(shares) == pytest.approx(1.0)
    assert shares[0] < 0.1
    assert shares[-1] == pytest.approx(0.005)
    assert shares[4:] == sorted(shares[4:], reverse=True)


def test_a_schedule_by_the_clock_ends_by_the_clock(tmp_path: Path) -> None:
    loop.fit(Toy(), toy_spec(10**9), loop.Leg(tmp_path, horizon_minutes=0.01))
    assert loop.read_tensors(tmp_path / loop.CHECKPOINT)[1]["seconds"] >= 0.6


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        loop.pick_device("cuda")
    assert loop.pick_device("auto").type == "cpu"


def test_a_recipe_without_a_learning_rate_is_refused(tmp_path: Path) -> None:
    spec = toy_spec(3).model_copy(update={"recipe": {"steps": 3}})
    with pytest.raises(BadRecord, match="learning_rate"):
        loop.fit(Toy(), spec, loop.Leg(tmp_path))


def test_damaged_weights_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    with pytest.raises(BadInput, match="safetensors"):
        loop.read_tensors(tmp_path / "weights")
    with pytest.raises(BadInput, match="absent"):
        loop.read_tensors(tmp_path / "absent")


def test_a_score_on_other_data_does_not_stand_in_the_way(tmp_path: Path) -> None:
    class Generous(Toy):
        def evaluate(self) -> dict[str, float]:
            return {"score": 99.0}

    class Strict(Toy):
        @property
        def facts(self) -> dict[str, Any]:
            return {"dataset": {"toy": "2"}}

    loop.fit(Generous(), toy_spec(3), loop.Leg(tmp_path))
    loop.fit(Toy(), toy_spec(6), loop.Leg(tmp_path))
    assert loop.read_tensors(tmp_path / loop.BEST)[1]["step"] == 3
    loop.fit(Strict(), toy_spec(9), loop.Leg(tmp_path))
    assert loop.read_tensors(tmp_path / loop.BEST)[1]["step"] == 9
