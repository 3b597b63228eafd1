"""What stands in a Word document, in its order: paragraphs, headings, tables, pictures, breaks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from docx.document import Document
from docx.opc.part import Part
from docx.oxml.ns import qn

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.runtime.word_chunks import chunk_items
from ocr_ops.runtime.word_graphics import GRAPHICS, graphic_texts
from ocr_ops.runtime.word_items import (
    HEADING_SIZES,
    MOST_COLUMNS,
    TEXT_SIZE,
    Grid,
    GridCell,
    Item,
    PageBreak,
    Picture,
    SectionEnd,
    Text,
)
from ocr_ops.runtime.word_lists import Lists
from ocr_ops.runtime.word_notes import INVISIBLE, NOTES, Notes
from ocr_ops.runtime.word_package import is_word, word_document
from ocr_ops.runtime.word_signs import sign, signs

_TEXT = {qn("w:t"), qn("m:t")}
_OLD_PICTURE = "{urn:schemas-microsoft-com:vml}imagedata"
_SIGNS = {qn("w:tab"): "\t", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-", qn("w:ptab"): "\t"}
_SHOWN = {*_TEXT, *_SIGNS, *NOTES, qn("w:br"), qn("w:sym")}
"""What a paragraph says something by."""
_RUN, _FIELD, _DENOMINATOR, _RUBY = qn("w:r"), qn("w:fldChar"), qn("m:den"), qn("w:ruby")
_LENGTH = re.compile(r"(-?\d{1,9}(?:\.\d*)?)(mm|cm|in|pt|pc|pi|)")
_UNITS = {"": 0.05, "pt": 1.0, "pc": 12.0, "pi": 12.0, "in": 72.0, "cm": 72 / 2.54, "mm": 7.2 / 2.54}
"""In points."""


@dataclass(slots=True)
class Flow:
    """Reads the parts of one document: numbering runs through all of them."""

    document: Document
    styles: dict[str, Any] = field(default_factory=dict)
    hiding: frozenset[str] = frozenset()
    """The styles whose text is hidden."""
    within: bool = False
    """Whether the document is set into another."""
    notes: Notes = field(init=False)
    lists: Lists = field(init=False)

    def __post_init__(self) -> None:
        styles = _part(self.document, "styles")
        for style in styles.findall(qn("w:style")) if styles is not None else ():
            self.styles[style.get(qn("w:styleId"), "")] = style
        if styles is not None and next(styles.iter(qn("w:vanish")), None) is not None:
            self.hiding = frozenset(filter(self._hides, self.styles))
        self.notes = Notes(self.document)
        self.lists = Lists(_part(self.document, "numbering"), self.styles)

    @property
    def mirrored(self) -> bool:
        """Whether pages of even numbers have headers and footers of their own."""
        return _flag(_part(self.document, "settings"), "w:evenAndOddHeaders")

    def items(self, container: Any, part: Part, codes: list[bool] | None = None) -> Iterator[Item]:
        """What stands in a body, header, footer, cell or text box of `part`. `codes` are as `_text` has them."""
        whole = codes is not None or _ends_its_fields(container)
        codes = [] if codes is None else codes
        for child in container:
            if child.tag == qn("w:p"):
                yield from self._paragraph(child, part, codes if whole else [])
            elif child.tag == qn("w:tbl"):
                yield self._grid(child, part)
                yield from self._pictures(child, part)
            elif child.tag in {qn("w:sdt"), qn("w:sdtContent"), qn("w:ins"), qn("w:customXml"), qn("w:smartTag")}:
                yield from self.items(child, part, codes if whole else None)
            elif child.tag == qn("w:altChunk"):
                yield from self._chunk(child, part)

    def _paragraph(self, paragraph: Any, part: Part, codes: list[bool]) -> Iterator[Item]:
        properties = paragraph.find(qn("w:pPr"))
        level = self._heading(properties)
        if _flag(properties, "w:pageBreakBefore"):
            yield PageBreak()
        size = TEXT_SIZE if level is None else HEADING_SIZES[min(level, len(HEADING_SIZES) - 1)]
        notes = tuple(self.notes.referred(paragraph, self))
        said = self._text(paragraph, codes)
        label = "" if _deleted(_child(properties, "w:rPr")) and not said.strip() else self.lists.label(properties)
        for number, text in enumerate(said.split("\f")):
            if number:
                yield PageBreak()
            written = f"{label} {text}".strip() if not number else text.strip()
            if text.strip():
                yield Text(written, size, heading=level is not None, notes=notes)
                notes = ()
        yield from self._pictures(paragraph, part)
        for graphic in paragraph.iter(*GRAPHICS):
            if self.shown(graphic, paragraph):
                yield from map(Text, graphic_texts(graphic, part))
        for box in paragraph.iter(qn("w:txbxContent")):
            if self.shown(box, paragraph):
                yield from self.items(box, part)
        if properties is not None and properties.find(qn("w:sectPr")) is not None:
            yield SectionEnd()

    def _heading(self, properties: Any) -> int | None:
        """0 of a title, else the level of a heading; None of other text."""
        if properties is None:
            return None
        outline = properties.find(qn("w:outlineLvl"))
        style = properties.find(qn("w:pStyle"))
        name = style.get(qn("w:val"), "") if style is not None else ""
        for _ in range(8):  # styles are based on others
            found = self.styles.get(name)
            if outline is not None or found is None:
                break
            called = found.find(qn("w:name"))
            if called is not None and called.get(qn("w:val"), "").lower() == "title":
                return 0
            outline = found.find(f"{qn('w:pPr')}/{qn('w:outlineLvl')}")
            based = found.find(qn("w:basedOn"))
            name = based.get(qn("w:val"), "") if based is not None else ""
        level = int(outline.get(qn("w:val"), "9")) if outline is not None else 9
        return level + 1 if level < 9 else None

    def _grid(self, table: Any, part: Part) -> Grid:
        cells: list[GridCell] = []
        open_at: dict[int, int] = {}
        """By column, which cell a merge downwards may go on."""
        widest = 0
        notes: list[str] = []
        for row, line in enumerate(_rows(table)):
            before = line.find(f"{qn('w:trPr')}/{qn('w:gridBefore')}")
            column = min(_value(before, 0), MOST_COLUMNS - 1)
            for cell in _cells(line):
                properties = cell.find(qn("w:tcPr"))
                if column == MOST_COLUMNS:
                    msg = f"a table of over {MOST_COLUMNS} columns"
                    raise ValueError(msg)
                span = min(max(1, _value(_child(properties, "w:gridSpan"), 1)), MOST_COLUMNS - column)
                merge = _child(properties, "w:vMerge")
                above = open_at.get(column)
                if merge is not None and merge.get(qn("w:val")) != "restart" and above is not None:
                    old = cells[above]
                    cells[above] = GridCell(old.text, old.row, old.column, row - old.row + 1, old.column_span)
                else:
                    open_at[column] = len(cells)
                    text, noted = self.plain(cell, part)
                    cells.append(GridCell(text, row, column, 1, span))
                    notes += noted
                column += span
            widest = max(widest, column)
        columns = table.iterfind(f"{qn('w:tblGrid')}/{qn('w:gridCol')}")
        widths = (max(points(column, "w:w", 0.0), 0.0) for column in columns)
        leftward = _flag(_child(table, "w:tblPr"), "w:bidiVisual")
        return Grid(max(widest, 1), tuple(cells), tuple(widths), tuple(notes), leftward)

    def plain(self, container: Any, part: Part) -> tuple[str, list[str]]:
        """What stands in a cell or a note as lines of text, and the footnotes it refers to."""
        texts, notes = [], list[str]()
        for item in self.items(container, part):
            if isinstance(item, Text):
                texts.append(item.text)
                notes += item.notes
            elif isinstance(item, Grid):
                texts += [inner.text for inner in item.cells]
                notes += item.notes
        return "\n".join(text for text in texts if text), notes

    def _chunk(self, element: Any, part: Part) -> Iterator[Item]:
        """What is set in as it is: a web page, a text, or another document without those that are set into it."""
        link = part.rels.get(element.get(qn("r:id"), ""))
        if link is None or link.is_external:
            return
        inner = link.target_part
        if not is_word(inner.blob):
            yield from chunk_items(inner.blob, inner.content_type)
        elif not self.within:
            try:
                flow = Flow(word_document(inner.blob, inner.partname), within=True)
            except UnreadableDocument as error:
                if error.http_status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                    raise
                return  # it is no reason to refuse the text around it
            body = flow.items(flow.document.element.body, flow.document.part)
            yield from (item for item in body if not isinstance(item, SectionEnd))
            self.notes.ends += flow.notes.ends

    def _pictures(self, element: Any, part: Part) -> Iterator[Picture]:
        """Those that are in the document. What is linked from elsewhere is left there."""
        for picture in element.iter(qn("a:blip"), _OLD_PICTURE):
            link = part.rels.get(picture.get(qn("r:embed")) or picture.get(qn("r:id"), ""))
            if link is not None and not link.is_external and self.shown(picture, element):
                yield Picture(link.target_part.blob)

    def shown(self, inner: Any, element: Any) -> bool:
        """Whether what is somewhere in an element belongs to what it shows itself."""
        for above in inner.iterancestors():
            if above is element:
                return True
            if above.tag in INVISIBLE or (above.tag == _RUN and self._hidden(above)):
                return False
        return False

    def _text(self, paragraph: Any, codes: list[bool]) -> str:
        """What a paragraph shows: tabs, line breaks and form feeds for page breaks among it.

        `codes` tells of each field that is open, the innermost last, whether its code goes on; its result follows.
        """
        found: list[str] = []
        stack = [iter(paragraph)]
        while stack:
            element = next(stack[-1], None)
            if element is None:
                stack.pop()
            elif element.tag == _FIELD:
                found.append("" if any(codes) else _entered(element))
                _mark_field(element, codes)
            elif element.tag == _RUN and self._hidden(element):
                for mark in element.iter(_FIELD):  # what it begins or ends may be seen
                    _mark_field(mark, codes)
            elif element.tag in INVISIBLE:
                continue
            elif element.tag == _RUBY:
                found.append(self._ruby(element, codes))
            elif not (any(codes) and element.tag in _SHOWN):
                said = self._sign(element)
                found.append(said or _stroke(element))
                if said is None:
                    stack.append(iter(element))
        return "".join(found)

    def _ruby(self, element: Any, codes: list[bool]) -> str:
        """What tells in small letters above others how they are said comes after them, as in Word's own plain text."""
        parts = [element.findall(qn(name)) for name in ("w:rubyBase", "w:rt")]
        base, above = ("".join(self._text(part, codes) for part in some) for some in parts)
        return f"{base}({above})" if above.strip() else base

    def _sign(self, element: Any) -> str | None:
        """What an element says by itself; None of one that says what those within it do."""
        if element.tag in _TEXT:
            return signs(_font(element.getparent()), element.text or "")
        if element.tag == qn("w:br"):
            return "\f" if element.get(qn("w:type")) == "page" else "\n"
        if element.tag == qn("w:sym"):
            return sign(element.get(qn("w:font"), ""), element.get(qn("w:char"), ""))
        if element.tag in NOTES:
            return self.notes.mark(element)
        return _SIGNS.get(element.tag)

    def _hidden(self, run: Any) -> bool:
        """Whether a run is hidden: by itself, or by one of the styles of its paragraph and its own."""
        properties = run.find(qn("w:rPr"))
        if _child(properties, "w:vanish") is not None:
            return _flag(properties, "w:vanish")
        if not self.hiding:
            return False
        paragraph = next(run.iterancestors(qn("w:p")), None)
        outer = _child(_child(paragraph, "w:pPr"), "w:pStyle")
        names = [style.get(qn("w:val")) for style in (outer, _child(properties, "w:rStyle")) if style is not None]
        return sum(name in self.hiding for name in names) == 1  # ISO 29500-1, 17.7.3: two of them take it back

    def _hides(self, name: str) -> bool:
        for _ in range(8):  # styles are based on others
            found = self.styles.get(name)
            properties = _child(found, "w:rPr")
            if _child(properties, "w:vanish") is not None:
                return _flag(properties, "w:vanish")
            based = _child(found, "w:basedOn")
            if based is None:
                break
            name = based.get(qn("w:val"), "")
        return False


