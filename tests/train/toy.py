"""A lesson of no pictures: a line through noise.

Run as a program it trains in the folder given, for so many steps, with an evaluation every so many.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ocr_ops.core.spec import ModelSpec
from ocr_ops.train import loop


def toy_spec(steps: int, **recipe: float) -> ModelSpec:
    return ModelSpec.parse(
        {
            "name": "toy",
            "task": "detection",
            "licence": "Apache-2.0",
            "input": {"stride": 32, "max_side": 64},
            "network": {"kind": "db"},
            "recipe": {"steps": steps, "learning_rate": 0.05, "seed": 0, "ema": 0.9, **recipe},
            "quality": {"floor": 0.0},
        },
        "toy",
    )


class Toy:
    """y = 3 x + 1."""

    batches_per_pool = 3

    def __init__(self, *, plain: bool = False) -> None:
        """`plain`: without BatchNorm, which sees each batch apart."""
        torch.manual_seed(0)
        norm = nn.Identity() if plain else nn.BatchNorm2d(4)
        self.network: Any = nn.Sequential(nn.Conv2d(1, 4, 1), norm, nn.Conv2d(4, 1, 1))

    def pool(self, index: int) -> list[loop.Batch]:
        rng = np.random.default_rng(index)
        x = rng.normal(size=(self.batches_per_pool, 16, 1, 2, 2)).astype(np.float32)
        return [{"image": torch.from_numpy(part), "y": torch.from_numpy(3 * part + 1)} for part in x]

    def loss(self, batch: loop.Batch) -> Tensor:
        return torch.as_tensor((self.network(batch["image"]) - batch["y"]).square().mean())

    def evaluate(self) -> dict[str, float]:
        return {"score": -float(self.loss(self.pool(10_000)[0]))}

    def picture(self) -> NDArray[np.uint8]:
        return np.zeros((8, 8), np.uint8)

    @property
    def facts(self) -> dict[str, Any]:
        return {"dataset": {"toy": "1"}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, steps, every = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    loop.fit(Toy(plain="plain" in sys.argv), toy_spec(steps), loop.Leg(folder, evaluate_steps=every, device="cpu"))
