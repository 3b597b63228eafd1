import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ocr_ops.core.errors import BadInput
from ocr_ops.train import loop
from ocr_ops.train.devices import pick_device, pick_workers, rank, together
from tests.train.toy import Toy, toy_spec

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


def test_a_process_alone_is_the_first_of_one() -> None:
    with together("cpu") as ranks:
        assert ranks.first
        assert ranks.mean(1.5, 2) == [1.5, 2]
        assert ranks.agree(3) == (3,)
    assert rank() == 0
    assert pick_workers(None, torch.device("cpu")) == 0
    assert pick_workers(2, torch.device("cpu")) == 2


def test_two_ranks_train_what_one_does_that_sees_both_their_batches(tmp_path: Path) -> None:
    """`torchrun` on two processes: pools are dealt in turn, gradients averaged, one rank writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}"]
    leg = [*program, "-m", "tests.train.toy", str(tmp_path / "two"), "12", "5", "plain"]
    done = subprocess.run(leg, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr

    class Both(Toy):
        """Batches of two pools side by side, as two ranks see them."""

        def pool(self, index: int) -> list[loop.Batch]:
            pools = [super(Both, self).pool(2 * index + each) for each in (0, 1)]
            return [
                {key: torch.cat([one[key] for one in pair]) for key in pair[0]} for pair in zip(*pools, strict=True)
            ]

    loop.fit(Both(plain=True), toy_spec(12), loop.Leg(tmp_path / "one", evaluate_steps=5))
    two, one = (loop.read_tensors(tmp_path / name / loop.CHECKPOINT) for name in ("two", "one"))
    assert two[1]["step"] == one[1]["step"] == 12
    assert two[1]["samples"] == one[1]["samples"]
    assert all(torch.allclose(two[0][name], one[0][name], atol=1e-5) for name in one[0])
    rows = [json.loads(row) for row in (tmp_path / "two" / loop.METRICS).read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows if "score" in row] == [5, 10, 12]
