"""What every output asks of a reading: blocks, upright boxes, page numbers, and texts that a file can hold."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import NamedTuple

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Block, Line, Page, Polygon, Reading, Word

_MOST_PAGES = 99_999
"""The largest number `ReadOptions.pages` can name."""
# What neither XML nor a line of text can hold: controls, the separators, surrogates and non-characters.
_SPACES = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]")
_UNFIT = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


class Box(NamedTuple):
    """An upright rectangle in page pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


def box(polygon: Polygon) -> Box:
    """The smallest upright rectangle around a polygon; an empty one's lies in the page's corner."""
    if not polygon:
        return Box(0, 0, 0, 0)
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return Box(min(xs), min(ys), max(xs), max(ys))


def around(boxes: Iterable[Box]) -> Box:
    """The smallest rectangle around all of them."""
    return box(tuple(corner for b in boxes for corner in ((b.left, b.top), (b.right, b.bottom))))


def blocks(page: Page) -> tuple[Block, ...]:
    """The page's blocks. All lines of a page that has none are one block of text."""
    if page.blocks or not page.lines:
        return page.blocks
    extent = around(box(line.polygon) for line in page.lines)
    corners = (
        (extent.left, extent.top),
        (extent.right, extent.top),
        (extent.right, extent.bottom),
        (extent.left, extent.bottom),
    )
    confidence = sum(line.confidence for line in page.lines) / len(page.lines)
    return (Block(kind="text", confidence=min(confidence, 1.0), polygon=corners, lines=tuple(range(len(page.lines)))),)


def lines(page: Page, block: Block) -> Iterator[Line]:
    return (page.lines[index] for index in block.lines)


def words(line: Line) -> tuple[Word, ...]:
    """A line's words; of a line without any, all it says."""
    return line.words or (Word(text=line.text, confidence=line.confidence, polygon=line.polygon),)


def numbered(reading: Reading, options: ReadOptions) -> Iterator[tuple[int, Page]]:
    """Pages with their numbers in the document, counted from 1."""
    wanted = (number for number in range(1, _MOST_PAGES + 1) if options.wants(number))
    return zip(chain(wanted, count(_MOST_PAGES + 1)), reading.pages, strict=False)


def clean(text: str) -> str:
    """`text` on one line, and without what files cannot hold: U+FFFD stands for it."""
    return _UNFIT.sub("\ufffd", _SPACES.sub(" ", text))
