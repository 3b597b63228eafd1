import json
import math
import signal
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


def curve(folder: Path) -> list[dict[str, float]]:
    """What was logged, but for the time it took."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in loop.read_metrics(folder)]


def test_the_loss_falls_and_the_run_folder_tells_of_it(tmp_path: Path) -> None:
    figures = loop.fit(Toy(), toy_spec(200), loop.Leg(tmp_path))
    rows = [json.loads(row) for row in (tmp_path / loop.METRICS).read_text(encoding="utf-8").splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.1 * losses[0]
    assert figures["score"] == rows[-1]["score"] > -0.5
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    assert (tmp_path / loop.PICTURE).is_file()
    assert loop.read_tensors(tmp_path / loop.BEST)[1]["figures"] == figures


def test_in_mixed_precision_it_learns_as_well_and_keeps_whole_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 on a CPU, also on one that is slow at it; what is stored goes on in float32."""
    monkeypatch.setattr(loop, "pick_precision", lambda _: torch.bfloat16)
    loop.fit(Toy(), toy_spec(200), loop.Leg(tmp_path))
    losses = [row["loss"] for row in loop.read_metrics(tmp_path) if "loss" in row]
    assert losses[-1] < 0.1 * losses[0]
    assert not [name for name, value in tensors(tmp_path).items() if value.dtype == torch.bfloat16]


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


def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    steps, every, legs = 600, 7, tmp_path / "legs"
    command = [sys.executable, "-m", "tests.train.toy", str(legs), str(steps), str(every)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = 0
        for line in process.stderr:
            seen += line.count("score")
            if seen >= 3:
                break
        process.kill()
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL
    assert 0 < loop.read_tensors(legs / loop.CHECKPOINT)[1]["step"] < steps

    for folder in (legs, tmp_path / "whole"):
        loop.fit(Toy(), toy_spec(steps), loop.Leg(folder, evaluate_steps=every))
    for file in (loop.CHECKPOINT, loop.BEST):
        resumed, whole = (loop.read_tensors(folder / file)[0] for folder in (legs, tmp_path / "whole"))
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert curve(legs) == curve(tmp_path / "whole")


def test_the_same_seed_gives_the_same_curve(tmp_path: Path) -> None:
    for name in ("first", "second"):
        loop.fit(Toy(), toy_spec(45), loop.Leg(tmp_path / name, evaluate_steps=10))
    assert curve(tmp_path / "first") == curve(tmp_path / "second")
    assert [row["step"] for row in curve(tmp_path / "first") if "score" in row] == [10, 20, 30, 40, 45]


def test_a_row_torn_off_by_a_crash_is_lived_again(tmp_path: Path) -> None:
    loop.fit(Toy(), toy_spec(20), loop.Leg(tmp_path))
    with (tmp_path / loop.METRICS).open("a", encoding="utf-8") as file:
        file.write('{"step": 21, "lo')
    loop.fit(Toy(), toy_spec(40), loop.Leg(tmp_path))
    assert [row["step"] for row in curve(tmp_path) if "loss" in row] == [20, 40]


def test_accumulated_batches_make_one_step_of_their_mean(tmp_path: Path) -> None:
    class Whole(Toy):
        """The three batches of a pool as one."""

        batches_per_pool = 1

        def pool(self, index: int) -> list[loop.Batch]:
            parts = Toy().pool(index)
            return [{key: torch.cat([part[key] for part in parts]) for key in parts[0]}]

    loop.fit(Toy(plain=True), toy_spec(12, accumulate=3), loop.Leg(tmp_path / "parts"))
    loop.fit(Whole(plain=True), toy_spec(12), loop.Leg(tmp_path / "whole"))
    parts, whole = tensors(tmp_path / "parts"), tensors(tmp_path / "whole")
    assert all(torch.allclose(parts[name], whole[name], atol=1e-5) for name in whole)


def test_patience_ends_a_training_that_gains_nothing(tmp_path: Path) -> None:
    class Flat(Toy):
        def evaluate(self) -> dict[str, float]:
            return {"score": 0.5}

    leg = loop.Leg(tmp_path, evaluate_steps=2)
    loop.fit(Flat(), toy_spec(100, patience=3), leg)
    assert loop.read_tensors(tmp_path / loop.CHECKPOINT)[1]["step"] == 8
    with pytest.raises(NotProven, match="no gain in 3 evaluations"):
        loop.fit(Flat(), toy_spec(100, patience=3), leg)


class Poisoned(Toy):
    """From pool 2 on, so many batches hold a value that is no number."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad

    def pool(self, index: int) -> list[loop.Batch]:
        batches = super().pool(index)
        for number, batch in enumerate(batches, 3 * index):
            if 6 <= number < 6 + self.bad:
                batch["image"][0] = math.nan
        return batches


def test_a_step_without_a_finite_loss_is_skipped_and_counted(tmp_path: Path) -> None:
    figures = loop.fit(Poisoned(2), toy_spec(200), loop.Leg(tmp_path))
    assert figures["score"] > -0.5
    assert curve(tmp_path)[-2]["skipped"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in tensors(tmp_path).values())


def test_a_loss_that_stays_no_number_ends_the_training_with_its_checkpoint_kept(tmp_path: Path) -> None:
    with pytest.raises(NotProven, match="no number, 10 steps in a row up to step 16"):
        loop.fit(Poisoned(1000), toy_spec(200), loop.Leg(tmp_path, evaluate_steps=5))
    assert loop.read_tensors(tmp_path / loop.CHECKPOINT)[1]["step"] in (5, 10, 15)
    assert all(bool(torch.isfinite(value).all()) for value in tensors(tmp_path).values())


def test_a_checkpoint_of_another_network_is_one_line(tmp_path: Path) -> None:
    loop.fit(Toy(), toy_spec(3), loop.Leg(tmp_path))
    with pytest.raises(BadInput, match=r"checkpoint\.safetensors: .*; expected a checkpoint of toy; .*--fresh"):
        loop.fit(Toy(plain=True), toy_spec(6), loop.Leg(tmp_path))
    loop.fit(Toy(plain=True), toy_spec(6), loop.Leg(tmp_path, fresh=True))
    assert loop.read_tensors(tmp_path / loop.CHECKPOINT)[1]["step"] == 6


def test_nothing_pickled_is_ever_loaded() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "ocr_ops" / "train").glob("*.py")]
    assert sources
    assert not [word for word in ("torch.load", "torch.save", "pickle", "joblib") for text in sources if word in text]


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
