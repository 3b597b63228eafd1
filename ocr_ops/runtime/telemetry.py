"""The service's Prometheus metrics. Made at first use: BentoML sets the multiprocess folder at start-up."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
    multiprocess,
)

from ocr_ops.core import metrics
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.metrics import CONFIDENCE_BUCKETS, ITEMS_BUCKETS, SECONDS_BUCKETS
from ocr_ops.core.reading import Page
from ocr_ops.core.release import Release
from ocr_ops.core.spec import Task


def documents_in_flight(more: int) -> None:
    """So many more documents are being read; below zero, fewer."""
    _in_flight().inc(more)


def documents_being_read() -> float:
    """How many there are, in all processes of this server."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return REGISTRY.get_sample_value(metrics.IN_FLIGHT) or 0.0
    _forget_dead(Path(folder))
    files = [str(file) for file in Path(folder).glob("gauge_livesum_*.db")]
    found: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    return sum(sample.value for metric in found if metric.name == metrics.IN_FLIGHT for sample in metric.samples)


def document_answered(status: int, seconds: float) -> None:
    """A document was answered with this HTTP status after so many seconds."""
    _requests().labels(str(status)).inc()
    _request_seconds().observe(seconds)


def http_answered(route: str, method: str, status: int, seconds: float) -> None:
    """A request to this route, one of the API's or `other`, was answered."""
    _http_requests().labels(route, method, str(status)).inc()
    _http_seconds().labels(route).observe(seconds)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Times the block as one run of a stage: decode, detection or recognition."""
    start = time.perf_counter()
    try:
        yield
    finally:
        stage_took(name, time.perf_counter() - start)


def stage_took(name: str, seconds: float) -> None:
    """One run of a stage took so many seconds."""
    _stage_seconds().labels(name).observe(seconds)


def batch(task: Task, items: int) -> None:
    """A model call carried so many pages or crops."""
    _batch_items().labels(task).observe(items)


def page_read(page: Page, confidences: Iterable[float]) -> None:
    """A page was read: counts it and its lines.

    `confidences`: the mean of each piece of a line with any text, also of those the page leaves out as doubtful.
    """
    _pages().labels(str(page.orientation)).inc()
    _lines().inc(len(page.lines))
    for confidence in confidences:
        _line_confidence().observe(confidence)


def model_loaded(bundle: ModelBundle, provider: str) -> None:
    """Tells that this process serves the bundle, on that provider."""
    manifest = bundle.manifest
    _model_info().labels(manifest.task, manifest.model, manifest.precision, bundle.digest, provider).set(1)


def model_attested(task: Task, provider: str, *, attested: bool) -> None:
    """Tells whether what this process serves was admitted with its arithmetic."""
    _model_attested().labels(task, provider).set(attested)


def release_loaded(release: Release) -> None:
    """Tells that this process serves the release, and starts the counts that an SLO is made of at zero."""
    _release_info().labels(release.digest).set(1)
    # Prometheus sees no increase in a series that is born with its first event: the first failure would not count.
    for status in ("200", "500", "503"):
        _requests().labels(status)


def store_up(*, up: bool) -> None:
    """Tells whether Redis answers this process."""
    _store_up().set(up)


def store_left(reason: str) -> None:
    """Redis was found away, for this reason."""
    _store_left().labels(reason).inc()


def audit_lost(entries: int) -> None:
    """The audit log could not take so many entries."""
    _audit_lost().inc(entries)


def cache_asked(result: str) -> None:
    """A reading was asked for: hit, miss, wait or bypass."""
    _cache_asked().labels(result).inc()


def cache_bytes(count: int) -> None:
    """What the cache of this process holds."""
    _cache_bytes().set(count)


def job_over(state: str) -> None:
    """A job was read to its end: done or failed."""
    _jobs_over().labels(state).inc()


def webhook_tried(result: str) -> None:
    """A webhook was sent, or failed."""
    _webhooks().labels(result).inc()


def exposition() -> tuple[bytes, str]:
    """The metrics of all processes of this server in Prometheus' text format, and its content type.

    Values of processes that are gone are dropped where they only held while the process lived.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        return generate_latest(), CONTENT_TYPE_LATEST
    _forget_dead(Path(folder))
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_dead(folder: Path) -> None:
    for file in folder.glob("gauge_live*_*.db"):
        if not Path("/proc", file.stem.rpartition("_")[2]).exists():
            file.unlink(missing_ok=True)  # another scrape may be at it, in another process


