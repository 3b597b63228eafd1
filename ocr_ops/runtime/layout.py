"""Layout: pieces of text as they were found, put together as a page of lines and blocks in reading order.

The page is turned level first. Ruled tables are found in its pixels (`rules`). The rest is parted into columns
(`columns`), those into rows (`rows`), and rows into tables without rules (`tables`), paragraphs and headings
(`blocks`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Block, Cell, Line, Page, Table, Word
from ocr_ops.runtime import columns
from ocr_ops.runtime.blocks import Extent, kind, paragraphs
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.ruled import Ruled, ruled_tables
from ocr_ops.runtime.tables import Aligned, Row, aligned, runs
from ocr_ops.runtime.words import Floats, Indices, Lines, Words, confidence, lines_of, polygons, words_of

MIN_CONFIDENCE = 0.7
"""Words below it are dropped: mostly logos, stamps and specks. On real receipts it costs 0.7 points of recall and
gains 6.5 of precision, on born-digital pages 0.3 and 3.0."""
DOTS = frozenset(".,'`\N{MIDDLE DOT} ")
"""What alone on its row is dirt, or a dotted rule."""
STROKES = DOTS | frozenset("-_=~\N{EN DASH}\N{EM DASH}\N{HORIZONTAL BAR}")
"""What alone on its row is a rule, three or more of it."""
Kind = Literal["text", "heading", "table"]
Polygons = NDArray[np.float32]
P = TypeVar("P", Line, Word, Block, Cell)


@dataclass(slots=True)
class _Draft:
    """A page as it is put together."""

    text: Words
    lines: list[Line] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


def assemble(
    width: int,
    height: int,
    outlines: Sequence[NDArray[np.float32]] | NDArray[np.float32],
    decoded: Sequence[Decoded],
    pixels: NDArray[np.uint8] | None = None,
) -> Page:
    """The page of `width` x `height` pixels that pieces of text make: outlines (N, 4, 2) in its pixels.

    The page's skew, the median of the pieces' own, is taken out first. Columns of text are read one after the other;
    within each, a line is a visual row, whatever gaps it has. Words below `MIN_CONFIDENCE` are dropped, and pieces
    without any other; so are rows of nothing but dots or dashes, which are rules. Ruled tables are looked for in
    `pixels`, uint8 (height, width) or (height, width, 3).
    """
    texts = [_sure(text) for text in decoded]
    kept = _without_rules([i for i, words in enumerate(texts) if words], texts, outlines)
    if not kept:
        return Page(width=width, height=height, lines=())
    pieces = np.asarray([outlines[i] for i in kept], np.float64)
    draft = _Draft(words_of([texts[i] for i in kept], pieces, (width, height)))
    for part in _parts(draft.text, ruled_tables(draft.text, pixels) if pixels is not None else []):
        if isinstance(part, Ruled):
            _add_ruled(draft, part)
        elif len(part):
            _add(draft, lines_of(draft.text, part))
    return Page(width=width, height=height, lines=tuple(draft.lines), blocks=tuple(draft.blocks))


def placed(page: Page, move: Floats, width: int, height: int) -> Page:
    """The page on a sheet of another size, every corner moved by an affine map (2, 3) of points (x, y, 1)."""
    outlines = [*(line.polygon for line in page.lines), *(word.polygon for line in page.lines for word in line.words)]
    outlines += [block.polygon for block in page.blocks]
    outlines += [cell.polygon for block in page.blocks if block.table for cell in block.table.cells]
    if not outlines:
        return page.model_copy(update={"width": width, "height": height})
    corners = np.asarray(outlines, np.float64) @ move[:, :2].T + move[:, 2]
    there = iter(polygons(corners, width, height))

    def moved(part: P) -> P:
        return part.model_copy(update={"polygon": next(there)})

    lines = [moved(line) for line in page.lines]
    lines = [line.model_copy(update={"words": tuple(map(moved, line.words))}) for line in lines]
    blocks = [moved(block) for block in page.blocks]
    for place, block in enumerate(blocks):
        if block.table:
            table = block.table.model_copy(update={"cells": tuple(map(moved, block.table.cells))})
            blocks[place] = block.model_copy(update={"table": table})
    return page.model_copy(update={"width": width, "height": height, "lines": tuple(lines), "blocks": tuple(blocks)})


def _without_rules(
    kept: list[int], texts: Sequence[Sequence[tuple[Decoded, float]]], outlines: Sequence[Polygons] | Polygons
) -> list[int]:
    """Those pieces, of these, that are no rule drawn in dots or dashes: as high as text, dots may lead to something."""
    suspects = [i for i in kept if _like_a_rule("".join(word.text for word, _ in texts[i]))]
    if not suspects:
        return kept
    corners = np.asarray([outlines[i] for i in kept], np.float64)
    heights = np.linalg.norm(corners[:, 3] - corners[:, 0], axis=1)
    thin = heights < np.median(heights) / 2
    suspect = np.isin(kept, suspects)
    top, bottom = corners[~suspect, :, 1].min(1), corners[~suspect, :, 1].max(1)
    middle = corners[:, :, 1].mean(1)[:, None]
    alone = ~((top < middle) & (middle < bottom)).any(1)
    return [i for i, dropped in zip(kept, suspect & (alone | thin), strict=True) if not dropped]


def _like_a_rule(text: str) -> bool:
    return DOTS.issuperset(text) or (len(text) > 2 and STROKES.issuperset(text))


def _sure(decoded: Decoded) -> list[tuple[Decoded, float]]:
    """The words that are kept, with their confidences."""
    return [(word, sure) for word in decoded.words if (sure := word.confidence) >= MIN_CONFIDENCE]


def _parts(text: Words, ruled: Sequence[Ruled]) -> Iterator[Indices | Ruled]:
    """Ruled tables and regions of other words, in reading order.

    To the search for columns, a table is like one word, and so is a piece that runs down the page.
    """
    free = np.ones(len(text.words), bool)
    for table in ruled:
        free[np.concatenate(table.words)] = False
    left = np.flatnonzero(free)
    vertical = text.vertical
    if 2 * vertical.sum() >= len(vertical):  # a page on its side
        yield left
        yield from ruled
        return
    begins = np.flatnonzero(~vertical[text.piece[left]] | (np.diff(text.piece[left], prepend=-1) > 0))
    ends = np.append(begins[1:], len(left))
    if len(left):
        least = np.minimum.reduceat(text.level[left][:, (0, 2)], begins)
        most = np.maximum.reduceat(text.level[left][:, (1, 3)], begins)
        extents = np.stack([least, most], axis=2).reshape(-1, 4)
    else:
        extents = np.zeros((0, 4))
    extents = np.concatenate([extents, np.array([table.extent for table in ruled]).reshape(-1, 4)])
    figures = [_figure(text.words[left[i]].text) for i in begins] + [False] * len(ruled)
    leftmost, rightmost, top, bottom = extents.T
    for region in columns.regions(columns.Units(leftmost, rightmost, top, bottom, np.array(figures)), text.usual):
        rest = np.sort(region[region < len(begins)])
        middle = extents[:, 2:].mean(axis=1)
        for table in sorted(region[region >= len(begins)], key=lambda i: middle[i]):
            above = middle[rest] < middle[table]
            yield _joined(left, begins, ends, rest[above])
            yield ruled[table - len(begins)]
            rest = rest[~above]
        yield _joined(left, begins, ends, rest)


def _joined(words: Indices, begins: Indices, ends: Indices, units: Indices) -> Indices:
    """The words of units."""
    return np.concatenate([words[:0], *(words[begins[unit] : ends[unit]] for unit in units)])


def _figure(word: str) -> bool:
    """Whether a word is mostly digits."""
    return 2 * sum(map(str.isdigit, word)) >= len(word)


def _add(draft: _Draft, found: Lines) -> None:
    """Adds the lines of a region, and their blocks."""
    table_rows = [
        Row(top, bottom, median(s.height for s in row), runs(row, words, draft.text))
        for row, words, (_, _, top, bottom) in zip(found.rows, found.words, found.extents.tolist(), strict=True)
    ]
    place = 0
    for table in [*aligned(table_rows), None]:
        end = table.first if table else len(found.lines)
        _add_text(draft, found, range(place, end))
        if table:
            _add_aligned(draft, found, table, table_rows)
            place = table.end


def _add_text(draft: _Draft, found: Lines, some: range) -> None:
    """Adds some of the lines of a region, and their paragraphs and headings."""
    extents = [
        Extent(left, right, top, bottom, median(s.height for s in row), row[0].vertical, line.text)
        for (left, right, top, bottom), row, line in zip(
            found.extents[some.start : some.stop].tolist(),
            found.rows[some.start : some.stop],
            found.lines[some.start : some.stop],
            strict=True,
        )
    ]
    for members in paragraphs(extents):
        lines = [found.lines[some[i]] for i in members]
        around = found.extents[[some[i] for i in members]]
        _add_block(draft, kind([extents[i] for i in members], draft.text.usual), lines, around)


def _add_block(draft: _Draft, kind: Kind, lines: list[Line], around: Floats, table: Table | None = None) -> None:
    """Adds lines, of extents (L, 4), and the block they are."""
    places = tuple(range(len(draft.lines), len(draft.lines) + len(lines)))
    draft.lines += lines
    [polygon] = draft.text.outlines(_around(around)[None])
    draft.blocks.append(Block(kind=kind, confidence=confidence(lines), polygon=polygon, lines=places, table=table))


def _around(extents: Floats) -> Floats:
    """What holds extents (N, 4)."""
    return np.stack([extents[:, 0].min(), extents[:, 1].max(), extents[:, 2].min(), extents[:, 3].max()])


def _add_aligned(draft: _Draft, found: Lines, table: Aligned, rows: Sequence[Row]) -> None:
    """Adds a table without rules: its lines are those of the page, its cells parts of them."""
    text, first = draft.text, len(draft.lines)
    cells: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    spans: dict[tuple[int, int], int] = {}
    for index in range(table.first, table.end):
        for run, place in zip(rows[index].runs, table.places[index - table.first], strict=True):
            key = place.row, place.column
            spans[key] = max(spans.get(key, 1), place.columns)
            at = first + index - table.first
            cells.setdefault(key, []).extend((at, i, found.words[index][i]) for i in range(run.first, run.end))
    order = sorted(cells)
    begins = [0, *accumulate(len(cells[key]) for key in order[:-1])]
    level = text.level[[word for key in order for _, _, word in cells[key]]]
    least, most = np.minimum.reduceat(level[:, (0, 2)], begins), np.maximum.reduceat(level[:, (1, 3)], begins)
    around = np.stack([least, most], axis=2).reshape(-1, 4)
    made = [
        Cell(
            row=key[0],
            column=key[1],
            column_span=spans[key],
            text=" ".join([text.words[word].text for _, _, word in cells[key]]),
            polygon=polygon,
            words=tuple([(line, word) for line, word, _ in cells[key]]),
        )
        for key, polygon in zip(order, text.outlines(around), strict=True)
    ]
    count = table.places[-1][0].row + 1
    whole = Table(rows=count, columns=len(table.edges) - 1, cells=tuple(made))
    lines = found.lines[table.first : table.end]
    _add_block(draft, "table", lines, found.extents[table.first : table.end], whole)


def _add_ruled(draft: _Draft, table: Ruled) -> None:
    """Adds a ruled table. A row of it is one line, unless one of its cells has several."""
    text, grid, first = draft.text, table.grid, len(draft.lines)
    lines: list[Line] = []
    around: list[Floats] = []
    at: dict[int, tuple[int, int]] = {}
    for row in range(len(grid.y) - 1):
        here = [words for box, words in zip(grid.boxes, table.words, strict=True) if box.row == row and len(words)]
        found = [lines_of(text, words) for words in here]
        if len(found) > 1 and all(len(part.lines) == 1 for part in found):
            found = [lines_of(text, np.sort(np.concatenate(here)))]
        for part in found:
            for line, members, extent in zip(part.lines, part.words, part.extents, strict=True):
                at.update({word: (first + len(lines), i) for i, word in enumerate(members)})
                lines.append(line)
                around.append(extent)
    extents = np.array(
        [(*grid.x[[b.column, b.column + b.columns]], *grid.y[[b.row, b.row + b.rows]]) for b in grid.boxes]
    )
    made = []
    for box, words, polygon in zip(grid.boxes, table.words, text.outlines(extents), strict=True):
        order = sorted(words.tolist(), key=at.__getitem__)
        made.append(
            Cell(
                row=box.row,
                column=box.column,
                row_span=box.rows,
                column_span=box.columns,
                text=" ".join([text.words[word].text for word in order]),
                polygon=polygon,
                words=tuple([at[word] for word in order]),
            )
        )
    whole = Table(rows=len(grid.y) - 1, columns=len(grid.x) - 1, cells=tuple(made))
    _add_block(draft, "table", lines, np.stack(around), whole)
