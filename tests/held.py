"""What a server and its processes hold, and what they have done: where leaks and drift would show."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Held:
    """Of a process and all below it, at one moment."""

    memory: float
    """MiB that go away with them: what they share is not counted."""
    descriptors: int
    threads: int
    cpu: float
    """Seconds, with those of children that have ended."""

    @classmethod
    def by(cls, pid: int) -> Self:
        """Of those still there when it is their turn."""
        memory, descriptors, threads, cpu = 0, 0, 0, 0.0
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                memory += process.memory_full_info().uss
                descriptors += process.num_fds()
                threads += process.num_threads()
                cpu += sum(process.cpu_times()[:4])
        return cls(memory / 2**20, descriptors, threads, cpu)

    def __str__(self) -> str:
        return f"{self.memory:.0f} MiB, {self.descriptors} descriptors, {self.threads} threads"
