"""What one cell did so far: costs and counts by item, and the metrics they come to."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ocr_ops.bench.accuracy import match_regions
from ocr_ops.bench.items import Items
from ocr_ops.bench.worker import Answer, Sample
from ocr_ops.core.report import quantile
from ocr_ops.core.scores import Match, edit_distance, match_words, normalise

QUANTILES = {"p50_ms": (0.5, 1), "p95_ms": (0.95, 20), "p99_ms": (0.99, 100)}
"""Name, share, and the fewest samples of which one lies beyond it: of fewer, it would be the worst by another name."""
COSTS = ("wall_ms", "cpu_ms", "peak_mb")


@dataclass(slots=True)
class Tally:
    items: Items
    warm_up_ms: list[float] = field(default_factory=list)
    """Of each call before those that count."""
    calls_ms: list[float] = field(default_factory=list)
    by_item: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Costs and counts, in the order items were added."""
    readings: list[str] = field(default_factory=list)

    def add(self, sample: Sample, numbers: Sequence[int]) -> None:
        """A call that read these items."""
        self.calls_ms.append(sample.wall_ms)
        share = None if sample.cpu_ms is None else sample.cpu_ms / len(numbers)
        for number, answer in zip(numbers, sample.answers, strict=True):
            for name, value in zip(COSTS, (sample.wall_ms, share, sample.peak_mb), strict=True):
                if value is not None:
                    self.by_item[name].append(value)
            for name, count in self._counts(number, answer):
                self.by_item[name].append(float(count))
            if isinstance(answer, str):
                self.readings.append(answer)

    def known(self, name: str) -> list[float]:
        """A cost or count of every item; empty where one is not known of all."""
        values = self.by_item.get(name, [])
        return values if len(values) == len(self.by_item["wall_ms"]) else []

    @property
    def samples(self) -> dict[str, tuple[float, ...]]:
        """All that was measured, raw."""
        kept = {name: tuple(self.known(name)) for name in self.by_item}
        return {name: values for name, values in kept.items() if values} | {"warm_up_ms": tuple(self.warm_up_ms)}

    def costs(self) -> dict[str, float]:
        """Latency, throughput, CPU and memory of what was added."""
        wall, cpu, peak = map(self.known, COSTS)
        beyond = {name: quantile(wall, share) for name, (share, fewest) in QUANTILES.items() if len(wall) >= fewest}
        metrics = {name: value for name, value in beyond.items() if value is not None}
        if self.calls_ms:
            metrics["items_per_s"] = len(wall) / sum(self.calls_ms) * 1e3
        if cpu:
            metrics["cpu_ms"] = fmean(cpu)
        return metrics | ({"peak_mb": max(peak)} if peak else {})

    def accuracy(self, chosen: Sequence[int] | None = None) -> dict[str, float]:
        """Metrics of all items, or of those at these places in the order they were added."""
        counts = {name: np.asarray(values) for name, values in self.by_item.items() if name not in COSTS}
        if chosen is not None:
            counts = {name: values[list(chosen)] for name, values in counts.items()}
        return _accuracy(counts, text=bool(self.readings))

    def _counts(self, number: int, answer: Answer) -> Iterator[tuple[str, int]]:
        fold = self.items.fold
        if not isinstance(answer, str):
            regions = self.items.regions[number]
            expected = [np.asarray(region.polygon, np.float32) for region in regions if not region.ignored]
            ignored = [np.asarray(region.polygon, np.float32) for region in regions if region.ignored]
            yield from _matched(match_regions(expected, list(answer), ignored))
        elif self.items.unit == "page":
            yield from _matched(match_words(self.items.expected[number], answer, fold=fold))
        else:
            wanted = normalise(self.items.expected[number], fold=fold)
            words = match_words(wanted, answer, fold=fold)
            yield "edits", edit_distance(wanted, normalise(answer, fold=fold))
            yield "characters", len(wanted)
            yield "words", words.expected
            yield "words_hit", words.hits


def _matched(match: Match) -> Iterator[tuple[str, int]]:
    yield "hits", match.hits
    yield "found", match.found
    yield "expected", match.expected


def _accuracy(counts: dict[str, NDArray[np.float64]], *, text: bool) -> dict[str, float]:
    if "edits" in counts:
        characters, words = counts["characters"].sum(), counts["words"].sum()
        metrics: dict[str, float] = {}
        if characters:
            metrics |= {"cer": counts["edits"].sum() / characters, "exact": (counts["edits"] == 0).mean()}
        if words:
            metrics["word_accuracy"] = counts["words_hit"].sum() / words
        return {name: float(value) for name, value in metrics.items()}
    if "hits" not in counts:
        return {}
    pages = [Match(*map(int, page)) for page in zip(counts["hits"], counts["found"], counts["expected"], strict=True)]
    whole = sum(pages, Match())
    if whole.f1 is None:
        return {}
    if not text:
        return {"hmean": whole.f1, "precision": whole.precision, "recall": whole.recall}
    each = [page.f1 for page in pages if page.f1 is not None]
    return {
        "word_f1": whole.f1,
        "word_precision": whole.precision,
        "word_recall": whole.recall,
        "macro_f1": fmean(each),
    }
