"""Where the CPU time of a page goes: the networks, and each stage of our own code around them.

`python -m tests.benchmarks.stages RELEASE DOCUMENT...` prints it as a table, with what the line renderer draws.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.release import Release
from ocr_ops.data.render_lines import LineRenderer
from ocr_ops.runtime import detection, pipeline, recognition
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.pipeline import AS_A_RULE, Reader

Picture = NDArray[np.uint8]

NETWORK = "network"
OTHER = "all else"
STAGES = {
    "preprocessing": (pipeline, "_prepared"),
    "resize": (pipeline, "prepare_page"),
    "contours": (detection, "polygons"),
    "crops": (pipeline, "prepare_crops"),
    "tensors of lines": (recognition, "to_tensor"),
    "tensor of the page": (detection, "to_tensor"),
    "CTC, per call": (recognition, "most_probable"),
    "CTC, per page": (recognition, "spell"),
    "layout": (pipeline, "assemble"),
}
"""Each stage with the function that is its work; what none of them does is `OTHER`."""


def stages_of(reader: Reader, page: Picture, options: ReadOptions = AS_A_RULE) -> dict[str, float]:
    """CPU seconds of this thread that reading a page takes, by stage. The reader has one thread."""
    spent: dict[str, float] = defaultdict(float)
    with _clocked(reader, spent):
        start = time.thread_time()
        reader.read_page(page, options)
        total = time.thread_time() - start
    return {**spent, OTHER: total - sum(spent.values())}


def own_share(stages: Mapping[str, float]) -> float:
    """The part of a page's CPU time that is not the networks'."""
    return 1 - stages[NETWORK] / sum(stages.values())


def cpu_seconds(work: Callable[[], object]) -> float:
    """What one run of `work` takes of this thread."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def ratio(work: Callable[[], object], reference: Callable[[], object], rounds: int = 7) -> float:
    """The median of `work`'s CPU time over `reference`'s, measured in turn: other load hurts both alike."""
    work(), reference()
    return median(cpu_seconds(work) / cpu_seconds(reference) for _ in range(rounds))


@contextmanager
def _clocked(reader: Reader, spent: dict[str, float]) -> Iterator[None]:
    """Counts what each stage takes into `spent` while the block runs."""
    sessions = [(part.session._session, "run") for part in (reader.detector, reader.recognizer)]
    watched = [*((NETWORK, *place) for place in sessions), *((name, *place) for name, place in STAGES.items())]
    plain = [(owner, name, getattr(owner, name)) for _, owner, name in watched]
    for (stage, owner, name), (_, _, work) in zip(watched, plain, strict=True):
        setattr(owner, name, _counted(work, spent, stage))
    try:
        yield
    finally:
        for owner, name, work in plain:
            setattr(owner, name, work)


def _counted(work: Callable[..., Any], spent: dict[str, float], stage: str) -> Callable[..., Any]:
    def counted(*args: Any, **options: Any) -> Any:
        start = time.thread_time()
        try:
            return work(*args, **options)
        finally:
            spent[stage] += time.thread_time() - start

    return counted


def lines_a_second(chunks: int = 20, size: int = 20, rounds: int = 12) -> float:
    """Lines that the renderer draws in a CPU second, its letters ready: each chunk at its best, as on a quiet core."""
    renderer = LineRenderer("".join(map(chr, range(33, 127))) + " ")

    def draw(chunk: int) -> None:
        for index in range(size):
            renderer.line(np.random.default_rng((chunk, index)))

    spent = [[cpu_seconds(partial(draw, chunk)) for chunk in range(chunks)] for _ in range(rounds)]
    return chunks * size / sum(map(min, zip(*spent, strict=True)))


def table(reader: Reader, pages: Sequence[Picture]) -> str:
    """Milliseconds a page and share of each stage, as Markdown."""
    reader.read_page(pages[0])
    total: dict[str, float] = defaultdict(float)
    for page in pages:
        for stage, seconds in stages_of(reader, page).items():
            total[stage] += seconds / len(pages)
    whole = sum(total.values())
    rows = [f"| {stage} | {seconds * 1e3:.1f} | {seconds / whole:.1%} |" for stage, seconds in _sorted(total)]
    head = ["| stage | CPU ms a page | share |", "|---|---|---|"]
    own = [f"| **own code** | {(whole - total[NETWORK]) * 1e3:.1f} | **{own_share(total):.1%}** |"]
    rate = f"{len(pages)} pages, {1 / whole:.1f} a CPU second."
    return "\n".join([*head, *rows, *own, "", rate])


def _sorted(stages: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(stages.items(), key=lambda item: -item[1])


def main(release: str, *documents: str) -> None:
    reader = Reader(Release.open(Path(release)), threads=1)
    pages = [page for name in documents for page in page_images(Path(name).read_bytes(), name)]
    print(table(reader, pages))  # noqa: T201
    print(f"\nLines drawn a CPU second: {lines_a_second():,.0f}")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
