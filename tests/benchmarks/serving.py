"""What a service makes of the cores it has: the shipped one, with and without batches, beside the same models called
in one process, and beside the naive service.

`python -m tests.benchmarks.serving RELEASE FLOAT_RELEASE DOCUMENT...` measures all in turn, several rounds of it, and
writes the table into docs/serving.md. Under other work on the machine look at lines a CPU second: what a service does
with the time it gets; its lines a second are what it got.
"""

import asyncio
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx
import psutil

from ocr_ops.core import metrics
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment, quantile
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, serve
from ocr_ops.release.trial import staged
from ocr_ops.runtime.cpu import cpu_share, thread_count
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.pipeline import Reader
from tests.benchmarks.naive import RELEASE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "serving.md"
ROUNDS, SECONDS = 3, 15.0
MANY = 4
"""Users for each core, where throughput is measured."""
NAMES = {
    "here": "ONNX Runtime in one process a core",
    "served": "this service",
    "alone": "this service, each line a call",
    "naive": "naive BentoML service, float32",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One of these for some seconds."""

    lines: int
    seconds: float
    cpu: float
    """Seconds, of all its processes."""
    times: tuple[float, ...]
    """Seconds of each document."""
    crops: float | None = None
    """Of a call of the recogniser, the mean."""


def read_here(release: Path, documents: Sequence[Path], seconds: float) -> Run:
    """A process a core, each of one thread, with the documents in memory: what the cores can do at most."""
    count = thread_count()
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        work = [
            (release, documents[i % len(documents) :] + documents[: i % len(documents)], seconds) for i in range(count)
        ]
        parts = pool.starmap(_read, work)
    times = tuple(time for part in parts for time in part.times)
    lines, took = sum(part.lines for part in parts), max(part.seconds for part in parts)
    return Run(lines, took, sum(part.cpu for part in parts), times)


def _read(release: Path, documents: Sequence[Path], seconds: float) -> Run:
    reader = Reader(Release.open(release), 1)
    data = [(path.read_bytes(), path.name) for path in documents]
    reader.read(*data[0])
    lines, times = 0, []
    begun, cpu = time.perf_counter(), time.process_time()
    for document in cycle(data):
        start = time.perf_counter()
        if start - begun > seconds:
            break
        lines += sum(len(page.lines) for page in reader.read(*document).pages)
        times.append(time.perf_counter() - start)
    return Run(lines, time.perf_counter() - begun, time.process_time() - cpu, tuple(times))


def ask(server: Server, documents: Sequence[Path], users: int, seconds: float) -> Run:
    """So many users, each sending a document as soon as the last one is answered."""
    before, batches = _cpu(server.pid), _batches(server.url)
    begun = time.perf_counter()
    lines, times = asyncio.run(_users(server.url, documents, users, seconds))
    took = time.perf_counter() - begun
    calls = [after - earlier for after, earlier in zip(_batches(server.url), batches, strict=True)]
    return Run(lines, took, _cpu(server.pid) - before, tuple(times), calls[0] / calls[1] if calls[1] else None)


async def _users(url: str, documents: Sequence[Path], users: int, seconds: float) -> tuple[int, list[float]]:
    data = [(path.name, path.read_bytes()) for path in documents]
    lines, times = 0, []
    begun = time.perf_counter()

    async def user(number: int) -> None:
        nonlocal lines
        for document in cycle(data[number % len(data) :] + data[: number % len(data)]):
            start = time.perf_counter()
            if start - begun > seconds:
                return
            answer = await client.post("/v1/ocr", files={"file": document})
            answer.raise_for_status()
            lines += sum(len(page["lines"]) for page in answer.json()["pages"])
            times.append(time.perf_counter() - start)

    async with httpx.AsyncClient(base_url=url, timeout=300) as client:
        await asyncio.gather(*map(user, range(users)))
    return lines, times


def _cpu(pid: int) -> float:
    """CPU seconds of a server and all its workers so far, and of their children that are gone."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    spent = [process.cpu_times() for process in family]
    return sum(one.user + one.system for one in spent) + sum(
        one.children_user + one.children_system for one in spent[1:]
    )


def _batches(url: str) -> tuple[float, float]:
    """Crops and calls of the recogniser so far; 0 of a service that does not tell."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    found = [re.search(rf'{metrics.BATCH_ITEMS}_{part}{{task="recognition"}} (\S+)', text) for part in ("sum", "count")]
    crops, calls = (float(one[1]) if one else 0.0 for one in found)
    return crops, calls


def measure(release: Path, floating: Path, documents: Sequence[Path]) -> Iterator[tuple[str, int, Run]]:
    """Who, with how many users, and what came of it: all in turn, round after round."""
    many = MANY * thread_count()
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[str, Server] = {}
        for name, settings in (("served", ServingSettings()), ("alone", ServingSettings(max_batch_size=1))):
            workspace = Workspace(folder / name)
            workspace.home.mkdir()
            home = staged(Release.open(release), settings, workspace)
            env = {"OCR_OPS_HOME": str(home), "OCR_OPS_MAX_IN_FLIGHT": str(2 * many), "OCR_OPS_PROMISED_SECONDS": "600"}
            env["OCR_OPS_CACHE"] = "off"  # the same documents come round again, to be read
            servers[name] = held.enter_context(serve(ROOT, env=env, log=folder / f"{name}.log"))
        env = {RELEASE: str(floating), "PYTHONPATH": str(ROOT)}
        servers["naive"] = held.enter_context(serve("tests.benchmarks.naive:Naive", env=env, log=folder / "naive.log"))
        for server in servers.values():
            asyncio.run(_users(server.url, documents, 2, 5))
        for _ in range(ROUNDS):
            yield "here", 1, read_here(release, documents, SECONDS)
            for name, server in servers.items():
                yield name, many, ask(server, documents, many, SECONDS)
            for name in ("served", "alone", "naive"):
                yield name, 1, ask(servers[name], documents, 1, SECONDS / 2)


def table(runs: Mapping[tuple[str, int], Sequence[Run]]) -> str:
    """Medians of the rounds, as Markdown."""
    many = max(users for _, users in runs)
    busy = {name: runs[name, 1 if name == "here" else many] for name in NAMES}
    rate = {name: median(run.lines / run.seconds for run in found) for name, found in busy.items()}
    effort = {name: median(run.lines / run.cpu for run in found) for name, found in busy.items()}
    heads = [
        "",
        "lines/s",
        "of the first",
        "lines a CPU second",
        "of the first",
        "p50",
        "p99",
        "p50, one user",
        "crops",
    ]
    rows = [heads, ["---"] * len(heads)]
    for key, name in NAMES.items():
        p50, p99 = (median(quantile(run.times, q) or 0.0 for run in busy[key]) for q in (0.5, 0.99))
        lone = median(quantile(run.times, 0.5) or 0.0 for run in runs[key, 1])
        crops = [run.crops for run in busy[key] if run.crops]
        rows.append([
            name, f"{rate[key]:.1f}", f"{rate[key] / rate['here']:.2f}", f"{effort[key]:.1f}",
            f"{effort[key] / effort['here']:.2f}", f"{p50:.2f} s", f"{p99:.2f} s", f"{lone:.2f} s",
            f"{median(crops):.1f}" if crops else "",
        ])  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write(found: str) -> None:
    """Puts the table in its place in docs/serving.md."""
    start, end = "<!-- tests/benchmarks/serving.py writes this -->\n", "<!-- until here -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{start}{found}\n{end}{after}", encoding="utf-8")


def main() -> None:
    release, floating, *documents = map(Path, sys.argv[1:])
    runs: dict[tuple[str, int], list[Run]] = {}
    for name, users, run in measure(release, floating, documents):
        runs.setdefault((name, users), []).append(run)
        told = f"{run.lines / run.seconds:.1f} lines/s, {run.lines / max(run.cpu, 1e-9):.1f} a CPU second"
        sys.stderr.write(f"{name}, {users} users: {told}, p50 {quantile(run.times, 0.5):.2f} s, {run.crops or 0:.1f}\n")
    here = Environment.here()
    pages = sum(1 for path in documents for _ in page_images(path.read_bytes(), path.name))
    head = (
        f"{len(documents)} documents of {pages} pages, {cpu_share():g} cores of {here.cpu}, "
        f"{ROUNDS} rounds of {SECONDS:.0f} s, medians; load average of the machine {psutil.getloadavg()[2]:.1f}.\n\n"
    )
    found = head + table(runs)
    write(found)


if __name__ == "__main__":
    main()
