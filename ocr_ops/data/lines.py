"""Labelled lines: crops of one line of text each, from files of crops or cut out of labelled pages.

Bad rows never end a training: they are collected in `LineSet.rejected`, and images that turn out not to decode
raise `BadInput` from `LabelledLine.image`, one at a time.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ocr_ops.core.errors import BadInput, BadRecord, OcrOpsError
from ocr_ops.core.reading import Polygon
from ocr_ops.core.record import canonical_json, digest_bytes
from ocr_ops.core.spec import InputSpec
from ocr_ops.data.formats import doctr, gt_txt, lmdb_store, paddleocr
from ocr_ops.data.labels import Rejected, one_case, sides, within
from ocr_ops.data.pages import PageSet, scan_pages
from ocr_ops.data.pixels import Gray, gray, gray_file, pixel_digest
from ocr_ops.runtime.recognition import prepare_crop

HELD_OUT = 26
"""Of 256 documents, those held out."""
LEAST_SIDE = 3
"""Pixels; a region thinner than that holds no text anyone could read."""


@dataclass(frozen=True, slots=True)
class LabelledLine:
    """A crop and its text. `where` is its file and line; `document` is what a split must not part."""

    text: str
    where: str
    document: str
    pixels: Callable[[], Gray]

    def image(self) -> Gray:
        """The crop as uint8 (h, w), grey, decoded now. `BadInput` names the file and what is wrong with it."""
        return self.pixels()


@dataclass(frozen=True, slots=True)
class LineSet:
    """Lines of one dataset, and the rows that were left out."""

    folder: Path
    lines: tuple[LabelledLine, ...]
    fold: bool
    """The labels tell no case (their texts are upper-cased here): learn and score case-folded."""
    rejected: tuple[Rejected, ...] = ()

    @property
    def digest(self) -> str:
        """Of the pixels and the labels, not their names; decodes every image."""
        parts = [[_identity(line), line.text] for line in self.lines]
        return digest_bytes(canonical_json({"fold": self.fold, "lines": parts}).encode())


def read_lines(path: Path, form: str | None = None) -> LineSet:
    """Reads a folder (or label file) of line crops, or a dataset of pages cut into its regions.

    `form` names the format where the folder does not tell it. `BadInput` when nothing usable is left.
    """
    return _usable(scan_lines(path, form))


def scan_lines(path: Path, form: str | None = None) -> LineSet:
    """As `read_lines`, also when nothing usable is left."""
    folder = path if path.is_dir() else path.parent
    name = form or line_format(path)
    if name not in LINE_FORMATS:
        return cut_pages(scan_pages(path, form))
    lines: list[LabelledLine] = []
    rejected: list[Rejected] = []
    for item in LINE_FORMATS[name].read(path):
        if isinstance(item, BadRecord):
            rejected.append(Rejected.of(item, folder))
        else:
            where, image, text = item
            pixels = partial(_stored_image if name == "lmdb" else _file_image, folder, image)
            lines.append(LabelledLine(text, within(folder, where), Path(image).stem, pixels))
    fold = one_case(line.text for line in lines)
    return LineSet(folder, tuple(_grouped(lines, fold=fold)), fold, tuple(rejected))


def held_out(document: str) -> bool:
    """Whether training keeps off a document, so that it can be examined on it: a tenth, by the hash of its name."""
    return hashlib.sha256(document.encode()).digest()[0] < HELD_OUT


def line_format(path: Path) -> str | None:
    """The name of the line format a path holds; none for pages and for what is no dataset."""
    return next((name for name, form in LINE_FORMATS.items() if form.holds(path)), None)


def cut_pages(pages: PageSet) -> LineSet:
    """Every region with a known text as a line of its own; the page's image is its document."""
    lines: list[LabelledLine] = []
    rejected = list(pages.rejected)
    for page, places in pages.located():
        for region, where in zip(page.regions, places, strict=True):
            if not region.readable:
                continue
            if min(sides(region.polygon)) < LEAST_SIDE:
                rejected.append(Rejected(where, "a box without area; expected four corners around the text"))
                continue
            pixels = partial(_region_image, pages.folder / page.image, region.polygon)
            text = " ".join(region.text.split())
            lines.append(LabelledLine(text.upper() if pages.fold else text, where, page.image, pixels))
    return LineSet(pages.folder, tuple(lines), pages.fold, tuple(rejected))


@dataclass(frozen=True, slots=True)
class LineFormat:
    holds: Callable[[Path], bool]
    read: Callable[[Path], Iterator[tuple[str, str, str] | BadRecord]]


LINE_FORMATS = {
    "lines": LineFormat(paddleocr.holds_lines, paddleocr.read_lines),
    "doctr-lines": LineFormat(doctr.holds_lines, doctr.read_lines),
    "lmdb": LineFormat(lmdb_store.holds, lmdb_store.read_lines),
    "gt-txt": LineFormat(gt_txt.holds, gt_txt.read_lines),
}


def _identity(line: LabelledLine) -> str:
    """The digest of a line's pixels; of its place when they do not decode."""
    try:
        return pixel_digest(line.image())
    except OcrOpsError:
        return digest_bytes(line.where.encode())


def _usable(lines: LineSet) -> LineSet:
    if lines.lines:
        return lines
    found = "no labelled line"
    if lines.rejected:
        first = lines.rejected[0]
        found += f" but {len(lines.rejected)} bad ones, the first at {first.where}: {first.cause}"
    raise BadInput(lines.folder, found, "at least one", "mend the labels; see docs/data.md for formats")


def _grouped(lines: list[LabelledLine], *, fold: bool) -> Iterator[LabelledLine]:
    """Names a document by its crops' names up to the last underscore, unless that makes all of them one."""
    names = [line.document.rpartition("_")[0] or line.document for line in lines]
    apart = len(set(names)) > 1
    for line, name in zip(lines, names, strict=True):
        text = line.text.upper() if fold else line.text
        yield replace(line, text=text, document=name if apart else line.document)


def _file_image(folder: Path, name: str) -> Gray:
    return gray_file(folder / name)


def _stored_image(folder: Path, key: str) -> Gray:
    return gray(lmdb_store.image_bytes(folder, key), f"{folder / lmdb_store.DATA_FILE}: {key}")


@lru_cache(maxsize=4)  # lines come page by page
def _page_image(path: Path) -> Gray:
    return gray_file(path)


def _region_image(path: Path, polygon: Polygon) -> Gray:
    """The region cut out as serving cuts it, at its own height."""
    page = _page_image(path)
    height, width = page.shape
    middle = np.mean(polygon, axis=0)
    if not (0 <= middle[0] < width and 0 <= middle[1] < height):
        found = f"a region around ({middle[0]:.0f}, {middle[1]:.0f})"
        raise BadInput(path, found, f"one on the page of {width} x {height} pixels", "mend its label")
    spec = InputSpec(height=max(8, round(sides(polygon)[1])), stride=1, max_side=max(32, 4 * (width + height)))
    return prepare_crop(page, np.asarray(polygon, np.float32), spec)
