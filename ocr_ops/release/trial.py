"""One trial of a serving search: a cheap look at a release in a process of its own, the real service under load."""

import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import psutil
from pydantic import Field, ValidationError

import ocr_ops
from ocr_ops.core.errors import BadInput, NotProven, UsageError
from ocr_ops.core.policy import Positive, Share
from ocr_ops.core.record import Value
from ocr_ops.core.release import Release
from ocr_ops.core.report import quantile
from ocr_ops.core.scores import Match, match_words
from ocr_ops.core.serving import ServingSettings, settings_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import PageSet
from ocr_ops.release.gate import LOCUSTFILE, Sample, files_of, put_load, warm_up
from ocr_ops.release.server import readiness, serve
from ocr_ops.release.space import Outcome
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.pipeline import Reader

MOST_USERS = 16
"""What one gateway worker lets in at a time."""
STILL_RISING = 1.05
"""Twice the users must bring so many times the pages, or there is nothing more to be had."""
FEWEST_ANSWERS = 8
"""Of a step; fewer say nothing about a 95th percentile."""
WARM_UP_DOCUMENTS = 12
"""For each worker, as `gate.WARM_UP_DOCUMENTS`."""
WATCH_SECONDS = 0.5


class Slo(Value):
    """What users are promised while throughput is counted."""

    p95_ms: Positive = 2000.0
    """Of answered requests."""
    failed_share: Share = 0.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`p95_ms=2000,failed_share=0`, each part optional. `UsageError` for anything else."""
        try:
            return cls.model_validate(dict(part.split("=") for part in text.replace(" ", "").split(",") if part))
        except (ValueError, ValidationError):
            expected = "p95_ms=MILLISECONDS,failed_share=SHARE"
            raise UsageError("--slo", repr(text), expected, "name one or both") from None


class Budget(Value):
    """What the service may take."""

    cores: Annotated[int, Field(ge=1)]
    """It is pinned to so many."""
    memory_mb: Positive | None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A release reading the pages alone, on one thread: the least its service can cost."""

    accuracy: float
    """Word F1."""
    cpu_ms: float
    """Of a page, the mean."""
    slowest_ms: float
    """Of a page, at the 95th percentile."""
    memory_mb: float
    """At its peak, both models in one process."""


