"""Releases and peers on the same pages, page by page in turn: accuracy and cost side by side.

A machine that speeds up or slows down half-way touches all alike, and CPU seconds are only ever compared within a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from pydantic import Field
from tqdm import tqdm

from ocr_ops.bench.peers import Image, Sample, System, Systems
from ocr_ops.bench.suite import page_image, turn
from ocr_ops.core.bundle import Digest
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment, quantile
from ocr_ops.core.scores import Match, match_words
from ocr_ops.core.verdict import Check, worst
from ocr_ops.data.pages import PageSet


class Score(Value):
    """What one system did. A metric that could not be measured is absent."""

    system: str
    version: str
    metrics: dict[str, float]
    """`word_f1`, `word_precision`, `word_recall` over all words; `macro_f1`, the mean over pages; `cpu_s` and `p50_ms`,
    `p95_ms` of a page; `cpu_ratio.PEER`, own CPU seconds over the peer's."""
    samples: dict[str, tuple[float, ...]]
    """By page: `wall_ms`, `cpu_ms`, and the counts `hits`, `found`, `expected`."""
    checks: tuple[Check, ...] = ()
    """What the policy asks of a release; nothing of a peer."""


class Comparison(Record):
    dataset: Digest
    fold: bool
    """The labels tell no case: words were compared case-folded."""
    threads: int
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: Environment = Field(default_factory=Environment.here)
    scores: tuple[Score, ...]
    """Releases first, then peers."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table people read: a row a system, None where nothing was measured."""
        names = dict.fromkeys(name for score in self.scores for name in score.metrics)
        return [
            {
                "system": score.system,
                "version": score.version,
                **{name: score.metrics.get(name) for name in names},
                "verdict": str(worst(check.verdict for check in score.checks)) if score.checks else None,
            }
            for score in self.scores
        ]


@dataclass(slots=True)
class Tally:
    """What one system did so far."""

    samples: list[Sample] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)

    def add(self, sample: Sample, expected: str, *, fold: bool) -> None:
        self.samples.append(sample)
        self.matches.append(match_words(expected, sample.text, fold=fold))

    @property
    def match(self) -> Match:
        return sum(self.matches, Match())

    @property
    def cpu_s(self) -> float | None:
        """Mean CPU seconds of a page; None unless every page's are known."""
        known = [sample.cpu_ms for sample in self.samples if sample.cpu_ms is not None]
        return fmean(known) / 1e3 if known and len(known) == len(self.samples) else None


def compare(systems: Systems, pages: PageSet, policy: Policy) -> Comparison:
    """Has every system read every page, and holds the releases against the policy.

    Words are matched as a multiset, NFKC-normalised, case-folded only when the labels tell no case. Each system reads
    one page untimed first. Errors as `System.read`.
    """
    warm_up(systems.all, page_image(pages, pages.pages[0]))
    tallies = [Tally() for _ in systems.all]
    with tqdm(total=len(pages.pages) * len(tallies), desc="read pages", unit="page", disable=None) as bar:
        for number, page in enumerate(pages.pages):
            image = page_image(pages, page)
            for index in turn(len(tallies), number):
                tallies[index].add(systems.all[index].read(image), page.text, fold=pages.fold)
                bar.update()
    first = len(systems.releases)
    costs = {peer.name: tally.cpu_s for peer, tally in zip(systems.peers, tallies[first:], strict=True)}
    scores = [_score(system, tally, costs) for system, tally in zip(systems.all, tallies, strict=True)]
    judged = [score.model_copy(update={"checks": _checks(score, policy)}) for score in scores[:first]]
    return Comparison(dataset=pages.digest, fold=pages.fold, threads=systems.threads, scores=(*judged, *scores[first:]))


def warm_up(systems: Sequence[System], image: Image) -> None:
    """Set-up and page faults of the first page are not steady state."""
    for system in tqdm(systems, "warm up", unit="system", disable=None):
        system.read(image)


def _checks(score: Score, policy: Policy) -> tuple[Check, ...]:
    f1 = score.metrics.get("word_f1")
    return (
        Check(name=f"word_f1 of {score.system}", found=f1, comparison=">=", limit=policy.min_word_f1),
        *(
            Check(
                name=f"CPU of {score.system} over {peer}'s",
                found=score.metrics.get(f"cpu_ratio.{peer}"),
                comparison="<=",
                limit=limit,
            )
            for peer, limit in sorted(policy.max_cpu_ratio.items())
        ),
    )


def _score(system: System, tally: Tally, costs: dict[str, float | None]) -> Score:
    match = tally.match
    each = [page.f1 for page in tally.matches if page.f1 is not None]
    wall = [sample.wall_ms for sample in tally.samples]
    own = tally.cpu_s
    metrics = {
        "word_f1": match.f1,
        "word_precision": match.precision if match.f1 is not None else None,
        "word_recall": match.recall if match.f1 is not None else None,
        "macro_f1": fmean(each) if each else None,
        "cpu_s": own,
        "p50_ms": quantile(wall, 0.5),
        "p95_ms": quantile(wall, 0.95),
    }
    for name, cost in costs.items():
        if own is not None and cost:
            metrics[f"cpu_ratio.{name}"] = own / cost
    samples = {
        "wall_ms": tuple(wall),
        "cpu_ms": tuple(sample.cpu_ms for sample in tally.samples if sample.cpu_ms is not None),
        "hits": tuple(float(page.hits) for page in tally.matches),
        "found": tuple(float(page.found) for page in tally.matches),
        "expected": tuple(float(page.expected) for page in tally.matches),
    }
    known = {name: value for name, value in metrics.items() if value is not None}
    return Score(system=system.name, version=system.version, metrics=known, samples=samples)
