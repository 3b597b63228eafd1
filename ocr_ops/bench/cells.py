"""The matrix of a benchmark: every bundle, release and peer with every provider, number of threads and batch size.

Each cell is opened in a process of its own; its name says what sets it apart from one CPU thread and one item a call.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from ocr_ops.bench.peers import COMMAND, ENDPOINT, peer
from ocr_ops.bench.run import Cell
from ocr_ops.bench.worker import Answer, Image, Read, System, Worker, cores
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.core.spec import Task
from ocr_ops.runtime.detection import Detector, prepare_page
from ocr_ops.runtime.pipeline import Reader
from ocr_ops.runtime.recognition import Recognizer, whole_crop
from ocr_ops.runtime.session import PROVIDER_VARIABLE


@dataclass(frozen=True, slots=True)
class Settings:
    """What the matrix is made of, beside its subjects."""

    providers: Sequence[str] = ("cpu",)
    threads: Sequence[int] = (1,)
    batches: Sequence[int] = (1,)
    """Lines given to a recogniser together. Whole pages go one by one."""

    def __post_init__(self) -> None:
        """`UsageError` for more threads than there are cores."""
        for count in self.threads:
            cores(count)


@dataclass(frozen=True, slots=True)
class Plan:
    """A cell that can be opened. Its version and cores may show only then."""

    cell: Cell
    open: Callable[[], System]
    floor: float | None = None
    """Of a bundle: the least accuracy its model promises."""
    size_mb: float | None = None
    peer: str = ""
    """The peer's name without threads, as policies know it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A cell that is ready to read."""

    cell: Cell
    system: System
    plan: Plan


def plan_bundles(bundles: Sequence[ModelBundle], settings: Settings) -> list[Plan]:
    """Cells of variants of one task. `BadInput` when they are of two, or there are none."""
    tasks = {bundle.manifest.task for bundle in bundles}
    if len(tasks) != 1:
        raise BadInput("bench", f"bundles of {sorted(tasks) or 'no task'}", "variants of one model", "name one model")
    task: Task = tasks.pop()
    start = {"detection": _start_detector, "recognition": _start_recognizer}[task]
    batches = dict.fromkeys(settings.batches) if task == "recognition" else (1,)
    plans = []
    for bundle, provider, threads, batch in product(bundles, settings.providers, settings.threads, batches):
        manifest = bundle.manifest
        cell = Cell(
            name=f"{manifest.model} {manifest.variant}",
            kind="bundle",
            task=task,
            version=short(bundle.digest),
            subject=bundle.digest,
            variant=manifest.variant,
            provider=provider,
            threads=threads,
            batch=batch,
        )
        size = bundle.graph.stat().st_size / 1e6
        plans.append(Plan(cell, _worker(cell, partial(start, bundle.path, provider, threads)), manifest.floor, size))
    return _named(plans)


def plan_releases(releases: Sequence[Release], settings: Settings) -> list[Plan]:
    """Cells of releases, which read whole pages."""
    plans = []
    for release, provider, threads in product(releases, settings.providers, settings.threads):
        bundles = (release.detection, release.recognition)
        cell = Cell(
            name=" + ".join(f"{bundle.manifest.model} {bundle.manifest.variant}" for bundle in bundles),
            kind="release",
            version=short(release.digest),
            subject=release.digest,
            variant=" + ".join(bundle.manifest.variant for bundle in bundles),
            provider=provider,
            threads=threads,
        )
        size = sum(bundle.graph.stat().st_size for bundle in bundles) / 1e6
        start = partial(_start_release, release.path, provider, threads)
        plans.append(Plan(cell, _worker(cell, start), size_mb=size))
    return _named(plans)


def plan_peers(names: Iterable[str], settings: Settings) -> list[Plan]:
    """Cells of peers, which read whole pages. `UsageError` as `peer`."""
    plans = []
    for name, threads in product(dict.fromkeys(names), settings.threads):
        told = name.removeprefix(COMMAND).strip() if name.startswith(COMMAND) else name
        cell = Cell(name=told, kind="peer", version="", threads=threads)
        plans.append(Plan(cell, partial(peer(name), threads), peer=told))
    return _named(plans)


@contextmanager
def opened(plans: Sequence[Plan]) -> Iterator[tuple[Opened, ...]]:
    """All cells, in their order, ready to read; all closed afterwards.

    `OutsideSystem` for a peer or a provider that is not there.
    """
    with ExitStack() as stack:
        systems: dict[int, System] = {}
        # Peers first: one that is missing shows at once.
        for number, plan in sorted(enumerate(plans), key=lambda entry: entry[1].cell.kind != "peer"):
            systems[number] = stack.enter_context(closing(plan.open()))
        yield tuple(Opened(_held(plan.cell, systems[i]), systems[i], plan) for i, plan in enumerate(plans))


def _held(cell: Cell, system: System) -> Cell:
    """The cell with what is known of it once it is open."""
    where = () if cell.name.startswith(ENDPOINT) else cores(cell.threads)
    return cell.model_copy(update={"version": cell.version or system.version, "cores": where})


def _named(plans: Sequence[Plan]) -> list[Plan]:
    """Plans whose names tell them apart, also from those of another digest."""
    subjects = Counter(name for name, _ in {(plan.cell.name, plan.cell.subject) for plan in plans})
    return [replace(plan, cell=_titled(plan.cell, apart=subjects[plan.cell.name] > 1)) for plan in plans]


def _titled(cell: Cell, *, apart: bool) -> Cell:
    parts = [cell.name + (f" @{cell.version}" if apart else "")]
    parts += [cell.provider] * (cell.provider != "cpu")
    parts += [f"{cell.threads} threads"] * (cell.threads != 1)
    parts += [f"batch {cell.batch}"] * (cell.batch != 1)
    return cell.model_copy(update={"name": ", ".join(parts)})


def _worker(cell: Cell, start: Callable[[], Read]) -> Callable[[], System]:
    return partial(Worker, cell.name, cell.version, start, cell.threads)


def _start_release(path: Path, provider: str, threads: int) -> Read:
    os.environ[PROVIDER_VARIABLE] = provider
    reader = Reader(Release.open(path), threads)
    return lambda pages: [reader.read_page(page).text for page in pages]


def _start_detector(path: Path, provider: str, threads: int) -> Read:
    os.environ[PROVIDER_VARIABLE] = provider
    detector = Detector(ModelBundle.open(path), threads)
    spec = detector.bundle.manifest.input

    def read(pages: Sequence[Image]) -> list[Answer]:
        prepared = [prepare_page(page, spec) for page in pages]
        found = detector.detect([page.pixels for page in prepared])
        return [page.restore(np.asarray(boxes)) for page, boxes in zip(prepared, found, strict=True)]

    return read


def _start_recognizer(path: Path, provider: str, threads: int) -> Read:
    os.environ[PROVIDER_VARIABLE] = provider
    recognizer = Recognizer(ModelBundle.open(path), threads)
    spec = recognizer.bundle.manifest.input
    return lambda lines: [read.text for read in recognizer.recognize([whole_crop(line, spec) for line in lines])]
