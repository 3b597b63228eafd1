"""SloFile: what the service promises, as `monitoring/slo.toml` states it."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from ocr_ops.core.errors import BadRecord
from ocr_ops.core.metrics import CONFIDENCE_BUCKETS, SECONDS_BUCKETS
from ocr_ops.core.record import Record, Value

Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.\[\]:_-]+:\d{1,5}$")]


class Objective(Value):
    """The least share of good events over a window of days."""

    objective: Annotated[float, Field(gt=0, lt=1)]
    window: Annotated[str, Field(pattern=r"^[1-9]\d{0,2}d$")] = "30d"

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return round(1 - self.objective, 9)

    @property
    def hours(self) -> int:
        return 24 * int(self.window.removesuffix("d"))


class LatencyObjective(Objective):
    """Good: answered within `seconds`."""

    seconds: float

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        _require_edge("seconds", self.seconds, SECONDS_BUCKETS)
        return self


class ConfidenceObjective(Objective):
    """Good: a line whose mean confidence is greater than `above`."""

    above: float

    @model_validator(mode="after")
    def _measurable(self) -> Self:
        # The last edge is 1: every line lies at or below it, and none above.
        _require_edge("above", self.above, CONFIDENCE_BUCKETS[:-1])
        return self


class Scrape(Value):
    """Where Prometheus finds the service, and where it sends alerts."""

    targets: Annotated[tuple[Address, ...], Field(min_length=1)]
    alertmanagers: tuple[Address, ...] = ()
    interval: Annotated[str, Field(pattern=r"^[1-9]\d*[sm]$")] = "15s"


class SloFile(Record):
    availability: Objective
    latency: LatencyObjective
    confidence: ConfidenceObjective
    scrape: Scrape
    runbook: Annotated[str, Field(min_length=1)]
    """Path or URL of the runbook; an alert's name is the anchor of its section."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The objectives in a TOML file; `BadRecord` when it is absent, no TOML, or promises the immeasurable."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadRecord(path, str(error), "service level objectives in TOML", "see monitoring/slo.toml") from None
        return cls.parse(data, path)


def _require_edge(name: str, value: float, edges: Sequence[float]) -> None:
    if value not in edges:
        choice = ", ".join(map(str, edges))
        msg = f"{name} = {value} is no bucket edge, so the histogram cannot tell; use one of {choice}"
        raise ValueError(msg)
