"""What is measured of a bundle and of a release, and how variants are compared and chosen.

Variants are measured in one process, page by page in turn, so that a machine that speeds up or slows down
touches all of them alike; costs are compared as ratios of the same page, never as seconds of different runs.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops.bench.accuracy import match_regions
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, GateFailed
from ocr_ops.core.policy import Policy, VariantPolicy
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report, quantile
from ocr_ops.core.scores import Match, edit_distance, match_words, normalise
from ocr_ops.core.spec import Task
from ocr_ops.core.verdict import Check, Verdict
from ocr_ops.data.lines import LineSet
from ocr_ops.data.pages import LabelledPage, PageSet
from ocr_ops.runtime.detection import Detector, prepare_page
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.pipeline import Reader
from ocr_ops.runtime.recognition import Recognizer, prepare_crop, whole_crop

T = TypeVar("T")

WARM_UP = 2
"""Pages every variant reads untimed first: set-up and page faults are not steady state."""


@dataclass(slots=True)
class _Tally:
    """What one variant did so far."""

    match: Match = field(default_factory=Match)
    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def timed(self, work: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.cpu_ms.append((time.process_time() - cpu) * 1e3)
        self.wall_ms.append((time.perf_counter() - wall) * 1e3)
        return result


def bench_variants(bundles: Sequence[ModelBundle], pages: PageSet, policy: VariantPolicy) -> list[Report]:
    """Measures variants of one model against the first of them, the float parent, on the same labelled pages.

    Metrics of each report: `accuracy` (detection: hmean at IoU 0.5; recognition: 1 - CER of labelled crops),
    `p50_ms`, `p95_ms`, `p99_ms` and `cpu_ms` of a page, `speedup` (median over pages of parent CPU / own CPU),
    `accuracy_drop`, `size_mb`. Samples: `wall_ms` and `cpu_ms` by page.
    """
    tasks = {bundle.manifest.task for bundle in bundles}
    if len(tasks) != 1:
        raise BadInput("bench", f"bundles of {sorted(tasks) or 'no task'}", "variants of one model", "name one model")
    task: Task = tasks.pop()
    measure = _measure_detection if task == "detection" else _measure_recognition
    tallies = measure(bundles, pages)
    parent = tallies[0]
    dataset = pages.digest
    return [
        _variant_report(bundle, tally, parent, dataset, policy) for bundle, tally in zip(bundles, tallies, strict=True)
    ]


def choose(bundles: Sequence[ModelBundle], reports: Sequence[Report]) -> tuple[ModelBundle, Report]:
    """The cheapest variant that passed. `GateFailed` when none did."""
    passed = [
        (report.metrics["speedup"], bundle, report)
        for bundle, report in zip(bundles, reports, strict=True)
        if report.verdict is Verdict.PASS
    ]
    if not passed:
        found = "; ".join(f"{report.name}: {', '.join(map(str, report.checks))}" for report in reports)
        raise GateFailed("variants", found, "one that passes every check", "train longer, or lower the spec's floor")
    _, bundle, report = max(passed, key=lambda entry: entry[0])
    return bundle, report


def bench_release(release: Release, pages: PageSet, policy: Policy) -> Report:
    """Reads every page end to end.

    Metrics: `word_f1`, `word_precision`, `word_recall` (multiset of words split on white space; case-folded when
    the labels tell no case), `p50_ms`, `p95_ms`, `p99_ms`, `cpu_ms` of a page, `pages`.
    """
    reader = Reader(release)
    tally = _Tally()
    images = [(page, page_image(pages, page)) for page in pages.pages[:WARM_UP]]
    for _, image in images:
        reader.read_page(image)
    for page in tqdm(pages.pages, desc="read pages", unit="page", disable=None):
        image = page_image(pages, page)
        read = tally.timed(partial(reader.read_page, image))
        tally.match += match_words(page.text, read.text, fold=pages.fold)
    metrics = _costs(tally) | {"pages": float(len(pages.pages))}
    if tally.match.f1 is not None:
        metrics |= {
            "word_f1": tally.match.f1,
            "word_precision": tally.match.precision,
            "word_recall": tally.match.recall,
        }
    return Report(
        kind="bench",
        name="end to end",
        subject=release.digest,
        dataset=pages.digest,
        metrics=metrics,
        samples={"wall_ms": tuple(tally.wall_ms), "cpu_ms": tuple(tally.cpu_ms)},
        checks=(Check(name="word_f1", found=tally.match.f1, comparison=">=", limit=policy.min_word_f1),),
    )


def bench_lines(bundles: Sequence[ModelBundle], lines: LineSet) -> list[Report]:
    """Reads labelled line crops with recognition bundles, crop by crop in turn.

    Metrics of each report: `cer` (edits over labelled characters), `exact` (share of lines without an edit),
    `accuracy` (1 - CER, at least 0), `lines`, `unreadable` (crops that do not decode), `cpu_ms` and `p50_ms`, `p95_ms`,
    `p99_ms` of a line. Text is NFKC-normalised, and case-folded when the labels tell no case.
    """
    for bundle in bundles:
        if bundle.manifest.task != "recognition":
            found = f"a {bundle.manifest.task} bundle"
            raise BadInput(bundle.path, found, "a recognition bundle", "leave it out, or drop --lines")
    recognizers = [Recognizer(bundle, threads=1) for bundle in bundles]
    tallies, edits, exact = [_Tally() for _ in bundles], [0] * len(bundles), [0] * len(bundles)
    characters = unreadable = 0
    for number, line in enumerate(tqdm(lines.lines, "read lines", unit="line", disable=None)):
        try:
            image = line.image()
        except BadInput:
            unreadable += 1
            continue
        expected = normalise(line.text, fold=lines.fold)
        characters += len(expected)
        for index in turn(len(bundles), number):
            crop = whole_crop(image, bundles[index].manifest.input)
            (read,) = tallies[index].timed(partial(recognizers[index].recognize, [crop]))
            wrong = edit_distance(expected, normalise(read.text, fold=lines.fold))
            edits[index] += wrong
            exact[index] += not wrong
    dataset = lines.digest
    reports = []
    for bundle, tally, wrong, right in zip(bundles, tallies, edits, exact, strict=True):
        count = len(tally.cpu_ms)
        metrics = _costs(tally) | {"lines": float(count), "unreadable": float(unreadable)}
        accuracy = max(0.0, 1 - wrong / characters) if characters else None
        if accuracy is not None:
            metrics |= {"cer": wrong / characters, "exact": right / count, "accuracy": accuracy}
        reports.append(
            Report(
                kind="lines",
                name=f"{bundle.manifest.model} {bundle.manifest.precision}",
                subject=bundle.digest,
                dataset=dataset,
                metrics=metrics,
                samples={"wall_ms": tuple(tally.wall_ms), "cpu_ms": tuple(tally.cpu_ms)},
                checks=(Check(name="accuracy", found=accuracy, comparison=">=", limit=bundle.manifest.floor),),
            )
        )
    return reports


def _measure_detection(bundles: Sequence[ModelBundle], pages: PageSet) -> list[_Tally]:
    detectors = [Detector(bundle) for bundle in bundles]
    tallies = [_Tally() for _ in bundles]
    for number, page in _with_warm_up(pages, "detection"):
        image = page_image(pages, page)
        expected = [_corners(region.polygon) for region in page.regions if not region.ignored]
        ignored = [_corners(region.polygon) for region in page.regions if region.ignored]
        for index in turn(len(bundles), number):
            tally = tallies[index] if number >= WARM_UP else _Tally()
            prepared = prepare_page(image, bundles[index].manifest.input)
            (found,) = tally.timed(partial(detectors[index].detect, [prepared.pixels]))
            tally.match += match_regions(expected, list(prepared.restore(found)), ignored)
    return tallies


def _measure_recognition(bundles: Sequence[ModelBundle], pages: PageSet) -> list[_Tally]:
    recognizers = [Recognizer(bundle) for bundle in bundles]
    tallies = [_Tally() for _ in bundles]
    for number, page in _with_warm_up(pages, "recognition"):
        image = page_image(pages, page)
        regions = [region for region in page.regions if region.readable]
        if not regions:
            continue
        for index in turn(len(bundles), number):
            tally = tallies[index] if number >= WARM_UP else _Tally()
            crops = [prepare_crop(image, _corners(region.polygon), bundles[index].manifest.input) for region in regions]
            read = tally.timed(partial(recognizers[index].recognize, crops))
            for region, line in zip(regions, read, strict=True):
                expected = normalise(region.text, fold=pages.fold)
                # A line may cost more edits than it has characters; its hits are what is left, not less than none.
                wrong = min(edit_distance(expected, normalise(line.text, fold=pages.fold)), len(expected))
                tally.match += Match(hits=len(expected) - wrong, found=len(expected), expected=len(expected))
    return tallies


def _variant_report(bundle: ModelBundle, tally: _Tally, parent: _Tally, dataset: str, policy: VariantPolicy) -> Report:
    manifest = bundle.manifest
    accuracy = tally.match.f1
    metrics = _costs(tally) | {"size_mb": bundle.graph.stat().st_size / 1e6}
    checks = [Check(name="accuracy", found=accuracy, comparison=">=", limit=manifest.floor)]
    if accuracy is not None and parent.match.f1 is not None:
        metrics |= {"accuracy": accuracy, "accuracy_drop": parent.match.f1 - accuracy}
    if tally.cpu_ms:
        metrics["speedup"] = statistics.median(
            theirs / own for theirs, own in zip(parent.cpu_ms, tally.cpu_ms, strict=True)
        )
    if tally is not parent:
        drop, speedup = metrics.get("accuracy_drop"), metrics.get("speedup")
        checks += [
            Check(name="accuracy_drop", found=drop, comparison="<=", limit=policy.max_accuracy_drop),
            Check(name="speedup", found=speedup, comparison=">=", limit=policy.min_speedup),
        ]
    return Report(
        kind="bench",
        name=f"{manifest.model} {manifest.precision}",
        subject=bundle.digest,
        dataset=dataset,
        metrics=metrics,
        samples={"wall_ms": tuple(tally.wall_ms), "cpu_ms": tuple(tally.cpu_ms)},
        checks=tuple(checks),
    )


def _costs(tally: _Tally) -> dict[str, float]:
    if not tally.wall_ms:
        return {}
    quantiles = {f"p{percent}_ms": quantile(tally.wall_ms, percent / 100) for percent in (50, 95, 99)}
    costs = {name: value for name, value in quantiles.items() if value is not None}
    return costs | {"cpu_ms": statistics.fmean(tally.cpu_ms)}


def _with_warm_up(pages: PageSet, task: Task) -> Iterator[tuple[int, LabelledPage]]:
    """Each page with its number; the first `WARM_UP` numbers go to pages that come again."""
    sequence = (*pages.pages[:WARM_UP], *pages.pages)
    return enumerate(tqdm(sequence, f"bench {task}", unit="page", disable=None))


def turn(count: int, number: int) -> list[int]:
    """0..count-1, starting elsewhere each time: nobody always goes first."""
    return [(start + number) % count for start in range(count)]


def page_image(pages: PageSet, page: LabelledPage) -> NDArray[np.uint8]:
    """A labelled page's pixels, uint8 (H, W, 3) RGB. `UnreadableDocument` naming its file."""
    path = pages.folder / page.image
    return next(page_images(path.read_bytes(), str(path)))


def _corners(polygon: Sequence[tuple[float, float]]) -> NDArray[np.float32]:
    return np.asarray(polygon, np.float32)
