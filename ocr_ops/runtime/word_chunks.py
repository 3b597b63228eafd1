"""What is set into a Word document in other forms: web pages, also in one file with their pictures, and plain text."""

import base64
import email
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

from ocr_ops.runtime.word_items import HEADING_SIZES, MOST_COLUMNS, Grid, GridCell, Item, Picture, Text

_MAIL = {"message/rfc822", "multipart/related"}
_WEB = {"text/html", "application/xhtml+xml"}
_CHARSET = re.compile(rb"""(?:charset|encoding)=["']?([\w-]{1,40})""", re.IGNORECASE)
_NOT_SHOWN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\n\r\f]+")
_UNSEEN = {"script", "style", "template", "title", "object", "select", "textarea"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
"""Elements that nothing is in."""
_INLINE = {
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd",
    "label", "mark", "nobr", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u",
    "var", "wbr",
}  # fmt: skip
"""Elements that part no paragraphs."""


def chunk_items(data: bytes, kind: str) -> Iterator[Item]:
    """What stands in a part of this type; nothing in one of a type that is not read. Nothing is fetched."""
    kind = kind.partition(";")[0].strip().lower()
    if kind in _MAIL:
        yield from _mail_items(data)
    elif kind in _WEB:
        yield from _web_items(_decoded(data), {})
    elif kind == "text/plain":
        yield from map(Text, filter(str.strip, _decoded(data).splitlines()))


def _mail_items(data: bytes) -> Iterator[Item]:
    """A web page and its pictures in one file, as letters are sent."""
    parts = [
        (part, content)
        for part in email.message_from_bytes(data).walk()
        if isinstance(content := part.get_payload(decode=True), bytes)
    ]
    pictures = {
        str(part[name]).strip("<> "): content
        for part, content in parts
        for name in ("Content-Location", "Content-ID")
        if part[name] and part.get_content_maintype() == "image"
    }
    for part, content in parts:
        if part.get_content_type() in _WEB:
            yield from _web_items(_decoded(content, part.get_content_charset()), pictures)
            return


def _decoded(data: bytes, told: str | None = None) -> str:
    """By how it begins, by UTF-8 if it is that, by what it is told to be, or as Windows wrote of old."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    said = _CHARSET.search(data, 0, 4096)
    for name in ("utf-8-sig", told, said and said[1].decode()):
        with suppress(UnicodeDecodeError, LookupError):
            if name:
                return data.decode(name)
    return data.decode("cp1252", "replace")


def _web_items(text: str, pictures: Mapping[str, bytes]) -> Iterator[Item]:
    page = _Page(pictures)
    with suppress(AssertionError):  # so it ends where it finds what is no markup at all
        page.feed(text)
        page.close()
    page.end()
    yield from page.items


@dataclass(slots=True)
class _Table:
    """A table as its rows and cells come."""

    cells: list[GridCell] = field(default_factory=list)
    row: int = -1
    column: int = 0
    taken: list[int] = field(default_factory=lambda: [0] * MOST_COLUMNS)
    """Of each column, the row before which cells fill it."""
    spans: tuple[int, int] | None = None
    """Rows and columns of the cell that is open."""
    said: list[str] = field(default_factory=list)
    """Its paragraphs."""

    def begin_row(self) -> None:
        self.end_cell()
        self.row, self.column = self.row + 1, 0

    def begin_cell(self, rows: int, columns: int) -> None:
        self.end_cell()
        self.row = max(self.row, 0)
        self.spans = rows, columns

    def end_cell(self) -> None:
        if self.spans is None:
            return
        rows, columns = self.spans
        while self.column < MOST_COLUMNS and self.taken[self.column] > self.row:
            self.column += 1
        free = self.taken[self.column : self.column + columns]
        wide = next((place for place, end in enumerate(free) if end > self.row), len(free))
        if not wide:
            msg = f"a table of over {MOST_COLUMNS} columns"
            raise ValueError(msg)
        self.cells.append(GridCell("\n".join(self.said), self.row, self.column, rows, wide))
        self.taken[self.column : self.column + wide] = [self.row + rows] * wide
        self.column += wide
        self.spans = None
        self.said.clear()

    def grid(self) -> Grid:
        self.end_cell()
        columns = max((cell.column + cell.column_span for cell in self.cells), default=1)
        below = [self.row + 1 - cell.row for cell in self.cells]
        return Grid(
            columns,
            tuple(
                GridCell(cell.text, cell.row, cell.column, min(cell.row_span, most), cell.column_span)
                for cell, most in zip(self.cells, below, strict=True)
            ),
        )


class _Page(HTMLParser):
    """What a web page shows, one under the other. Tables within cells are text of those."""

    def __init__(self, pictures: Mapping[str, bytes]) -> None:
        super().__init__(convert_charrefs=True)
        self.items: list[Item] = []
        self._pictures = pictures
        self._said: list[str] = []
        self._heading = 0
        """Its level; 0 of other text."""
        self._label = ""
        """Of the item of a list that has begun."""
        self._lists: list[int | None] = []
        """Of each list that is open, the number of its last item; None of those without."""
        self._as_written = 0
        """How many elements are open in which spaces and lines are shown as they are written."""
        self._unseen: list[str] = []
        """An element that is not shown, and those of its name within it."""
        self._tables = 0
        self._table = _Table()
        """The outermost one, while tables are open."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if self._unseen:
            self._unseen += [tag] if tag == self._unseen[0] else []
        elif tag not in _EMPTY and (tag in _UNSEEN or _NOT_SHOWN.search(told.get("style") or "")):
            self._unseen.append(tag)
        elif tag == "br":
            self._said.append("\n")
        elif tag == "img":
            self._picture(told.get("src") or "")
        elif tag not in _INLINE:
            self._end_paragraph()
            self._begin(tag, told)

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[0]:
                self._unseen.pop()
        elif tag not in _INLINE | _EMPTY:
            self._end_paragraph()
            self._end(tag)

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._said.append(data if self._as_written else _SPACES.sub(" ", data))

    def end(self) -> None:
        """What has no end of its own ends with the page."""
        self._end_paragraph()
        if self._tables:
            self.items.append(self._table.grid())

    def _end_paragraph(self) -> None:
        text = "".join(self._said).strip()
        self._said.clear()
        if not text:
            return
        text, self._label = f"{self._label} {text}".strip(), ""
        if self._tables:
            self._table.said.append(text)
        elif self._heading:
            size = HEADING_SIZES[min(self._heading, len(HEADING_SIZES) - 1)]
            self.items.append(Text(text, size, heading=True))
        else:
            self.items.append(Text(text))

    def _begin(self, tag: str, told: Mapping[str, str | None]) -> None:
        if tag in _HEADINGS:
            self._heading = _HEADINGS[tag]
        elif tag == "pre":
            self._as_written += 1
        elif tag in {"ol", "ul"}:
            self._lists.append(_number(told.get("start")) - 1 if tag == "ol" else None)
        elif tag == "li":
            last = self._lists[-1] if self._lists else None
            if last is not None:
                self._lists[-1] = last + 1
            self._label = "•" if last is None else f"{last + 1}."
        elif tag == "table":
            self._tables += 1
            if self._tables == 1:
                self._table = _Table()
        elif self._tables == 1 and tag == "tr":
            self._table.begin_row()
        elif self._tables == 1 and tag in {"td", "th"}:
            self._table.begin_cell(_number(told.get("rowspan")), _number(told.get("colspan")))

    def _end(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._heading = 0
        elif tag == "pre":
            self._as_written = max(self._as_written - 1, 0)
        elif tag == "li":
            self._label = ""
        elif tag in {"ol", "ul"}:
            del self._lists[-1:]
        elif tag == "table" and self._tables:
            self._tables -= 1
            if not self._tables:
                self.items.append(self._table.grid())
        elif self._tables == 1 and tag in {"td", "th"}:
            self._table.end_cell()

    def _picture(self, source: str) -> None:
        """One that is in the document."""
        head, _, content = source.partition(",")
        held = self._pictures.get(source) or self._pictures.get(source.removeprefix("cid:"))
        if held is None and head.startswith("data:image/"):
            with suppress(ValueError):
                data = unquote_to_bytes(content)
                held = base64.b64decode(data) if head.endswith(";base64") else data
        if held:
            self.items.append(Picture(held))


def _number(written: str | None) -> int:
    said = (written or "").strip()[:6]
    return max(int(said), 1) if said.isascii() and said.isdigit() else 1
