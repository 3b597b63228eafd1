"""What cells read: pages or lines of a dataset, loaded one at a time, with what is to be found on each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ocr_ops.bench.slices import line_slices, page_slices
from ocr_ops.core.errors import BadInput
from ocr_ops.data.labels import Region
from ocr_ops.data.lines import LineSet
from ocr_ops.data.pages import LabelledPage, PageSet
from ocr_ops.runtime.documents import page_images

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Items:
    """Items in the order they are read. Only their names and labels are held."""

    unit: Literal["page", "line"]
    dataset: str
    """Digest of pixels and labels."""
    fold: bool
    """The labels tell no case: compare case-folded."""
    names: tuple[str, ...]
    expected: tuple[str, ...]
    regions: tuple[tuple[Region, ...], ...]
    """Of each page; of a line, none."""
    load: Callable[[int], Image | None]
    """A page's pixels, uint8 (H, W, 3) RGB, or a line's, uint8 (h, w); None of a line that does not decode."""
    slices: Callable[[int, Image], tuple[str, ...]]
    """The slices an item with these pixels belongs to."""


def of_pages(pages: PageSet) -> Items:
    """Whole pages. Loading one that does not decode raises `UnreadableDocument`."""
    return Items(
        unit="page",
        dataset=pages.digest,
        fold=pages.fold,
        names=tuple(page.image for page in pages.pages),
        expected=tuple(page.text for page in pages.pages),
        regions=tuple(page.regions for page in pages.pages),
        load=lambda number: page_image(pages, pages.pages[number]),
        slices=lambda number, image: page_slices(image, pages.pages[number].regions),
    )


def of_lines(lines: LineSet) -> Items:
    """Single lines."""

    def load(number: int) -> Image | None:
        try:
            return lines.lines[number].image()
        except BadInput:
            return None

    return Items(
        unit="line",
        dataset=lines.digest,
        fold=lines.fold,
        names=tuple(line.where for line in lines.lines),
        expected=tuple(line.text for line in lines.lines),
        regions=((),) * len(lines.lines),
        load=load,
        slices=lambda number, image: line_slices(image, lines.lines[number].text),
    )


def page_image(pages: PageSet, page: LabelledPage) -> Image:
    """A labelled page's pixels, uint8 (H, W, 3) RGB. `UnreadableDocument` naming its file."""
    path = pages.folder / page.image
    return next(page_images(path.read_bytes(), str(path)))
