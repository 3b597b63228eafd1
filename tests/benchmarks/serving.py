"""What a service makes of the cores it has: the shipped one, with and without batches, beside the same models called
in one process, and beside the naive service.

`python -m tests.benchmarks.serving RELEASE FLOAT_RELEASE DOCUMENT...` measures all in turn, several rounds of it, and
writes the tables into docs/serving.md; with `--settings FILE`, as `ocr-ops search` leaves it, also the service that is
set so. Under other work on the machine look at lines a CPU second: what a service does
with the time it gets; its lines a second are what it got.
"""

import argparse
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle, pairwise
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
from tests.benchmarks.load import MOST_WAITING, Request, arrivals, requests_of, users
from tests.benchmarks.naive import RELEASE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "serving.md"
ROUNDS, SECONDS = 6, 10.0
MANY = 4
"""Users for each core, where throughput is measured."""
NAMES = {
    "here": "ONNX Runtime in one process a core",
    "served": "this service",
    "tuned": "this service, as a search set it",
    "alone": "this service, each line a call",
    "naive": "naive BentoML service, float32",
}
SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
"""Of what a service makes at most: how fast documents come where its p99 is looked at."""
CURVE_DOCUMENTS, MOST_DOCUMENTS = 75, 400
"""Of a service that is idle all the while, and at most. A queue takes the more documents to become as long as it will
be, the less idle the service is: as many seconds for a fast and a slow service would flatter the slow one."""
LIMITS = (1.0, 1.5, 2.0, 5.0)
"""Seconds of p99 at which services are compared; the last is what ours promises."""


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
    client: float = 0.0
    """CPU seconds of whoever asked, on the same cores."""

    @property
    def rate(self) -> float:
        return self.lines / self.seconds

    @property
    def effort(self) -> float:
        """Lines a CPU second."""
        return self.lines / max(self.cpu, 1e-9)


