"""Policy: what a release must show before it may serve. Defaults here; `--policy FILE` (TOML) overrides."""

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import Record, Value

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class SlicePolicy(Value):
    """What holds for every slice: fewer items than the whole, so wider intervals and wider limits."""

    max_cer_increase: Share = 0.01
    max_hmean_drop: Share = 0.02
    """Of the labelled boxes: the share found no more. False boxes belong to no slice."""
    min_speedup: Positive = 0.9
    min_lines: Annotated[int, Field(ge=1)] = 30
    """Of a recogniser. Smaller slices are pooled into `other`; a dataset that has fewer proves nothing at all."""
    min_boxes: Annotated[int, Field(ge=1)] = 200
    """The same, of a detector: fewer, none of them lost, could not prove a loss of less than two in a hundred."""
    min_pages: Annotated[int, Field(ge=1)] = 6
    """The same, of speed-ups. A page belongs to the slices that most of its lines are in."""


class VariantPolicy(Value):
    """When a variant may take its float parent's place, by the worse end of a 95 % interval over what both read."""

    max_cer_increase: Share = 0.005
    """Recognition, absolute: of the variant's CER less its parent's, the upper end."""
    max_hmean_drop: Share = 0.005
    """Detection, absolute: of the parent's hmean less the variant's, the upper end."""
    min_speedup: Positive = 1.0
    """Parent's CPU time of a page over the variant's, the median of all: the lower end."""
    slice: SlicePolicy = SlicePolicy()


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
    max_flip_share: Share = 0.01
    """Of lines whose text changes with what is read beside them: the upper end of the interval."""
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
