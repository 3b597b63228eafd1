"""Markdown as GitHub writes it: headings, paragraphs and tables; whatever print means to Markdown is escaped."""

import re

from ocr_ops.core.reading import Block, Page, Reading, Table
from ocr_ops.runtime.outputs.blocks import blocks, clean, lines

PAGE_BREAK = "***"
"""A rule. One of dashes, above pages of which the first is empty, would begin what many programs hide: metadata."""
_HEADING = "##"
"""How high a heading stands, nobody has measured: `#` is left to whoever puts documents together."""
_INLINE = re.compile(r"([\\`*_\[\]<>&~|$])")
_AT_START = re.compile(r"^(?:([#+\-=:])|(\d{1,9})([.)]))")
_CLOSING = re.compile(r"(?<= )(#+)$")
"""What ends a heading without being a part of it."""


def markdown(reading: Reading) -> str:
    """Blocks in reading order; pages are parted by a rule. Lines of a paragraph keep their breaks."""
    whole = f"{PAGE_BREAK}\n\n".join(map(_page, reading.pages)).rstrip("\n")
    return f"{whole}\n" if whole else ""


def _page(page: Page) -> str:
    return "".join(f"{part}\n\n" for block in blocks(page) if (part := _block(page, block)))


def _block(page: Page, block: Block) -> str:
    if block.table is not None and block.table.rows and block.table.columns:
        return _table(block.table)
    texts = [escaped for line in lines(page, block) if (escaped := _line(line.text))]
    if block.kind == "heading":
        return _CLOSING.sub(r"\\\1", f"{_HEADING} {' '.join(texts)}") if texts else ""
    return "\n".join(texts)


def _table(table: Table) -> str:
    """A cell that spans several places stands in the first; the first row is the head, for there must be one."""
    cells = {(cell.row, cell.column): _inline(cell.text) for cell in table.cells}
    rows = [[cells.get((row, column), "") for column in range(table.columns)] for row in range(table.rows)]
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|" + " --- |" * table.columns, *body])


def _line(text: str) -> str:
    """A line that begins no list, heading, quote, rule or table."""
    return _AT_START.sub(lambda start: f"{start[2] or ''}\\{start[1] or start[3]}", _inline(text))


def _inline(text: str) -> str:
    return _INLINE.sub(r"\\\1", clean(text).strip())
