"""Training data out of born-digital PDFs: lines and pages as they are really set, labelled by their own text."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops.core.errors import BadInput
from ocr_ops.data.pages import INDEX_FILE, LabelledPage, Region
from ocr_ops.data.pdf_pages import PdfPage, page_count, pdf_page
from ocr_ops.data.render_sheet import Segment

Gray = NDArray[np.uint8]
Rng = np.random.Generator

DPI = (72.0, 210.0)
"""Resolutions drawn from, evenly in their logarithm."""
LONGEST = 14.0
"""A line's greatest width in heights; longer ones are parted between words."""
LINES_A_PAGE = 16
SEGMENTS_LEAST = 4
"""A page must have to be kept as a page."""
STRANGE_SHARE = 0.15
"""Segments without letter or figure, or of unknown letters, that a kept page may have."""
LARGEST = 3000
"""Pixels of a kept page's longer side."""
LOWEST = 7.0
"""Pixels of height below which nobody reads a line."""


@dataclass(frozen=True, slots=True)
class Harvest:
    """What came out of a folder of PDFs."""

    documents: int
    pages: int
    lines: int
    unreadable: int


def harvest(folder: Path, out: Path, *, pages_each: int = 2, seed: int = 0, charset: str | None = None) -> Harvest:
    """Renders up to `pages_each` pages of every PDF below `folder` and cuts lines out of them.

    Writes `out`/lines (`labels.tsv` and images) and `out`/pages (`pages.jsonl` and images), grey. With a `charset`
    only lines written in it are kept. A PDF that does not open is counted and passed over. Raises `BadInput` when
    nothing came out.
    """
    documents = sorted(folder.rglob("*.pdf"))
    unreadable = pages = lines = 0
    labels, index = out / "lines" / "labels.tsv", out / "pages" / INDEX_FILE
    for file in (labels, index):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("", encoding="utf-8")
    order = np.random.default_rng(seed).permutation(len(documents))
    for place in tqdm(order, "harvest", unit="pdf", disable=None):
        rng = np.random.default_rng((seed, int(place)))
        try:
            found = _pages(rng, documents[place], pages_each)
        except BadInput:
            unreadable += 1
            continue
        for number, page in found:
            name = f"{place:05}_{number:04}"  # what splits must not part stands before the last underscore
            gray = np.asarray(cv2.cvtColor(page.image, cv2.COLOR_RGB2GRAY), np.uint8)
            cut = [
                (f"{place // 100:03}/{name}-{i:02}.png", *line)
                for i, line in enumerate(_lines(rng, page, gray, charset))
            ]
            for file_name, line, _ in cut:
                _write(out / "lines" / file_name, line)
            with labels.open("a", encoding="utf-8") as rows:
                rows.writelines(f"{file_name}\t{text}\n" for file_name, _, text in cut)
            lines += len(cut)
            if _is_plain(page) and max(gray.shape) < LARGEST:
                _write(out / "pages" / f"{name}.png", gray)
                regions = tuple(map(_region, page.segments))
                with index.open("a", encoding="utf-8") as rows:
                    rows.write(LabelledPage(image=f"{name}.png", regions=regions).canonical + "\n")
                pages += 1
    if not lines:
        raise BadInput(folder, f"{len(documents)} PDFs, no line", "born-digital PDFs", "point at others")
    return Harvest(len(documents) - unreadable, pages, lines, unreadable)


def _pages(rng: Rng, path: Path, count: int) -> list[tuple[int, PdfPage]]:
    """Up to `count` pages of a PDF, at resolutions drawn from `DPI`."""
    numbers = rng.permutation(page_count(path))[:count]
    low, high = np.log(DPI)
    dpis = np.exp(rng.uniform(low, high, len(numbers)))
    return [(int(number), pdf_page(path, int(number), float(dpi))) for number, dpi in zip(numbers, dpis, strict=True)]


def _write(path: Path, image: Gray) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def _is_plain(page: PdfPage) -> bool:
    """Whether the page is worth finding lines on: text, and not formulas or drawings made of letters."""
    strange = sum(
        not any(char.isalnum() for char in segment.text) or "\ufffd" in segment.text for segment in page.segments
    )
    return len(page.segments) >= SEGMENTS_LEAST and strange <= STRANGE_SHARE * len(page.segments)


def _region(segment: Segment) -> Region:
    return Region(polygon=tuple((float(x), float(y)) for x, y in segment.polygon), text=segment.text or "\ufffd")


def _lines(rng: Rng, page: PdfPage, gray: Gray, charset: str | None) -> list[tuple[Gray, str]]:
    """Up to `LINES_A_PAGE` runs of words, framed as a detector would: not quite exactly."""
    allowed = set(charset) if charset else None
    lines: list[tuple[Gray, str]] = []
    for place in rng.permutation(len(page.segments)):
        segment, extents = page.segments[place], page.words[place]
        words = segment.text.split(" ")
        x0, y0, x1, y1 = segment.polygon[(0, 2), :].ravel()
        height = y1 - y0
        if len(words) != len(extents) or height < LOWEST:
            continue
        first = int(rng.integers(len(words))) if x1 - x0 > LONGEST * height else 0
        last = first
        while last + 1 < len(words) and extents[last + 1][1] - extents[first][0] < LONGEST * height:
            last += 1
        if rng.random() < 0.5:
            last = int(rng.integers(first, last + 1))
        text = " ".join(words[first : last + 1])
        if allowed is not None and not allowed.issuperset(text):
            continue
        pad = 0.11 * height
        left = x0 if first == 0 else max(extents[first][0] - pad, (extents[first - 1][1] + extents[first][0]) / 2)
        end = extents[last][1]
        right = x1 if last + 1 == len(words) else min(end + pad, (end + extents[last + 1][0]) / 2)
        shift = rng.normal(0, 0.045, 4) * height
        box = [round(side) for side in (left - abs(shift[0]), y0 + shift[1], right + abs(shift[2]), y1 + shift[3])]
        part = gray[max(0, box[1]) : box[3], max(0, box[0]) : box[2]]
        if min(part.shape) >= 4 and int(part.max()) - int(part.min()) > 40:
            lines.append((part, text))
        if len(lines) == LINES_A_PAGE:
            break
    return lines
