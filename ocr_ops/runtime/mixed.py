"""Mixed pages: text of the document's own and text that was read from pixels, put together as one page."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Line, Page, Word
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.layout import assemble
from ocr_ops.runtime.pdf_text import SPLIT_GAP
from ocr_ops.runtime.recognition import MARGIN_X


def merged(own: Page, read: Page, image: NDArray[np.uint8]) -> Page:
    """The page of both texts; `image`, uint8 (H, W, 3) RGB, is what was read, without the page's own text.

    Laid out anew, so that what was read stands where it belongs; on a page that is turned, at the end.
    """
    if not read.lines:
        return own
    if own.orientation or read.orientation:
        page = _one_after_the_other(own, read)
    else:
        outlines, texts = [], []
        for outline, text in (piece for page in (own, read) for line in page.lines for piece in _pieces(line)):
            outlines.append(outline)
            texts.append(text)
        page = assemble(own.width, own.height, outlines, texts, image)
    return page.model_copy(update={"source": "mixed"})


def _one_after_the_other(own: Page, read: Page) -> Page:
    first = len(own.lines)
    blocks = [block.model_copy(update={"lines": tuple(first + line for line in block.lines)}) for block in read.blocks]
    for place, block in enumerate(blocks):
        if block.table:
            cells = tuple(
                cell.model_copy(update={"words": tuple((first + line, word) for line, word in cell.words)})
                for cell in block.table.cells
            )
            table = block.table.model_copy(update={"cells": cells})
            blocks[place] = block.model_copy(update={"table": table})
    return own.model_copy(update={"lines": (*own.lines, *read.lines), "blocks": (*own.blocks, *blocks)})


def _pieces(line: Line) -> Iterator[tuple[NDArray[np.float32], Decoded]]:
    """A line as pieces of words that stand near each other: an outline (4, 2), and its text."""
    words: list[Word] = []
    for word in line.words:
        if not word.text or len(word.polygon) != 4:
            continue
        if words and _apart(words[-1], word):
            yield _piece(words)
            words = []
        words.append(word)
    if words:
        yield _piece(words)


def _apart(word: Word, after: Word) -> bool:
    (_, right, low, _), (left, *_) = np.array(word.polygon), np.array(after.polygon)
    height = max(float(np.linalg.norm(low - right)), 1.0)
    return float(np.linalg.norm(left - right)) > SPLIT_GAP * height


def _piece(words: list[Word]) -> tuple[NDArray[np.float32], Decoded]:
    first, last = np.array(words[0].polygon), np.array(words[-1].polygon)
    outline = np.stack([first[0], last[1], last[2], first[3]])
    along = outline[1] - outline[0]
    length = max(float(np.linalg.norm(along)), 1e-6)
    margin = MARGIN_X * float(np.linalg.norm(outline[3] - outline[0]))
    text, sure, spans = "", list[float](), list[tuple[float, float]]()
    for word in words:
        ends = (np.array(word.polygon)[:2] - outline[0]) @ along / length
        left, right = ((float(end) + margin) / (length + 2 * margin) for end in ends)
        if text:
            spans.append((spans[-1][1], left))
            sure.append(word.confidence)
            text += " "
        step = (right - left) / len(word.text)
        spans += [(left + i * step, left + (i + 1) * step) for i in range(len(word.text))]
        sure += [word.confidence] * len(word.text)
        text += word.text
    return outline.astype(np.float32), Decoded(text, tuple(sure), tuple(spans))
