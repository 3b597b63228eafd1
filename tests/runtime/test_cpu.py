import os
from pathlib import Path

import pytest

from ocr_ops.runtime.cpu import cpu_share, thread_count


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))


def test_without_a_quota_the_affinity_decides(tmp_path: Path, many_cores: None) -> None:
    """No cgroup files at all: every core of the mask."""
    assert cpu_share(tmp_path) == 64


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, 64),
        (
            {
                "proc/self/cgroup": "0::/pod/box\n",
                "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
                "sys/fs/cgroup/pod/cpu.max": "400000 100000",
            },
            4,
        ),
        ({"proc/self/cgroup": "0::/host/only\n", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            64,
        ),
    ],
)
def test_the_tightest_quota_binds(tmp_path: Path, many_cores: None, files: dict[str, str], share: float) -> None:
    """Version 1 and 2 groups, nested ones, unlimited ones, and those of a host whose paths are not mounted."""
    assert cpu_share(write(tmp_path, files)) == share


def test_there_is_always_a_thread(tmp_path: Path) -> None:
    """Half a core still runs one thread."""
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    assert thread_count(write(tmp_path, files)) == 1


def test_this_machine_has_a_share() -> None:
    """The real files are read without trouble."""
    assert 0 < cpu_share() <= (os.cpu_count() or 1)
