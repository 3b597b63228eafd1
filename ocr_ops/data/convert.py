"""Datasets written anew: in another format, or parted into training and test.

Images of pages are copied byte for byte; lines are written as grey PNG. What cannot be read is left out, and told.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
from tqdm import tqdm

from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import digest_bytes, write_atomic
from ocr_ops.data.formats import own, paddleocr
from ocr_ops.data.labels import LabelledPage, Rejected
from ocr_ops.data.lines import LabelledLine, LineSet
from ocr_ops.data.pages import PageSet
from ocr_ops.data.pixels import gray_file, pixel_digest


@dataclass(frozen=True, slots=True)
class Written:
    """A dataset that was written: its label file, and what was left out of it."""

    labels: Path
    images: int
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True)
class Split:
    train: Written
    test: Written


PAGE_WRITERS: dict[str, Callable[[Path, list[LabelledPage]], Path]] = {
    "pages": own.write,
    "paddleocr": paddleocr.write_pages,
}
LINE_FILES = {"lines": paddleocr.LINES_FILE, "paddleocr-lines": paddleocr.CROPS_FILE}


def write_pages(pages: PageSet, out: Path, form: str = "pages") -> Written:
    """Writes pages to an empty folder in one of `PAGE_WRITERS`."""
    require_empty(out)
    kept, rejected = [], list(pages.rejected)
    for page in tqdm(pages.pages, "write pages", unit="page", disable=None):
        try:
            write_atomic(out / page.image, (pages.folder / page.image).read_bytes())
        except OSError as error:
            rejected.append(Rejected(page.image, (error.strerror or str(error)).lower()))
        else:
            kept.append(page)
    return Written(PAGE_WRITERS[form](out, kept), len(kept), tuple(rejected))


def write_lines(lines: LineSet, out: Path, form: str = "lines") -> Written:
    """Writes crops to an empty folder in one of `LINE_FILES`; names begin with the document, so that it stays one."""
    require_empty(out)
    rows, rejected = [], list(lines.rejected)
    for index, line in enumerate(tqdm(lines.lines, "write lines", unit="line", disable=None)):
        name = f"img/{re.sub(r'[^A-Za-z0-9.-]', '-', Path(line.document).stem)}_{index:06}.png"
        try:
            write_atomic(out / name, cv2.imencode(".png", line.image())[1].tobytes())
        except BadInput as error:
            rejected.append(Rejected(line.where, error.found))
        else:
            rows.append((name, line.text))
    return Written(paddleocr.write_lines(out, rows, LINE_FILES[form]), len(rows), tuple(rejected))


def split_pages(pages: PageSet, out: Path, share: float) -> Split:
    """Parts pages by the digest of their pixels into `out`/train and `out`/test."""
    rejected = list(pages.rejected)
    parts: dict[bool, list[LabelledPage]] = {False: [], True: []}
    for page in tqdm(pages.pages, "look at pages", unit="page", disable=None):
        try:
            digest = pixel_digest(gray_file(pages.folder / page.image))
        except BadInput as error:
            rejected.append(Rejected(page.image, error.found))
        else:
            parts[falls_to_test(digest, share)].append(page)
    _both(pages.folder, len(parts[False]), len(parts[True]))
    train, test = (PageSet(pages.folder, tuple(parts[side]), pages.fold) for side in (False, True))
    return Split(write_pages(replace(train, rejected=tuple(rejected)), out / "train"), write_pages(test, out / "test"))


def split_lines(lines: LineSet, out: Path, share: float) -> Split:
    """Parts lines into `out`/train and `out`/test, a document (by the least digest of its lines) never parted."""
    rejected = list(lines.rejected)
    least: dict[str, str] = {}
    readable: list[LabelledLine] = []
    for line in tqdm(lines.lines, "look at lines", unit="line", disable=None):
        try:
            digest = pixel_digest(line.image())
        except BadInput as error:
            rejected.append(Rejected(line.where, error.found))
        else:
            least[line.document] = min(digest, least.get(line.document, digest))
            readable.append(line)
    # Hashed once more: the least of many digests is small.
    test = {name for name, digest in least.items() if falls_to_test(digest_bytes(digest.encode()), share)}
    _both(lines.folder, len(least) - len(test), len(test))
    parts = (tuple(line for line in readable if (line.document in test) == side) for side in (False, True))
    train, rest = (LineSet(lines.folder, part, lines.fold) for part in parts)
    return Split(write_lines(replace(train, rejected=tuple(rejected)), out / "train"), write_lines(rest, out / "test"))


def falls_to_test(digest: str, share: float) -> bool:
    """Whether pixels of that digest belong to the test part: wherever they come from, always the same answer."""
    return int(digest.removeprefix("sha256:")[:8], 16) < share * 2**32


def require_empty(out: Path) -> None:
    """`BadInput` unless a folder is new or empty: nothing of another dataset is mixed in or written over."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(out, "something is there already", "a new or empty folder", "name another, or empty it")


def _both(folder: Path, train: int, test: int) -> None:
    if not train or not test:
        raise BadInput(folder, f"{train} documents to train on, {test} to test", "some of each", "change --share")
