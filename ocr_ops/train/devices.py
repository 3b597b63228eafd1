"""Where a training runs: device, precision, drawing processes, and the other processes that train along.

Several devices are started by `torchrun`, which tells each process its rank in the environment. Every rank draws
pools of its own and holds the same network: gradients (and BatchNorm's running statistics) are averaged over the
ranks at each step, by one reduction over a flat vector. Only the first rank evaluates, writes and prints.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed

from ocr_ops.core.errors import BadInput
from ocr_ops.runtime.cpu import thread_count

PATIENCE = timedelta(hours=1)
"""How long ranks wait for the first one, which alone evaluates."""


def rank() -> int:
    """The number of this process among those `torchrun` started; 0 when it runs alone."""
    return int(os.environ.get("RANK", "0"))


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that train one network together, seen from one of them."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replaces each tensor by its mean over the ranks: one reduction."""
        if self.world == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.detach().float().reshape(-1) for part in parts])
        distributed.all_reduce(flat)
        flat /= self.world
        for part, mean in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
            part.copy_(mean.view(part.shape))

    def mean(self, *values: float) -> list[float]:
        """Each number's mean over the ranks."""
        numbers = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.world > 1:
            distributed.all_reduce(numbers)
            numbers /= self.world
        return numbers.tolist() if self.world > 1 else list(values)

    def agree(self, *values: int) -> Sequence[int]:
        """What the first rank says, on every rank; those who come early wait for it."""
        if self.world == 1:
            return values
        numbers = torch.tensor(values, device=self.device)
        distributed.broadcast(numbers, 0)
        return [int(number) for number in numbers]


@contextmanager
def together(device: str) -> Iterator[Ranks]:
    """The ranks `torchrun` started, seen from here; alone without it. NCCL joins CUDA devices, Gloo CPUs."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    place = pick_device(device)
    if world == 1:
        yield Ranks(0, 1, place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), world, place)
    finally:
        distributed.destroy_process_group()


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, each rank its own. Raises `BadInput` for a device that is not there."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    kind = found if name == "auto" else torch.device(name).type
    if kind == "cuda" and found == "cpu":
        raise BadInput(name, "no CUDA device", "cpu", "pass --device cpu, or install a CUDA build of torch")
    local = os.environ.get("LOCAL_RANK")
    if kind == "cuda" and local is not None:
        return torch.device("cuda", int(local))
    return torch.device(found if name == "auto" else name)


def pick_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the machine computes it fast (CUDA, AVX512-BF16, AMX), else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    flags = Path("/proc/cpuinfo")
    fast = flags.exists() and any(name in flags.read_text() for name in (" avx512_bf16", " amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def pick_workers(wanted: int | None, device: torch.device) -> int:
    """How many processes draw batches for this rank.

    Unless told, none beside a CPU, which they would slow, and beside a GPU the rank's share of the cores.
    """
    if wanted is not None:
        return wanted
    return 0 if device.type == "cpu" else max(1, thread_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
