"""The CPU share this process really has: a container's quota, not the host's core count."""

import os
from collections.abc import Iterator
from pathlib import Path


def cpu_share(root: Path = Path("/")) -> float:
    """Cores this process may use: the least of its affinity mask and its cgroup quotas (v1 or v2).

    `root` is where `/proc` and `/sys` are looked up. Without a quota it is the affinity alone.
    """
    return min([float(len(os.sched_getaffinity(0))), *_quotas(root)])


def thread_count(root: Path = Path("/")) -> int:
    """Whole threads that fit in the share, at least one."""
    return max(1, int(cpu_share(root)))


def _quotas(root: Path) -> Iterator[float]:
    """Every quota on the way from the process's own cgroup up to the root: each ancestor's also binds."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            for folder in _upwards(mount, path):
                yield from _quota(_read(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for folder in _upwards(mount / controllers, path):
                limit = _read(folder / "cpu.cfs_quota_us").split() + _read(folder / "cpu.cfs_period_us").split()
                yield from _quota(limit)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    # Inside a container the path may be the host's, absent here: the mount itself is then its own group.
    folder = mount / path.lstrip("/")
    while folder != mount and mount in folder.parents:
        yield folder
        folder = folder.parent
    yield mount


def _quota(limit: list[str]) -> Iterator[float]:
    """`[quota, period]` in microseconds as cores; `max` (v2) and -1 (v1) mean none."""
    try:
        quota, period = map(int, limit)
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield quota / period


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