def _ends_its_fields(container: Any) -> bool:
    """Or one that has no end would take all that follows with it: then each paragraph is taken by itself."""
    kinds = [mark.get(qn("w:fldCharType")) for mark in container.iter(_FIELD)]
    return kinds.count("begin") == kinds.count("end")


def _entered(mark: Any) -> str:
    """What is shown of a field of a form that has no result: a box to be ticked, or what is chosen of a list."""
    properties = _child(mark, "w:ffData")
    box, choice = _child(properties, "w:checkBox"), _child(properties, "w:ddList")
    if box is not None:
        ticked = "w:default" if _child(box, "w:checked") is None else "w:checked"
        return "☒" if _flag(box, ticked) else "☐"
    if choice is None:
        return ""
    entries = choice.findall(qn("w:listEntry"))
    chosen = _value(_child(choice, "w:result"), _value(_child(choice, "w:default"), 0))
    return str(entries[chosen].get(qn("w:val"), "")) if chosen < len(entries) else ""


def _mark_field(mark: Any, codes: list[bool]) -> None:
    kind = mark.get(qn("w:fldCharType"))
    if kind == "begin":
        codes.append(True)
    elif codes and kind == "separate":
        codes[-1] = False
    elif codes and kind == "end":
        codes.pop()


def _rows(table: Any) -> Iterator[Any]:
    for child in table:
        if child.tag == qn("w:tr"):
            if not _deleted(_child(child, "w:trPr")):
                yield child
        elif child.tag in {qn("w:sdt"), qn("w:sdtContent"), qn("w:ins"), qn("w:customXml")}:
            yield from _rows(child)


