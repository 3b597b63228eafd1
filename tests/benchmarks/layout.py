"""Reading order and tables on pages whose truth is known, read as rows across the page and as laid out.

`python -m tests.benchmarks.layout [RELEASE [FOLDER OF PDFS]]` prints it as a table; docs/layout.md holds one. Without a
release the labelled boxes stand for what a detector finds.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocr_ops.bench.layout import Cells, Order, cells_of, match_tables, order_of
from ocr_ops.core.reading import Page
from ocr_ops.core.release import Release
from ocr_ops.core.scores import Match
from ocr_ops.data.documents import CHARACTERS
from ocr_ops.data.pdf_pages import page_count, pdf_page
from ocr_ops.data.render_articles import ARTICLES
from ocr_ops.data.render_layouts import LAYOUTS, Layouts, ledger
from ocr_ops.data.render_pages import PageRenderer, RenderedPage
from ocr_ops.data.render_sheet import Segment
from ocr_ops.runtime import columns
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.detection import prepare_page
from ocr_ops.runtime.layout import assemble
from ocr_ops.runtime.pipeline import Reader
from ocr_ops.runtime.recognition import prepare_crops
from ocr_ops.runtime.session import to_channels

Picture = NDArray[np.uint8]
SEED, SIDE = 41, 1300


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page to lay out, and its truth."""

    image: Picture
    """(H, W, 3) RGB."""
    segments: tuple[Segment, ...]
    tables: tuple[Cells, ...] = ()


Pieces = Callable[[Sheet], tuple[NDArray[np.float32], list[Decoded]]]


def rendered(layouts: Layouts, count: int, side: int = SIDE) -> Iterator[Sheet]:
    """Pages with text."""
    renderer = PageRenderer(CHARACTERS, layouts=layouts)
    made = (renderer.page(np.random.default_rng((SEED, i)), side) for i in range(count))
    yield from (_sheet(page) for page in made if page.segments)


def _sheet(page: RenderedPage) -> Sheet:
    tables = tuple({place: frozenset({i}) for place, i in cells.items()} for cells in page.tables)
    return Sheet(np.repeat(page.image[:, :, None], 3, axis=2), page.segments, tables)


def born_digital(folder: Path, pages_each: int = 2) -> Iterator[Sheet]:
    """Pages of PDFs; the order of their text layers is the truth, near enough."""
    for path in sorted(folder.rglob("*.pdf")):
        for number in range(min(page_count(path), pages_each)):
            page = pdf_page(path, number)
            yield Sheet(page.image, page.segments)


def labelled(sheet: Sheet) -> tuple[NDArray[np.float32], list[Decoded]]:
    """The labels as if they had been found and read."""
    known = [segment for segment in sheet.segments if segment.text.strip()]
    return np.array([segment.polygon for segment in known]).reshape(-1, 4, 2), [_read(one.text) for one in known]


def _read(text: str) -> Decoded:
    edges = np.linspace(0, 1, len(text) + 1).tolist()
    return Decoded(text, (1.0,) * len(text), tuple(pairwise(edges)))


def read_by(reader: Reader, sheet: Sheet) -> tuple[NDArray[np.float32], list[Decoded]]:
    """What a release finds and reads on the page as it comes."""
    spec = reader.detector.bundle.manifest.input
    prepared = prepare_page(sheet.image, spec)
    polygons = prepared.restore(reader.detector.detect([prepared.pixels])[0])
    inputs = reader.recognizer.bundle.manifest.input
    return polygons, reader.recognizer.recognize(prepare_crops(to_channels(sheet.image, inputs), polygons, inputs))


@dataclass(frozen=True, slots=True)
class Score:
    order: Order
    tables: Match

    def __add__(self, other: "Score") -> "Score":
        return Score(self.order + other.order, self.tables + other.tables)


def score(page: Page, sheet: Sheet) -> Score:
    polygons = [segment.polygon for segment in sheet.segments]
    found = [cells_of(page, block.table, polygons) for block in page.blocks if block.table]
    return Score(order_of(page, polygons), match_tables(sheet.tables, found))


def measured(sheets: Sequence[Sheet], read: Pieces = labelled) -> tuple[Score, Score]:
    """Read as rows across the page, and laid out."""
    before = after = Score(Order(), Match())
    for sheet in sheets:
        size, pieces = (sheet.image.shape[1], sheet.image.shape[0]), read(sheet)
        with across():
            before += score(assemble(*size, *pieces), sheet)
        after += score(assemble(*size, *pieces, sheet.image), sheet)
    return before, after


@contextmanager
def across() -> Iterator[None]:
    """No page has columns while the block runs."""
    regions = columns.regions
    columns.regions = lambda words, _: [np.arange(len(words))]
    try:
        yield
    finally:
        columns.regions = regions


def main(release: str = "", folder: str = "") -> None:
    sets = {
        "articles": list(rendered(ARTICLES, 24)),
        "receipts, invoices, letters, forms": list(rendered(LAYOUTS, 36)),
        "ledgers": list(rendered(((ledger, 1.0),), 12)),
    }
    if folder:
        sets["born-digital PDFs"] = list(born_digital(Path(folder)))
    read = partial(read_by, Reader(Release.open(Path(release)), threads=1)) if release else labelled
    print("| pages | | order error, rows | laid out | breaks, rows | laid out | table F1 |")  # noqa: T201
    print("|---|---|---|---|---|---|---|")  # noqa: T201
    for name, sheets in sets.items():
        before, after = measured(sheets, read)
        figures = (before.order.error, after.order.error, before.order.breaks, after.order.breaks)
        told = " | ".join(f"{figure or 0:.4f}" for figure in figures)
        tables = (
            f"{after.tables.f1:.3f}" if name in {"articles", "ledgers"} else "-"
        )  # of the rest, not all is labelled
        print(f"| {name} | {len(sheets)} | {told} | {tables} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
