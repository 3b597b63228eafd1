"""A run of the benchmark as a record: what was measured, on what, where, and every raw figure of it."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment
from ocr_ops.core.spec import Task
from ocr_ops.core.verdict import Check


class Cell(Value):
    """One way to read: a bundle, a release or a peer, with a provider, threads and a batch size."""

    name: str
    """Unique in the run, for people: `recognition-small int8, cpu, 1 thread, batch 8`."""
    kind: Literal["bundle", "release", "peer"]
    task: Task | None = None
    """Of a bundle."""
    version: str
    """A short digest, or the peer's own version."""
    subject: Digest | None = None
    """None for a peer."""
    variant: str = ""
    """`fp32`, `int8`, ...; of a release, both of its bundles': `int8 + int8`."""
    provider: str = "cpu"
    threads: int = 1
    batch: int = 1
    """Crops (or pages) of one network call, of a bundle; 1 for all else."""


class Result(Value):
    """What one cell did. A figure that could not be measured is absent."""

    cell: Cell
    metrics: dict[str, float]
    """`word_f1`, `word_precision`, `word_recall`, `macro_f1`, `cer`, `exact`, `precision`, `recall`, `hmean`; `p50_ms`,
    `p95_ms`, `p99_ms` and `cpu_ms` of an item, `items_per_s`, `peak_mb`, `cold_start_ms`, `size_mb`, `warm_up` (items)."""
    samples: dict[str, tuple[float, ...]] = {}
    """By item, in the run's order: `wall_ms`, `cpu_ms`, and the counts `hits`, `found`, `expected` (words or boxes) or
    `edits`, `characters` (lines)."""
    slices: dict[str, dict[str, float]] = {}
    """Accuracy metrics and `items` of each slice: `width: long`, `noise: high`, ..."""
    readings: tuple[str, ...] = ()
    """What was read of each item; empty where nothing is text."""
    checks: tuple[Check, ...] = ()
    """What the policy asks; nothing of a peer."""


class Ratio(Value):
    """A cost of one cell over another's, item by item: the median, with a bootstrap interval of 95 %."""

    metric: Literal["cpu_ms", "wall_ms"]
    cell: str
    over: str
    median: float
    low: float
    high: float
    pairs: int


class Run(Record):
    """Everything measured in one call of the benchmark."""

    title: str
    dataset: Digest
    unit: Literal["page", "line"]
    fold: bool
    """The labels tell no case: texts were compared case-folded."""
    items: tuple[str, ...]
    """Names of the pages or lines, in order."""
    expected: tuple[str, ...]
    """Their labelled texts."""
    seed: int
    command: str
    """What makes this run again."""
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: Environment = Field(default_factory=Environment.here)
    results: tuple[Result, ...]
    ratios: tuple[Ratio, ...] = ()