def _cells(row: Any) -> Iterator[Any]:
    for child in row:
        if child.tag == qn("w:tc"):
            yield child
        elif child.tag in {qn("w:sdt"), qn("w:sdtContent"), qn("w:customXml")}:
            yield from _cells(child)


def _deleted(properties: Any) -> bool:
    """Of a row or a paragraph's end: whether it was deleted, or moved elsewhere, while changes were tracked."""
    return any(_child(properties, name) is not None for name in ("w:del", "w:moveFrom"))


def _stroke(element: Any) -> str:
    """What is drawn above an element: the stroke of a fraction, unless that has none."""
    if element.tag != _DENOMINATOR:
        return ""
    kind = _child(_child(element.getparent(), "m:fPr"), "m:type")
    return "" if kind is not None and kind.get(qn("m:val")) == "noBar" else "/"


def _font(run: Any) -> str:
    """Of a run, if it names one itself."""
    fonts = _child(_child(run, "w:rPr"), "w:rFonts")
    return fonts.get(qn("w:ascii"), "") if fonts is not None else ""


def _child(element: Any, name: str) -> Any:
    return element.find(qn(name)) if element is not None else None


def _value(element: Any, default: int, name: str = "w:val") -> int:
    written = element.get(qn(name), "").partition(".")[0][:9] if element is not None else ""
    return int(written) if written.isascii() and written.isdigit() else default


def points(element: Any, name: str, usual: float) -> float:
    """A length, which is in twentieths of a point where it names no unit."""
    found = _LENGTH.fullmatch(element.get(qn(name), "")) if element is not None else None
    return float(found[1]) * _UNITS[found[2]] if found else usual


def _flag(properties: Any, name: str) -> bool:
    found = _child(properties, name)
    return found is not None and found.get(qn("w:val"), "1") not in {"0", "false", "off"}


def _part(document: Document, kind: str) -> Any:
    """The root of a part that the document has, by its kind of relationship."""
    for link in document.part.rels.values():
        if not link.is_external and link.reltype.endswith(f"/{kind}"):
            return getattr(link.target_part, "element", None)
    return None
