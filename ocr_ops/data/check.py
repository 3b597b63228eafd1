"""The validator: everything about a dataset that would spoil a training or a benchmark, by file and line."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from ocr_ops.core.errors import BadInput
from ocr_ops.data.labels import UNREAD, Region, sides
from ocr_ops.data.lines import LEAST_SIDE, LINE_FORMATS, LineSet, line_format, scan_lines
from ocr_ops.data.pages import PageSet, scan_pages
from ocr_ops.data.pixels import Gray, gray_file, pixel_digest

Kind = Literal[
    "bad row", "unreadable image", "degenerate box", "outside the page", "characters", "empty label", "duplicate image"
]
WARNINGS: frozenset[Kind] = frozenset({"empty label", "duplicate image"})
"""Worth a look, but nothing breaks. All other kinds are errors."""
TOLERANCE = 0.02
"""A box may reach so far beyond the page, as a share of the page's longer side: labels are drawn by hand."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a dataset: `where` is file and line within it."""

    where: str
    kind: Kind
    cause: str

    @property
    def warning(self) -> bool:
        return self.kind in WARNINGS


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at, and what was found."""

    images: int
    labels: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        return sum(not finding.warning for finding in self.findings)

    @property
    def summary(self) -> str:
        kinds = Counter(finding.kind for finding in self.findings)
        told = ", ".join(f"{kind}: {count}" for kind, count in kinds.most_common()) or "nothing wrong"
        return f"{self.images} images, {self.labels} labels; {told}"


def check(path: Path, form: str | None = None, charset: str | None = None) -> Checked:
    """Reads every label and decodes every image of a dataset.

    Characters are held against `charset`; without one, against what can be printed. `BadInput` when the folder is
    no dataset.
    """
    name = form or line_format(path)
    if name in LINE_FORMATS:
        lines = scan_lines(path, name)
        return Checked(len(lines.lines), len(lines.lines), tuple(_check_lines(lines, charset)))
    pages = scan_pages(path, form)
    labels = sum(len(page.regions) for page in pages.pages)
    return Checked(len(pages.pages), labels, tuple(_check_pages(pages, charset)))


def _check_lines(lines: LineSet, charset: str | None) -> Iterator[Finding]:
    yield from (Finding(row.where, "bad row", row.cause) for row in lines.rejected)
    seen: dict[str, str] = {}
    for line in tqdm(lines.lines, "check lines", unit="line", disable=None):
        yield from _check_text(line.text, line.where, charset)
        image, findings = _decoded(line.image, line.where, seen)
        yield from findings
        if image is not None and min(image.shape) < LEAST_SIDE:
            yield Finding(line.where, "degenerate box", f"an image of {image.shape[1]} x {image.shape[0]} pixels")


def _check_pages(pages: PageSet, charset: str | None) -> Iterator[Finding]:
    yield from (Finding(row.where, "bad row", row.cause) for row in pages.rejected)
    seen: dict[str, str] = {}
    for page, places in tqdm(pages.located(), "check pages", len(pages.pages), unit="page", disable=None):
        image, findings = _decoded(partial(gray_file, pages.folder / page.image), page.image, seen)
        yield from findings
        for region, where in zip(page.regions, places, strict=True):
            if not region.text:
                yield Finding(where, "empty label", "a region without text; `###` says that it is not to be read")
            if not region.ignored:
                yield from _check_text(region.text.replace(UNREAD, ""), where, charset)
                yield from _check_box(region, where, image)


def _decoded(read: Callable[[], Gray], where: str, seen: dict[str, str]) -> tuple[Gray | None, list[Finding]]:
    """An image if it decodes, and what is wrong with it."""
    try:
        image = read()
    except BadInput as error:
        return None, [Finding(where, "unreadable image", error.found)]
    first = seen.setdefault(pixel_digest(image), where)
    return image, [] if first == where else [Finding(where, "duplicate image", f"the same pixels as {first}")]


def _check_text(text: str, where: str, charset: str | None) -> Iterator[Finding]:
    strange = sorted({char for char in text if not (_printable(char) if charset is None else char in charset)})
    if strange:
        named = ", ".join(f"{char!r} U+{ord(char):04X}" for char in strange)
        yield Finding(where, "characters", f"{named}: not {'printable' if charset is None else 'in the charset'}")


def _printable(char: str) -> bool:
    return char.isspace() or not unicodedata.category(char).startswith("C")


def _check_box(region: Region, where: str, image: Gray | None) -> Iterator[Finding]:
    if min(sides(region.polygon)) < LEAST_SIDE:
        width, height = sides(region.polygon)
        yield Finding(where, "degenerate box", f"{width:.0f} x {height:.0f} pixels, {len(region.polygon)} corners")
    if image is None:
        return
    height, width = image.shape
    beyond = max(max(-x, x - width, -y, y - height) for x, y in region.polygon) if region.polygon else 0.0
    if beyond > TOLERANCE * max(height, width):
        yield Finding(where, "outside the page", f"{beyond:.0f} pixels beyond a page of {width} x {height}")
