"""Labelled pages on disk: what benchmarks, calibration and load tests read.

`PAGE_FORMATS` lists the layouts that are understood, told apart by what the folder holds; docs/data.md shows each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ocr_ops.core.errors import BadInput, UsageError
from ocr_ops.core.record import canonical_json, digest_bytes, digest_file
from ocr_ops.data.formats import annotations, doctr, icdar, markup, own, paddleocr, pdf
from ocr_ops.data.labels import (
    IGNORED,
    UNREAD,
    Found,
    Labelled,
    LabelledPage,
    Region,
    Rejected,
    one_case,
    within,
)

INDEX_FILE = own.INDEX_FILE

__all__ = [
    "IGNORED",
    "INDEX_FILE",
    "PAGE_FORMATS",
    "UNREAD",
    "LabelledPage",
    "PageFormat",
    "PageSet",
    "Region",
    "Rejected",
    "page_format",
    "read_pages",
    "scan_pages",
    "write_index",
]


@dataclass(frozen=True, slots=True)
class PageSet:
    """Pages of one folder. The digest covers the pixels and the labels, not their names."""

    folder: Path
    pages: tuple[LabelledPage, ...]
    fold: bool
    """The labels tell no case: score case-folded."""
    rejected: tuple[Rejected, ...] = ()
    """Bad rows left out, where that was asked for."""
    places: tuple[tuple[str, ...], ...] = field(default=(), compare=False, repr=False)
    """Where (file and line, within the folder) each region of each page is written; empty when nobody knows."""

    @property
    def digest(self) -> str:
        parts = [
            [
                digest_file(self.folder / page.image),
                [region.model_dump(mode="json") for region in page.regions],
                *([] if page.transcript is None else [page.transcript]),
            ]
            for page in self.pages
        ]
        return digest_bytes(canonical_json({"fold": self.fold, "pages": parts}).encode())

    def head(self, count: int | None) -> "PageSet":
        """The first `count` pages; all without one."""
        return PageSet(self.folder, self.pages[:count], self.fold, self.rejected, self.places[:count])

    def files(self) -> Iterator[tuple[LabelledPage, bytes]]:
        """Each page with the bytes of its image."""
        for page in self.pages:
            yield page, (self.folder / page.image).read_bytes()

    def located(self) -> Iterator[tuple[LabelledPage, tuple[str, ...]]]:
        """Each page with where each of its regions is written."""
        for index, page in enumerate(self.pages):
            known = self.places[index] if self.places else ()
            yield page, known or tuple(f"{page.image}[{i}]" for i in range(len(page.regions)))


@dataclass(frozen=True, slots=True)
class PageFormat:
    """How a layout is recognised, and read: pages, and bad rows as values between them."""

    holds: Callable[[Path], bool]
    read: Callable[[Path], Found]
    fold: bool = False
    """Its labels never tell the case."""
    images: Callable[[Path], Path] | None = None
    """The folder its images lie in, where that is not the dataset's own."""


PAGE_FORMATS = {
    "pages": PageFormat(own.holds, own.read),
    "sroie": PageFormat(icdar.holds_sroie, icdar.read_sroie, fold=True),
    "funsd": PageFormat(annotations.holds_funsd, annotations.read_funsd),
    "cord": PageFormat(annotations.holds_cord, annotations.read_cord),
    "coco-text": PageFormat(annotations.holds_coco_text, annotations.read_coco_text),
    "doctr": PageFormat(doctr.holds_pages, doctr.read_pages),
    "paddleocr": PageFormat(paddleocr.holds_pages, paddleocr.read_pages),
    "icdar": PageFormat(icdar.holds, icdar.read),
    "hocr": PageFormat(markup.holds_hocr, markup.read_hocr),
    "alto": PageFormat(markup.holds_alto, markup.read_alto),
    "pdf": PageFormat(pdf.holds, pdf.read, images=pdf.cache),
}


def page_format(path: Path) -> str | None:
    """The name of the page format a path holds; the first of several, as listed."""
    return next((name for name, form in PAGE_FORMATS.items() if form.holds(path)), None)


def read_pages(path: Path, form: str | None = None, *, strict: bool = True) -> PageSet:
    """Reads a dataset: a folder, or a label file in it. `form` names its format where the folder does not tell it.

    A bad row raises `BadRecord` naming its file and line; not `strict`, it is left out and listed in `rejected`.
    `BadInput` when the folder holds none of the known layouts or no page at all.
    """
    pages = _scan(path, form, strict=strict)
    if not pages.pages:
        found = "no labelled page"
        if pages.rejected:
            first = pages.rejected[0]
            found += f" but {len(pages.rejected)} bad rows, the first at {first.where}: {first.cause}"
        raise BadInput(path, found, "at least one", "add pages, or point --data elsewhere")
    return pages


def scan_pages(path: Path, form: str | None = None) -> PageSet:
    """As `read_pages` when it is not strict, also when no page is left."""
    return _scan(path, form, strict=False)


def _scan(path: Path, form: str | None, *, strict: bool) -> PageSet:
    name = form or page_format(path)
    if name not in PAGE_FORMATS:
        if form:
            raise UsageError("--format", form, f"one of {', '.join(PAGE_FORMATS)}", "see docs/data.md")
        found = "none of the known layouts" if path.exists() else "no such folder"
        raise BadInput(path, found, "a dataset of labelled pages", "check --data; see docs/data.md for layouts")
    chosen = PAGE_FORMATS[name]
    folder = path if path.is_dir() else path.parent
    labelled: list[Labelled] = []
    rejected: list[Rejected] = []
    for item in chosen.read(path):
        if isinstance(item, Labelled):
            labelled.append(item)
        elif strict:
            raise item
        else:
            rejected.append(Rejected.of(item, folder))
    pages = tuple(item.page for item in labelled)
    places = tuple(tuple(within(folder, place) for place in item.places) for item in labelled)
    images = chosen.images(folder) if chosen.images else folder
    return PageSet(images, pages, chosen.fold or _one_case(pages), tuple(rejected), places)


def write_index(folder: Path, pages: tuple[LabelledPage, ...]) -> PageSet:
    """Writes `pages.jsonl` beside images that are already there."""
    own.write(folder, pages)
    return PageSet(folder, pages, _one_case(pages))


def _one_case(pages: tuple[LabelledPage, ...]) -> bool:
    return one_case(region.text for page in pages for region in page.regions)
