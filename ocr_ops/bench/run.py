"""A run of the benchmark as a record: what was measured, on what, where, and every raw figure of it."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment
from ocr_ops.core.spec import Task
from ocr_ops.core.verdict import Check, worst


class Cell(Value):
    """One way to read: a bundle, a release or a peer, with a provider, threads and a batch size."""

    name: str
    """Unique in the run, for people, with what sets it apart from one CPU thread and one item a call:
    `recognition-small int8`, `recognition-small int8, 2 threads, batch 8`."""
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
    """Lines handed to a recogniser together; 1 for all else."""
    cores: tuple[int, ...] = ()
    """Those it was held to, the same for all with as many threads; none of a service, which runs where it runs."""


class Result(Value):
    """What one cell did. A figure that could not be measured is absent."""

    cell: Cell
    metrics: dict[str, float]
    """Accuracy: `word_f1`, `word_precision`, `word_recall`, `macro_f1` (of texts of pages); `precision`, `recall`,
    `hmean` (of boxes, at IoU 0.5); `cer`, `exact`, `word_accuracy` (of lines). Cost: `p50_ms`, `p95_ms`, `p99_ms` of
    what an item waits, `cpu_ms` of an item, `items_per_s`, `peak_mb` (the dearest item's), `cold_start_ms` (from
    starting the process to its first answer), `size_mb` (of graphs), `warm_up` (calls; absent where it never got
    steady). `pages` or `lines`: how many; `unreadable`: lines that do not decode."""
    samples: dict[str, tuple[float, ...]] = {}
    """By item, in the run's order: `wall_ms` (of a batch, the whole call: all of it is waited for), `cpu_ms` (of a
    batch, an equal share), `peak_mb`, and the counts `hits`, `found`, `expected` (words or boxes of a page) or `edits`,
    `characters`, `words`, `words_hit` (of a line). And `warm_up_ms`: CPU time (of a service, time) of the calls before,
    which count for nothing else."""
    slices: dict[str, dict[str, float]] = {}
    """Accuracy metrics and `items` of each slice: `width: long`, `noise: high`, ..."""
    readings: tuple[str, ...] = ()
    """What was read of each item; empty where nothing is text."""
    checks: tuple[Check, ...] = ()
    """What the policy asks; nothing of a peer."""


class Ratio(Value):
    """A cost of one cell over another's, block by block: the median, with a bootstrap interval of 95 %."""

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
    block: int = 1
    """Items a turn: so many neighbours share a call of the largest batch, and are one pair of a ratio."""
    seed: int
    command: str
    """What makes this run again."""
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: Environment = Field(default_factory=Environment.here)
    results: tuple[Result, ...]
    """Bundles and releases first, then peers."""
    ratios: tuple[Ratio, ...] = ()
    """Of every cell over the first one and over every peer."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a cell, None where nothing was measured: its metrics, then its CPU over each peer's and its verdict."""
        names = dict.fromkeys(name for result in self.results for name in result.metrics)
        peers = [result.cell.name for result in self.results if result.cell.kind == "peer"]
        costs = {(ratio.cell, ratio.over): ratio for ratio in self.ratios if ratio.metric == "cpu_ms"}
        return [
            {
                "cell": (cell := result.cell).name,
                "version": cell.version,
                **{name: result.metrics.get(name) for name in names},
                **{f"cpu_ratio.{peer}": _median(costs.get((cell.name, peer))) for peer in peers},
                "verdict": str(worst(check.verdict for check in result.checks)) if result.checks else None,
            }
            for result in self.results
        ]


def _median(ratio: Ratio | None) -> float | None:
    return None if ratio is None else ratio.median
