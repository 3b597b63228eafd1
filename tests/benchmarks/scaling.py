"""What more workers make of a larger machine: lines a second of one service after another, and where its CPU goes.

`python -m tests.benchmarks.scaling RELEASE DOCUMENT... --workers 1,1,1 --workers 2,1,1` prints a table, a row for
each; the numbers are of gateway, detection and recognition workers, and without any as many as the service takes by
itself. `--provider` says what runs the models. With `--here` the first row is a process on each core with the documents
in memory, on the CPU.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment, quantile
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import serve
from ocr_ops.release.trial import staged
from ocr_ops.runtime.cpu import cpu_share, thread_count
from tests.benchmarks.load import MOST_WAITING, Request, requests_of, users
from tests.benchmarks.serving import ROOT, markdown, read_here

Row = list[str]
PARTS = ("Gateway", "Detection", "Recognition")


@dataclass(frozen=True, slots=True)
class Load:
    users: int
    seconds: float
    before: float
    """Seconds before anything is counted."""


def measure(release: Release, settings: ServingSettings, provider: str, requests: Sequence[Request], load: Load) -> Row:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "home")
        workspace.home.mkdir()
        env = {"OCR_OPS_HOME": str(staged(release, settings, workspace)), "OCR_OPS_PROVIDER": provider}
        env |= {"OCR_OPS_MAX_IN_FLIGHT": str(MOST_WAITING), "OCR_OPS_PROMISED_SECONDS": "600", "OCR_OPS_CACHE": "off"}
        with serve(ROOT, env=env, log=Path(folder) / "log") as server:
            with users(server.url, requests, load.users) as counted:
                counted(load.before)
                before = spent(server.pid)
                found = counted(load.seconds)
                after = spent(server.pid)
            with users(server.url, requests, 1) as counted:
                alone = counted(load.seconds / 3)
    busy = [f"{(after[part] - before[part]) / found.seconds:.1f}" for part in PARTS]
    return [
        ", ".join(map(str, settings.workers_on(thread_count()).values())),
        f"{found.lines / found.seconds:.0f}",
        f"{len(found.times) / found.seconds:.1f}",
        *busy,
        *(f"{quantile(found.times, q) or 0.0:.2f} s" for q in (0.5, 0.99)),
        f"{quantile(alone.times, 0.5) or 0.0:.3f} s",
    ]


def spent(pid: int) -> Counter[str]:
    """CPU seconds of each part of a service so far, its decoders with the gateway."""
    parts: Counter[str] = Counter()
    for process in psutil.Process(pid).children(recursive=True):
        try:
            words, times = process.cmdline(), process.cpu_times()
        except psutil.Error:
            continue
        part = next((part for part in PARTS if part in words), "Gateway")
        parts[part] += times.user + times.system + times.children_user + times.children_system
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--workers",
        action="append",
        default=[],
        help="GATEWAY,DETECTION,RECOGNITION; without: as many as the service itself takes",
    )
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--users", type=int, default=4 * thread_count())
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--before", type=float, default=0.0, help="seconds of load that are not counted")
    parser.add_argument("--here", action="store_true", help="begin with a process on each core")
    parser.add_argument("release", type=Path)
    parser.add_argument("documents", type=Path, nargs="+")
    asked = parser.parse_args()
    heads = ["gateway, detection, recognition", "lines/s", "documents/s", *(f"{part} cores" for part in PARTS)]
    rows = [[*heads, "p50", "p99", "p50, one user"]]
    rows.append(["---"] * len(rows[0]))
    if asked.here:
        run = read_here(asked.release, asked.documents, asked.seconds)
        row = ["in one process a core", f"{run.rate:.0f}", f"{run.rate * len(run.times) / run.lines:.1f}"]
        rows.append([*row, "", "", "", *(f"{quantile(run.times, q) or 0.0:.2f} s" for q in (0.5, 0.99)), ""])
    release, requests, load = (
        Release.open(asked.release),
        requests_of(asked.documents),
        Load(asked.users, asked.seconds, asked.before),
    )
    for text in asked.workers or [""]:
        names = (f"{part.lower()}_workers" for part in PARTS)
        settings = (
            ServingSettings(**dict(zip(names, map(int, text.split(",")), strict=True))) if text else ServingSettings()
        )
        rows.append(measure(release, settings, asked.provider, requests, load))
        sys.stderr.write(" | ".join(rows[-1]) + "\n")
    sys.stdout.write(f"{asked.provider}, {cpu_share():g} cores of {Environment.here().cpu}, {asked.users} users\n\n")
    sys.stdout.write(f"{markdown(rows)}\n")


if __name__ == "__main__":
    main()
