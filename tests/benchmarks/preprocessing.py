"""What each step of preprocessing is worth: word F1 of pages as they are and degraded, without the step and with it.

`python -m tests.benchmarks.preprocessing RELEASE DATASET [PAGES] [STEP...]` prints it as a table; docs/preprocessing.md
holds one.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ocr_ops.bench.degrade import DEGRADATIONS, PAGE_DPI
from ocr_ops.bench.items import Image, page_image
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.release import Release
from ocr_ops.core.scores import Match, match_words
from ocr_ops.data.pages import PageSet, read_pages
from ocr_ops.runtime.pipeline import Reader

WORTH = {
    "orientation": (("orientation", (0, 180)),),
    "contrast": (("contrast", (1, 0.2, 0.05)),),
    "deskew": (("rotation", (0, 2, 5, 10)),),
    "denoise": (("specks", (0, 0.002, 0.01, 0.05)), ("grain", (20, 40))),
    "upscale": (("resolution", (PAGE_DPI, 100, 75)), ("blur", (1, 2))),
}
"""Each step with what it is there to mend, and how badly."""
AS_A_RULE = ReadOptions()


def rows(reader: Reader, pages: PageSet, steps: Sequence[str]) -> Iterator[tuple[str, str, float, float, float, float]]:
    """Step, degradation, strength, word F1 without and with the step, and how much dearer it makes the page.

    Everything else is as `ReadOptions` has it by default.
    """
    images = [page_image(pages, page) for page in pages.pages]
    for step in steps:
        off, on = (AS_A_RULE.model_copy(update={step: wanted}) for wanted in (False, True))
        for name, strengths in WORTH[step]:
            [degradation] = [each for each in DEGRADATIONS if each.name == name]
            for strength in strengths:
                worse = [degradation.apply(image, strength) for image in images]
                without, cheap = _read(reader, pages, worse, off)
                with_it, dear = _read(reader, pages, worse, on)
                yield step, name, strength, without, with_it, dear / cheap


def _read(reader: Reader, pages: PageSet, images: Sequence[Image], options: ReadOptions) -> tuple[float, float]:
    """Word F1 over all pages, and the CPU seconds."""
    start = time.process_time()
    texts = [reader.read_page(image, options).text for image in images]
    spent = time.process_time() - start
    pairs = zip(pages.pages, texts, strict=True)
    total = sum((match_words(page.text, text, fold=pages.fold) for page, text in pairs), Match())
    return total.f1 or 0.0, spent


def main(release: str, dataset: str, count: str = "12", *steps: str) -> None:
    reader = Reader(Release.open(Path(release)), threads=1)
    pages = read_pages(Path(dataset), strict=False)
    every = max(len(pages.pages) // int(count), 1)
    pages = PageSet(pages.folder, pages.pages[::every][: int(count)], pages.fold)
    print("| step | degradation | strength | without | with | CPU |\n|---|---|---|---|---|---|")  # noqa: T201
    for step, name, strength, without, with_it, cost in rows(reader, pages, steps or tuple(WORTH)):
        print(f"| {step} | {name} | {strength:g} | {without:.4f} | {with_it:.4f} | {cost:.2f} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
