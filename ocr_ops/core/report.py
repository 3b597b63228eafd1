"""Reports: raw samples and the figures computed from them, with the environment they hold for."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.record import Record, Value
from ocr_ops.core.spec import later
from ocr_ops.core.verdict import Check, Verdict, worst

ISA_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "numpy", "opencv-python-headless", "bentoml")


class Environment(Value):
    """What a measurement depends on besides its subject."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    system: str
    packages: dict[str, str]
    kernel: str = later("")
    """Release of the running kernel; none known of reports older than this field."""
    provider: str = later("cpu")
    """What ran the graphs, by its name in `OCR_OPS_PROVIDER`."""
    governor: str = later("")
    """What governs the clocks of the cores (cpufreq); none where the system does not tell, as in virtual machines."""

    @classmethod
    def here(cls) -> "Environment":
        """What is found on this machine, read from /proc and the installed packages."""
        info = dict(
            [part.strip() for part in line.split(":", 1)]
            for line in _read("/proc/cpuinfo").partition("\n\n")[0].splitlines()
            if ":" in line
        )
        flags = set(info.get("flags", "").split())
        return cls(
            cpu=info.get("model name", platform.machine()),
            isa=tuple(flag for flag in ISA_FLAGS if flag in flags),
            cores=len(os.sched_getaffinity(0)),
            system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            packages={name: found for name in PACKAGES if (found := _version(name))},
            kernel=platform.release(),
            governor=", ".join(sorted({_governor(core) for core in os.sched_getaffinity(0)} - {""})),
        )

    def same_machine(self, other: "Environment") -> bool:
        """Whether all agrees but what ran the graphs there."""
        return self.model_copy(update={"provider": other.provider}) == other


class Report(Record):
    """One measurement of one subject. The verdict follows from the checks and cannot be set."""

    kind: Literal["bench", "lines", "gate"]
    name: str
    """For people: `detection-tiny int8`, `load`."""
    subject: Digest
    dataset: Digest | None
    """Digest of the documents it was measured on."""
    policy: Digest | None = None
    """Digest of the policy its checks come from."""
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: Environment = Field(default_factory=Environment.here)
    metrics: dict[str, float]
    samples: dict[str, tuple[float, ...]] = {}
    """Raw values by name, in the order they were taken."""
    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return worst(check.verdict for check in self.checks)


def quantile(samples: Sequence[float], q: float) -> float | None:
    """The smallest sample with at least a share `q` of all at or below it; None of none."""
    if not samples:
        return None
    ordered = sorted(samples)
    rank = -(-len(ordered) * q // 1)  # ceiling
    return ordered[max(int(rank), 1) - 1]


def _governor(core: int) -> str:
    return _read(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor").strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
