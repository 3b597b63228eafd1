"""Variants of one model side by side: measured, held against the policy, and the cheapest admitted one chosen.

They run in one process on one thread, page by page in turn, so that a machine that speeds up or slows down touches all
of them alike; costs are compared as ratios of the same page, never as seconds of different runs.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops.bench.accuracy import match_regions, matched
from ocr_ops.bench.admission import admission, prevailing
from ocr_ops.bench.items import page_image
from ocr_ops.bench.slices import region_slices
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, GateFailed
from ocr_ops.core.policy import VariantPolicy
from ocr_ops.core.report import Environment, Report, quantile
from ocr_ops.core.scores import Match, edit_distance, normalise
from ocr_ops.core.spec import Task
from ocr_ops.core.verdict import Check, Verdict
from ocr_ops.data.labels import Region
from ocr_ops.data.pages import LabelledPage, PageSet
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.detection import Detector, prepare_page
from ocr_ops.runtime.recognition import Recognizer, prepare_crop
from ocr_ops.runtime.session import name_of

PASSES = 2
"""How often each variant reads a page, in turn with the others; the cheaper reading counts: what disturbs only adds."""
WARM_UP = 3
"""Readings of the first page that do not count: set-up and page faults are not steady state."""

Samples = dict[str, list[float]]
Work = tuple[Callable[[], Any], Callable[[Any], Mapping[str, Sequence[float]]]]
"""What reads a prepared page, and what scores the answer: counts by name, of each item."""


@dataclass(frozen=True, slots=True)
class _Reader:
    provider: str
    """By its name in `OCR_OPS_PROVIDER`."""
    prepare: Callable[[NDArray[np.uint8], LabelledPage, bool], Work]
    """Of a page, uint8 (H, W, 3) RGB, its labels, and whether they tell no case."""


@dataclass(frozen=True, slots=True)
class _Measured:
    samples: list[Samples]
    """Of each variant."""
    items: list[tuple[str, ...]] = field(default_factory=list)
    """The slices of each line or box."""
    pages: list[tuple[str, ...]] = field(default_factory=list)


def bench_variants(bundles: Sequence[ModelBundle], pages: PageSet, policy: VariantPolicy) -> list[Report]:
    """Measures variants of one model against the first of them, the float parent, on the same labelled pages.

    Metrics of each report: `accuracy` (detection: hmean at IoU 0.5; recognition: 1 - CER of labelled crops),
    `accuracy_drop`, `p50_ms`, `p95_ms`, `p99_ms` and `cpu_ms` of a page, `size_mb`, and `speedup`: the median over
    pages of the parent's CPU time over the variant's, or of time where one does not run on the CPU. Samples: by page
    `wall_ms`, `cpu_ms`; of a detector by page `hits`, `found`, `expected` and by labelled box `missed`; of a recogniser
    by labelled line `edits`, `characters`. Checks: the model's floor, and of all but the parent those of `admission`. A
    variant whose own parent is not the first proves nothing.
    """
    tasks = {bundle.manifest.task for bundle in bundles}
    if len(tasks) != 1:
        raise BadInput("bench", f"bundles of {sorted(tasks) or 'no task'}", "variants of one model", "name one model")
    task, dataset = tasks.pop(), pages.digest
    readers = [_detection(bundle) if task == "detection" else _recognition(bundle) for bundle in bundles]
    measured = _measure(readers, pages, task)
    parent = measured.samples[0]
    # What another device computes costs this process no CPU time, only time.
    cost = "cpu_ms" if all(reader.provider == "cpu" for reader in readers) else "wall_ms"
    slices = {"items": measured.items, "pages": measured.pages}
    here, reports = Environment.here(), []
    for bundle, reader, own in zip(bundles, readers, measured.samples, strict=True):
        accuracy = _accuracy(own)
        checks = [Check(name="accuracy", found=accuracy, comparison=">=", limit=bundle.manifest.floor)]
        checks += _paired(bundle, bundles[0])
        if own is not parent:
            checks += admission(task, own, parent=parent, **slices, policy=policy, cost=cost)
        metrics = _costs(own, parent, cost) | {"size_mb": bundle.graph.stat().st_size / 1e6}
        if accuracy is not None:
            metrics |= {"accuracy": accuracy, "accuracy_drop": (_accuracy(parent) or 0.0) - accuracy}
        reports.append(
            Report(
                kind="bench",
                name=f"{bundle.manifest.model} {bundle.manifest.variant}",
                subject=bundle.digest,
                dataset=dataset,
                environment=here.model_copy(update={"provider": reader.provider}),
                metrics=metrics,
                samples={name: tuple(values) for name, values in own.items()},
                checks=tuple(checks),
            )
        )
    return reports


def _measure(readers: Sequence[_Reader], pages: PageSet, task: Task) -> _Measured:
    """Has every variant read every page."""
    measured = _Measured([defaultdict(list) for _ in readers])
    for page in tqdm(pages.pages, f"bench {task}", unit="page", disable=None):
        image = page_image(pages, page)
        regions = _labelled(page) if task == "detection" else _readable(page)
        if task == "recognition" and not regions:
            continue
        works = [reader.prepare(image, page, pages.fold) for reader in readers]
        for kept, counts in zip(measured.samples, _read(works, len(measured.pages)), strict=True):
            for name, values in counts.items():
                kept[name].extend(values)
        slices = [region_slices(image, _corners(region), region.text) for region in regions]
        measured.items.extend(slices)
        measured.pages.append(prevailing(slices))
    return measured


def _paired(bundle: ModelBundle, first: ModelBundle) -> tuple[Check, ...]:
    """An INVALID check of a bundle made from another than the first: beside a stranger it is admitted to nothing."""
    if bundle.manifest.parent in (None, first.digest):
        return ()
    return (Check(name="readings beside its parent's", found=None, comparison=">=", limit=1),)


def choose(bundles: Sequence[ModelBundle], reports: Sequence[Report]) -> tuple[ModelBundle, Report]:
    """The cheapest variant that passed. `GateFailed` when none did."""
    passed = [
        (report.metrics["speedup"], bundle, report)
        for bundle, report in zip(bundles, reports, strict=True)
        if report.verdict is Verdict.PASS
    ]
    if not passed:
        found = "; ".join(f"{report.name}: {', '.join(refusals(report))}" for report in reports)
        raise GateFailed("variants", found, "one that passes every check", "train longer, or lower the spec's floor")
    _, bundle, report = max(passed, key=lambda entry: entry[0])
    return bundle, report


def refusals(report: Report) -> list[str]:
    """Why a variant is refused: each check that does not pass, with its slice, figure, bound and limit."""
    return [str(check) for check in report.checks if check.verdict is not Verdict.PASS]


def _detection(bundle: ModelBundle) -> _Reader:
    detector = Detector(bundle, threads=1)
    return _Reader(name_of(detector.session.provider), partial(_boxes, detector))


def _recognition(bundle: ModelBundle) -> _Reader:
    recognizer = Recognizer(bundle, threads=1)
    return _Reader(name_of(recognizer.session.provider), partial(_lines, recognizer))


def _boxes(detector: Detector, image: NDArray[np.uint8], page: LabelledPage, _fold: bool) -> Work:
    prepared = prepare_page(image, detector.bundle.manifest.input)
    expected = [_corners(region) for region in _labelled(page)]
    ignored = [_corners(region) for region in page.regions if region.ignored]

    def score(answer: Sequence[NDArray[np.float32]]) -> dict[str, list[float]]:
        boxes = list(prepared.restore(answer[0]))
        match, hit = match_regions(expected, boxes, ignored), {i for i, _ in matched(expected, boxes)}
        counts = {name: [float(getattr(match, name))] for name in ("hits", "found", "expected")}
        return counts | {"missed": [float(i not in hit) for i in range(len(expected))]}

    return partial(detector.detect, [prepared.pixels]), score


def _lines(recognizer: Recognizer, image: NDArray[np.uint8], page: LabelledPage, fold: bool) -> Work:
    regions = _readable(page)
    crops = [prepare_crop(image, _corners(region), recognizer.bundle.manifest.input) for region in regions]
    expected = [normalise(region.text, fold=fold) for region in regions]

    def score(answer: Sequence[Decoded]) -> dict[str, list[float]]:
        read = [normalise(line.text, fold=fold) for line in answer]
        edits = [float(edit_distance(*pair)) for pair in zip(expected, read, strict=True)]
        return {"edits": edits, "characters": [float(len(text)) for text in expected]}

    return partial(recognizer.recognize, crops), score


def _read(works: Sequence[Work], number: int) -> list[dict[str, Sequence[float]]]:
    """Has every variant read page `number`, in turn: of each its costs and counts."""
    if number == 0:
        for read, _ in works:
            for _ in range(WARM_UP):
                read()
    costs: list[list[tuple[float, float]]] = [[] for _ in works]
    answers: dict[int, Any] = {}
    for index in _order(len(works), number):
        wall, cpu = time.perf_counter(), time.process_time()
        answers[index] = works[index][0]()
        costs[index].append(((time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3))
    found = []
    for index, (_, score) in enumerate(works):
        cpu_ms, wall_ms = (min(values) for values in zip(*costs[index], strict=True))
        found.append({"cpu_ms": [cpu_ms], "wall_ms": [wall_ms], **score(answers[index])})
    return found


def _order(count: int, number: int) -> Iterator[int]:
    """Each of 0..count-1 `PASSES` times, starting elsewhere on each page: nobody always goes first."""
    for _ in range(PASSES):
        yield from ((start + number) % count for start in range(count))


def _accuracy(samples: Samples) -> float | None:
    """Of boxes hmean, of lines 1 - CER; None of nothing."""
    if "edits" not in samples:
        return Match(*(int(sum(samples[name])) for name in ("hits", "found", "expected"))).f1
    # A line may cost more edits than it has characters; its hits are what is left, not less than none.
    pairs = zip(samples["edits"], samples["characters"], strict=True)
    characters = sum(samples["characters"])
    return sum(max(0.0, whole - wrong) for wrong, whole in pairs) / characters if characters else None


def _costs(own: Samples, parent: Samples, cost: str) -> dict[str, float]:
    if not own["cpu_ms"]:
        return {}
    quantiles = {f"p{percent}_ms": quantile(own["wall_ms"], percent / 100) for percent in (50, 95, 99)}
    costs = {name: value for name, value in quantiles.items() if value is not None}
    ratios = [theirs / mine for theirs, mine in zip(parent[cost], own[cost], strict=True) if mine > 0]
    speedup = {"speedup": statistics.median(ratios)} if ratios else {}
    return costs | speedup | {"cpu_ms": statistics.fmean(own["cpu_ms"])}


def _labelled(page: LabelledPage) -> list[Region]:
    return [region for region in page.regions if not region.ignored]


def _readable(page: LabelledPage) -> list[Region]:
    return [region for region in page.regions if region.readable]


def _corners(region: Region) -> NDArray[np.float32]:
    return np.asarray(region.polygon, np.float32)