@cache
def _requests() -> Counter:
    return Counter(metrics.REQUESTS, "Documents answered, by HTTP status.", ["status"])


@cache
def _request_seconds() -> Histogram:
    return Histogram(metrics.REQUEST_SECONDS, "Seconds to answer a document.", buckets=SECONDS_BUCKETS)


@cache
def _http_requests() -> Counter:
    return Counter(metrics.HTTP_REQUESTS, "Requests answered.", ["route", "method", "status"])


@cache
def _http_seconds() -> Histogram:
    return Histogram(metrics.HTTP_SECONDS, "Seconds to answer a request.", ["route"], buckets=SECONDS_BUCKETS)


@cache
def _pages() -> Counter:
    return Counter(metrics.PAGES, "Pages read, by how they were turned.", ["orientation"])


@cache
def _lines() -> Counter:
    return Counter(metrics.LINES, "Lines recognised.")


@cache
def _line_confidence() -> Histogram:
    return Histogram(
        metrics.LINE_CONFIDENCE, "Mean confidence of each piece of a line that was read.", buckets=CONFIDENCE_BUCKETS
    )


@cache
def _stage_seconds() -> Histogram:
    return Histogram(metrics.STAGE_SECONDS, "Seconds a stage took for one call.", ["stage"], buckets=SECONDS_BUCKETS)


@cache
def _batch_items() -> Histogram:
    return Histogram(metrics.BATCH_ITEMS, "Pages or crops a model call carried.", ["task"], buckets=ITEMS_BUCKETS)


@cache
def _model_info() -> Gauge:
    return Gauge(
        metrics.MODEL_INFO,
        "Always 1: which model serves.",
        ["task", "model", "precision", "digest", "provider"],
        multiprocess_mode="livemax",
    )


@cache
def _release_info() -> Gauge:
    return Gauge(metrics.RELEASE_INFO, "Always 1: which release serves.", ["digest"], multiprocess_mode="livemax")


@cache
def _model_attested() -> Gauge:
    return Gauge(
        metrics.MODEL_ATTESTED,
        "1 where the release was admitted on this instruction set and provider.",
        ["task", "provider"],
        multiprocess_mode="livemin",
    )


@cache
def _in_flight() -> Gauge:
    return Gauge(metrics.IN_FLIGHT, "Documents being read now.", multiprocess_mode="livesum")


@cache
def _store_up() -> Gauge:
    return Gauge(metrics.STORE_UP, "1 while Redis answers.", multiprocess_mode="livemin")


@cache
def _store_left() -> Counter:
    return Counter(metrics.STORE_LEFT, "Times Redis was found away.", ["reason"])


@cache
def _audit_lost() -> Counter:
    return Counter(metrics.AUDIT_LOST, "Entries the audit log could not take.")


@cache
def _cache_asked() -> Counter:
    return Counter(metrics.CACHE_ASKED, "Readings asked for, by where they came from.", ["result"])


@cache
def _cache_bytes() -> Gauge:
    return Gauge(metrics.CACHE_BYTES, "Bytes of the cache in the processes.", multiprocess_mode="livesum")


@cache
def _jobs_over() -> Counter:
    return Counter(metrics.JOBS_OVER, "Jobs read to their end.", ["state"])


@cache
def _webhooks() -> Counter:
    return Counter(metrics.WEBHOOKS, "Webhook deliveries tried.", ["result"])