def read_here(release: Path, documents: Sequence[Path], seconds: float) -> Run:
    """A process a core, each of one thread, with the documents in memory: what the cores can do at most."""
    count = thread_count()
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        starts = [number * len(documents) // count for number in range(count)]
        work = [(release, [*documents[start:], *documents[:start]], seconds) for start in starts]
        parts = pool.starmap(_read, work)
    times = tuple(time for part in parts for time in part.times)
    lines = sum(part.lines for part in parts)
    # Each ends with its last document.
    return Run(lines, lines / sum(part.rate for part in parts), sum(part.cpu for part in parts), times)


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


def ask(server: Server, requests: Sequence[Request], count: int, seconds: float) -> Run:
    """So many users, each sending a document as soon as the last one is answered."""
    with users(server.url, requests, count) as counted:
        batches, before, own = _batches(server.url), _cpu(server.pid), time.process_time()
        found = counted(seconds)
        own, spent = time.process_time() - own, _cpu(server.pid) - before
        calls = [after - earlier for after, earlier in zip(_batches(server.url), batches, strict=True)]
    crops = calls[0] / calls[1] if calls[1] else None
    return Run(found.lines, found.seconds, spent, tuple(found.times), crops, own)


def curve(server: Server, requests: Sequence[Request], most: float) -> list[tuple[float, float]]:
    """Lines a second and their p99 in seconds, documents coming ever faster, up to near the `most` it can do."""
    points = []
    for share in SHARES:
        rate = share * most
        documents = min(CURVE_DOCUMENTS / (1 - share), MOST_DOCUMENTS)
        found = arrivals(server.url, requests, rate, documents / rate)
        points.append((found.lines / found.seconds, quantile(found.times, 0.99) or 0.0))
    return points


def within(points: Sequence[tuple[float, float]], limit: float) -> float:
    """Lines a second up to which the p99 of a curve stays below a limit, between its points; 0 if it never does."""
    fastest = points[0][0] if points[0][1] <= limit else 0.0
    for (slow, below), (fast, above) in pairwise(points):
        if below > limit:
            break
        part = 1.0 if above <= limit else (limit - below) / (above - below)
        fastest = slow + part * (fast - slow)
    return fastest


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


def measure(
    release: Path, floating: Path, documents: Sequence[Path], tuned: ServingSettings | None = None
) -> tuple[dict[tuple[str, int], list[Run]], dict[str, list[tuple[float, float]]]]:
    """Runs by who and with how many users, all in turn, round after round; and the curves of ours and the naive one."""
    many = MANY * thread_count()
    requests = requests_of(documents)
    runs: dict[tuple[str, int], list[Run]] = {}
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        servers: dict[str, Server] = {}
        ours = {"served": ServingSettings(), "tuned": tuned, "alone": ServingSettings(max_batch_size=1)}
        for name, settings in ours.items():
            if settings is None:
                continue
            workspace = Workspace(folder / name)
            workspace.home.mkdir()
            home = staged(Release.open(release), settings, workspace)
            env = {"OCR_OPS_HOME": str(home), "OCR_OPS_MAX_IN_FLIGHT": str(MOST_WAITING)}
            env["OCR_OPS_PROMISED_SECONDS"] = "600"
            env["OCR_OPS_CACHE"] = "off"  # the same documents come round again, to be read
            servers[name] = held.enter_context(serve(ROOT, env=env, log=folder / f"{name}.log"))
        env = {RELEASE: str(floating), "PYTHONPATH": str(ROOT)}
        servers["naive"] = held.enter_context(serve("tests.benchmarks.naive:Naive", env=env, log=folder / "naive.log"))
        for _ in range(ROUNDS):
            turns = [("here", 1, SECONDS), *((name, many, SECONDS) for name in servers)]
            for name, count, seconds in [*turns, *((name, 1, SECONDS / 2) for name in servers)]:
                here = name == "here"
                run = read_here(release, documents, seconds) if here else ask(servers[name], requests, count, seconds)
                runs.setdefault((name, count), []).append(run)
                told = f"{run.rate:.1f} lines/s, {run.effort:.1f} a CPU second"
                sys.stderr.write(f"{name}, {count} users: {told}, p50 {quantile(run.times, 0.5) or 0:.2f} s\n")
        curves = {}
        for name in ("naive", "served", *(["tuned"] if tuned else [])):
            most = median(len(run.times) / run.seconds for run in runs[name, many])
            curves[name] = curve(servers[name], requests, most)
            told = ", ".join(f"{rate:.1f} at {p99:.2f} s" for rate, p99 in curves[name])
            sys.stderr.write(f"{name}, lines/s at p99: {told}\n")
    return runs, curves


def table(runs: Mapping[tuple[str, int], Sequence[Run]]) -> str:
    """Medians of the rounds, as Markdown."""
    many = max(count for _, count in runs)
    names = {key: name for key, name in NAMES.items() if (key, 1) in runs}
    busy = {name: runs[name, 1 if name == "here" else many] for name in names}
    rate = {name: median(run.rate for run in found) for name, found in busy.items()}
    effort = {name: median(run.effort for run in found) for name, found in busy.items()}
    heads = ["", "lines/s", "of the first", "lines a CPU second", "of the first", "client's CPU", "p50", "p99"]
    heads += ["p50, one user", "crops"]
    rows = [heads, ["---"] * len(heads)]
    for key, name in names.items():
        p50, p99 = (median(quantile(run.times, q) or 0.0 for run in busy[key]) for q in (0.5, 0.99))
        lone = median(quantile(run.times, 0.5) or 0.0 for run in runs[key, 1])
        client = median(run.client / (run.client + run.cpu) for run in busy[key])
        crops = [run.crops for run in busy[key] if run.crops]
        rows.append([
            name, f"{rate[key]:.1f}", f"{rate[key] / rate['here']:.2f}", f"{effort[key]:.1f}",
            f"{effort[key] / effort['here']:.2f}", f"{client:.1%}" if client else "", f"{p50:.2f} s", f"{p99:.2f} s",
            f"{lone:.3f} s", f"{median(crops):.1f}" if crops else "",
        ])  # fmt: skip
    return markdown(rows)


def compared(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """What ours and the naive service make at equal p99, as Markdown."""
    ours = [name for name in curves if name != "naive"]
    heads = ["documents coming by the clock, p99 within", f"{NAMES['naive']}, lines/s"]
    rows = [[*heads, *(head for name in ours for head in (NAMES[name], "ratio"))]]
    rows.append(["---"] * len(rows[0]))
    for limit in LIMITS:
        naive = within(curves["naive"], limit)
        row = [f"{limit:g} s", f"{naive:.1f}"]
        for name in ours:
            found = within(curves[name], limit)
            row += [f"{found:.1f}", f"{found / naive:.2f}" if naive else "naive never"]
        rows.append(row)
    return markdown(rows)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write(found: str) -> None:
    """Puts the tables in their place in docs/serving.md."""
    start, end = "<!-- tests/benchmarks/serving.py writes this -->\n", "<!-- until here -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
    _, _, after = rest.partition(end)
    PAGE.write_text(f"{before}{start}{found}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, help="of the service, as `ocr-ops search` found them")
    parser.add_argument("releases", type=Path, nargs=2)
    parser.add_argument("documents", type=Path, nargs="+")
    asked = parser.parse_args()
    tuned = ServingSettings.from_file(asked.settings) if asked.settings else None
    (release, floating), documents = asked.releases, asked.documents
    runs, curves = measure(release, floating, documents, tuned)
    here = Environment.here()
    pages = sum(1 for path in documents for _ in page_images(path.read_bytes(), path.name))
    head = (
        f"{len(documents)} documents of {pages} pages, {cpu_share():g} cores of {here.cpu}, {ROUNDS} rounds of "
        f"{SECONDS:.0f} s, {MANY} users a core, medians; load average of the machine {psutil.getloadavg()[2]:.1f}.\n\n"
    )
    write(f"{head}{table(runs)}\n\n{compared(curves)}")


if __name__ == "__main__":
    main()
