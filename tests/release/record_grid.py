"""Measures every cell of a small grid of settings for real, so that a search can be held against brute force.

    python -m tests.release.record_grid BUNDLES PAGES OUT.json --rounds 3

Each cell is a process of its own, forked from one that has imported everything; it reads the pages twice and keeps the
second time. Rounds go through all cells in another order each, and OUT is written after every round. Throughput is
that of a core of one's own, pages a CPU second: a neighbour on the machine then costs it nothing.
"""

import argparse
import json
import multiprocessing
import random
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment, quantile
from ocr_ops.core.scores import Match, match_words
from ocr_ops.data.pages import PageSet, read_pages
from ocr_ops.release.choices import settings_of
from ocr_ops.release.space import Point, Space
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.pipeline import Reader

SPACE = Space(
    {
        "variant": ("fp32 fp32", "fp32 int8", "int8 fp32", "int8 int8"),
        "threads": (1, 2),
        "max_batch_size": (4, 32),
        "max_side": (704, 960, 1280, 1600),
        "buckets": ("model", "128,256,512,1024,2048"),
    }
)


@dataclass(frozen=True, slots=True)
class Cell:
    accuracy: float
    cpu_ms: float
    """Of a page, the mean."""
    slowest_ms: float
    """CPU of a page, the 95th percentile."""
    memory_mb: float


def measure(release: Release, point: Point, pages: PageSet) -> Cell:
    settings = settings_of(point)
    reader = Reader(settings.tuned(release), settings.threads)
    whole, size = reader.recognizer.recognize, settings.max_batch_size

    def in_batches(crops: Sequence[NDArray[np.uint8]]) -> list[Decoded]:
        return [text for i in range(0, len(crops), size) for text in whole(crops[i : i + size])]

    reader.recognizer.recognize = in_batches  # type: ignore[method-assign]
    images = [next(page_images(data, page.image)) for page, data in pages.files()]
    reader.read_page(images[0])
    total, cpu = Match(), []
    for page, image in zip(pages.pages, images, strict=True):
        began = time.process_time()
        text = reader.read_page(image).text
        cpu.append((time.process_time() - began) * 1e3)
        total += match_words(page.text, text, fold=pages.fold)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cell(total.f1 or 0.0, sum(cpu) / len(cpu), quantile(cpu, 0.95) or 0.0, peak)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundles", type=Path)
    parser.add_argument("pages", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    pages = read_pages(given.pages).head(given.count)
    folder = given.out.parent / "grid-releases"
    releases = {}
    for variant in SPACE.choices["variant"]:
        detection, recognition = str(variant).split()
        pair = (f"detection-{given.model}-{detection}", f"recognition-{given.model}-{recognition}")
        bundles = [ModelBundle.open(given.bundles / name) for name in pair]
        releases[variant] = Release.write(folder / str(variant).replace(" ", "-"), bundles[0], bundles[1])
    points = list(SPACE.points())
    rounds: list[list[dict[str, float] | None]] = []
    context = multiprocessing.get_context("fork")
    for number in range(given.rounds):
        cells: list[dict[str, float] | None] = [None] * len(points)
        rounds.append(cells)
        order = random.Random(number).sample(range(len(points)), len(points))
        for index in tqdm(order, desc=f"round {number + 1}", unit="cell"):
            with context.Pool(1) as pool:
                found = pool.apply(measure, (releases[points[index]["variant"]], points[index], pages))
            cells[index] = asdict(found)
        table = {
            "environment": Environment.here().model_dump(mode="json"),
            "releases": {name: release.digest for name, release in releases.items()},
            "pages": pages.digest,
            "choices": SPACE.choices,
            "rounds": [
                {
                    name: [round(cell[name], 4) for cell in done if cell]
                    for name in ("accuracy", "cpu_ms", "slowest_ms", "memory_mb")
                }
                for done in rounds
            ],
        }
        write_atomic(given.out, json.dumps(table, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
