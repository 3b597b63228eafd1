"""Blocks: the lines of a region put together as paragraphs and headings."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

BREAK = 0.35
"""Heights of a line by which a paragraph is farther from the one above it than its lines are from each other."""
LARGER = 1.3
"""Ratio of heights of two lines that are not of one paragraph; over the page's lines, of a heading."""
INDENT = (0.8, 6.0)
"""Heights by which a paragraph's first line may stand in from the one before it and the one after it."""
SHORT, FULL, WIDE = 0.8, 0.95, 12.0
"""Shares of a column's width that a paragraph's last line does not fill and another does, in columns so many heights
wide.
"""
HEADING_LINES, HEADING_WORDS = 4, 16
"""A heading has so many at most."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A line on the page turned level, pixels."""

    left: float
    right: float
    top: float
    bottom: float
    height: float
    """Of its text."""
    alone: bool
    """Its text runs down the page: nothing is to be joined to it."""
    text: str


def paragraphs(lines: Sequence[Extent]) -> list[list[int]]:
    """The lines of one region, in reading order, as paragraphs: indices of each one's lines."""
    if not lines:
        return []
    height = median(line.height for line in lines)
    pitches = [_pitch(above, below) for above, below in pairwise(lines)]
    close = [pitch for pitch in pitches if 0.5 * height < pitch < 2 * height]
    usual = median(close) / height if close else 1.2
    column = min(line.left for line in lines), max(line.right for line in lines)
    found = [[0]]
    for place in range(1, len(lines)):
        after = lines[place + 1] if place + 1 < len(lines) else None
        if _parted(lines[place - 1], lines[place], after, usual, column):
            found.append([])
        found[-1].append(place)
    return found


def _pitch(above: Extent, below: Extent) -> float:
    """From the middle of one line to that of the next, pixels."""
    return (below.top + below.bottom - above.top - above.bottom) / 2


def _parted(above: Extent, line: Extent, below: Extent | None, usual: float, column: tuple[float, float]) -> bool:
    """Whether a paragraph begins at `line`. Lines are `usual` apart, in heights."""
    if above.alone or line.alone:
        return True
    low, height = sorted((above.height, line.height))
    if height > LARGER * low:
        return True
    pitch = _pitch(above, line)
    if not 0 < pitch < (usual + BREAK) * (low + height) / 2:
        return True
    indent = line.left - above.left
    if INDENT[0] * height < indent < INDENT[1] * height and (below is None or line.left - below.left > INDENT[0] * low):
        return True
    # A short last line, and then one that fills the column.
    wide = column[1] - column[0]
    return (
        wide > WIDE * height
        and above.right < column[0] + SHORT * wide
        and line.right > column[0] + FULL * wide
        and abs(indent) < INDENT[0] * height
    )


def kind(lines: Sequence[Extent], usual: float) -> Literal["text", "heading"]:
    """What a paragraph is on a page whose lines are `usual` high: headings are large, few words, and no sentence."""
    text = " ".join(line.text for line in lines)
    large = median(line.height for line in lines) > LARGER * usual
    title = len(lines) <= HEADING_LINES and len(text.split()) <= HEADING_WORDS
    return "heading" if large and title and not text[0].islower() and text[-1] not in ".,;" else "text"
