"""Policy: what a release must show before it may serve. Defaults here; `--policy FILE` (TOML) overrides."""

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import Record, Value

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class VariantPolicy(Value):
    """When a quantized variant may replace its float parent."""

    max_accuracy_drop: Share = 0.01
    """Absolute, in the task's accuracy (detection: hmean; recognition: 1 - CER)."""
    min_speedup: Positive = 1.0
    """Float CPU time / variant CPU time, median of paired ratios."""


class LoadPolicy(Value):
    """The load gate: closed-loop users for some seconds, judged from raw samples."""

    users: Annotated[int, Field(ge=1)] = 4
    seconds: Positive = 20.0
    min_requests: Annotated[int, Field(ge=1)] = 20
    max_failed_share: Share = 0.0
    max_p95_ms: Positive = 10_000.0
    """Generous: it must hold on two shared cores. Set your own budget where the service has its own machine."""
    min_requests_per_second: Positive = 0.5


class Policy(Record):
    min_word_f1: Share = 0.55
    """End to end, on the documents of the benchmark."""
    max_cpu_ratio: dict[str, Positive] = {}
    """By peer: CPU seconds a page over the peer's, where `bench --peers` compares. Without an entry, told only."""
    variant: VariantPolicy = VariantPolicy()
    load: LoadPolicy = LoadPolicy()

    @classmethod
    def read(cls, path: Path | None) -> Self:
        """The policy in a TOML file; without one, the defaults."""
        if path is None:
            return cls()
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadRecord(path, str(error), "a policy in TOML", "check the path and the file") from None
        return cls.parse(data, path)