def rehearse(release: Release, settings: ServingSettings, pages: PageSet) -> Rehearsal:
    """Reads every page with `settings` in a process of its own. `NotProven` when its words are not labelled."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(read_all, release, settings, pages).result()


def read_all(release: Release, settings: ServingSettings, pages: PageSet) -> Rehearsal:
    """As `rehearse`, in this process, whose memory counts whole."""
    reader = Reader(settings.tuned(release), settings.threads or 1)
    images = [next(page_images(data, page.image)) for page, data in pages.files()]
    reader.read_page(images[0])
    total = Match()
    cpu: list[float] = []
    for page, image in zip(pages.pages, images, strict=True):
        began = time.process_time()
        text = reader.read_page(image).text
        cpu.append((time.process_time() - began) * 1e3)
        total += match_words(page.text, text, fold=pages.fold)
    if total.f1 is None:
        raise NotProven(pages.folder, "no words in its labels", "labelled pages", "give --data with labels")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Rehearsal(total.f1, sum(cpu) / len(cpu), quantile(cpu, 0.95) or 0.0, peak)


@dataclass(frozen=True, slots=True)
class Step:
    """So many users for some seconds."""

    users: int
    pages_per_second: float
    p95_ms: float | None
    """Of answered requests; None of none."""
    failed_share: float
    answers: int
    pages: int

    @classmethod
    def of(cls, users: int, samples: Sequence[Sample]) -> Self:
        """Figures of raw samples; the time runs from the first request to the last answer."""
        answered = [sample for sample in samples if not sample.failed]
        seconds = max(s.start + s.ms / 1000 for s in samples) - min(s.start for s in samples) if samples else 0.0
        pages = sum(sample.pages for sample in answered)
        failed = 1 - len(answered) / len(samples) if samples else 1.0
        p95 = quantile([sample.ms for sample in answered], 0.95)
        return cls(users, pages / seconds if seconds > 0 else 0.0, p95, failed, len(answered), pages)

    def meets(self, slo: Slo) -> bool:
        """Whether the SLO held; too few answers are no evidence that it did."""
        fast = self.p95_ms is not None and self.p95_ms <= slo.p95_ms
        return fast and self.failed_share <= slo.failed_share and self.answers >= FEWEST_ANSWERS


def ramp(step: Callable[[int], Step], slo: Slo, first: int) -> tuple[Step | None, list[Step]]:
    """The step of most pages a second that meets the SLO (None: none does), and all that were taken.

    Users double from `first` on while that brings more and the SLO holds; where it does not at once, they halve.
    """
    taken = [step(first)]
    if taken[0].meets(slo):
        best = taken[0]
        while best.users * 2 <= MOST_USERS:
            taken.append(step(best.users * 2))
            if not taken[-1].meets(slo):
                break
            rising = taken[-1].pages_per_second >= STILL_RISING * best.pages_per_second
            best = max(best, taken[-1], key=lambda s: s.pages_per_second)
            if not rising:
                break
        return best, taken
    while taken[-1].users > 1:
        taken.append(step(taken[-1].users // 2))
        if taken[-1].meets(slo):
            return taken[-1], taken
    return None, taken


@dataclass(frozen=True, slots=True)
class Stage:
    """Where services are measured: under which load, held against what, on which cores."""

    documents: Path
    slo: Slo
    seconds: float
    """Of a step of the ramp."""
    cores: tuple[int, ...]
    """The service's."""
    others: tuple[int, ...]
    """Where the load comes from."""
    logs: Path

    def measure(self, release: Release, settings: ServingSettings, accuracy: float) -> Outcome:
        """Serves `release` with `settings` from this clone and finds its throughput at the SLO.

        Raises `ServerDied` when it does not start or stops answering, `NotProven` when it serves something else.
        """
        tree = Path(ocr_ops.__file__).resolve().parent.parent
        if not LOCUSTFILE.is_file():
            raise BadInput(tree, "no load test", "a clone of the toolkit", "run it from a clone")
        with tempfile.TemporaryDirectory(prefix="ocr-ops-search-") as scratch:
            home = staged(release, settings, Workspace(Path(scratch)))
            with (
                pinned(self.cores),
                serve(tree, env={"OCR_OPS_HOME": str(home)}, log=self.logs / "serve.log") as server,
            ):
                found = readiness(server.url)
                expected = (release.digest, settings.digest)
                if (found.get("release"), found.get("serving")) != expected:
                    raise NotProven(server.url, f"{found}", f"release and settings {expected}", "stop what is there")
                documents = WARM_UP_DOCUMENTS * settings.workers_on(len(self.cores))["detection"]
                warm_up(server.url, files_of(self.documents), len(self.cores) + 1, documents)
                with pinned(self.others), _Watch(server.pid) as watch:
                    best, taken = ramp(lambda users: self._step(server.url, users), self.slo, len(self.cores) + 1)
        last = best or taken[-1]
        figures = {
            "users": float(last.users),
            "p95_ms": last.p95_ms or 0.0,
            "failed_share": last.failed_share,
            "cpu_s_a_page": watch.cpu_s / max(sum(step.pages for step in taken), 1),
        }
        throughput = best.pages_per_second if best else 0.0
        return Outcome(accuracy=accuracy, throughput=throughput, memory_mb=watch.memory_mb, figures=figures)

    def _step(self, url: str, users: int) -> Step:
        return Step.of(users, put_load(url, self.documents, users, self.seconds, self.logs))


def staged(release: Release, settings: ServingSettings, workspace: Workspace) -> Path:
    """Lays a release out as the champion of an empty workspace, with settings; its home."""
    workspace.champion.symlink_to(release.path.absolute(), target_is_directory=True)
    settings.save(settings_file(workspace, release.digest))
    return workspace.home


@contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """What this thread starts while the block runs is kept on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Watch:
    """Memory and CPU of a process and all its children while the block runs."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.memory_mb = 0.0
        self.cpu_s = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_now_and_then, daemon=True)

    def __enter__(self) -> Self:
        self._cpu_before = self._cpu()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self.cpu_s = self._cpu() - self._cpu_before

    def _look_now_and_then(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            self._look()

    def _look(self) -> None:
        total = 0.0
        for member in self._family():
            with suppress(psutil.Error):
                total += member.memory_full_info().pss / 2**20  # shared pages count once
        self.memory_mb = max(self.memory_mb, total)

    def _cpu(self) -> float:
        total = 0.0
        for member in self._family():
            with suppress(psutil.Error):
                times = member.cpu_times()
                total += times.user + times.system
        return total

    def _family(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return [self.process, *self.process.children(recursive=True)]
        return []
