"""What an execution provider makes of the shipped graphs, beside the CPU provider.

`python -m tests.benchmarks.providers PROVIDER RELEASE...` prints a table: milliseconds of a call of each network at
some sizes, the first call at a size, and by how much what comes out differs.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.session import Session
from tests.benchmarks.serving import markdown

SIZES = {
    "detection": ((1, 960, 704), (1, 1600, 1216)),
    "recognition": ((1, 32, 256), (8, 32, 256), (64, 32, 256), (16, 32, 512)),
}
"""Pictures, height and width of a call."""
ROUNDS = 15


def measure(name: str, bundle: ModelBundle, providers: Sequence[str]) -> list[list[str]]:
    """A row for each size of call."""
    channels = bundle.manifest.input.channels
    one, *others = (Session(bundle, thread_count(), provider) for provider in providers)
    rows = []
    for count, height, width in SIZES[bundle.manifest.task]:
        clock = np.random.default_rng(count * width)
        batch = clock.standard_normal((count, channels, height, width), np.float32)
        firsts, times, outputs = [], [], []
        for session in (one, *others):
            taken, made = timed(session, batch)
            firsts.append(taken)
            outputs.append(made)
            times.append(median(timed(session, batch)[0] for _ in range(ROUNDS)))
        apart = max(float(np.abs(made - outputs[0]).max()) for made in outputs[1:])
        cells = [f"{first:.1f} / {rest:.2f}" for first, rest in zip(firsts, times, strict=True)]
        rows.append([name, f"{count} x {height} x {width}", *cells, f"{apart:.1e}"])
    return rows


def timed(session: Session, batch: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """Milliseconds of a call, and what came out."""
    begun = time.perf_counter()
    made = session.run(batch)
    return (time.perf_counter() - begun) * 1e3, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("provider")
    parser.add_argument("releases", type=Path, nargs="+")
    asked = parser.parse_args()
    providers = ("cpu", asked.provider)
    rows = [["network", "call", *(f"{one}, first / median ms" for one in providers), "largest difference"]]
    rows.append(["---"] * len(rows[0]))
    for path in asked.releases:
        release = Release.open(path)
        for bundle in (release.detection, release.recognition):
            name = f"{path.name}, {bundle.manifest.task}"
            rows += measure(name, bundle, providers)
            sys.stderr.write(f"{name}\n")
    sys.stdout.write(f"{thread_count()} threads of {Environment.here().cpu}\n\n{markdown(rows)}\n")


if __name__ == "__main__":
    main()
