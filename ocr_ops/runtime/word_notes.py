"""Footnotes and endnotes of a Word document: their marks, in the order they are referred to, and what they say."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from docx.document import Document
from docx.oxml import parse_xml
from docx.oxml.ns import qn

if TYPE_CHECKING:
    from ocr_ops.runtime.word_text import Flow

NOTES = {qn("w:footnoteReference"): "footnote", qn("w:endnoteReference"): "endnote"}
"""Elements that refer to a note, and the kind of note."""
INVISIBLE = {
    qn("w:del"), qn("w:moveFrom"), qn("w:instrText"), qn("w:delText"), qn("w:rPr"), qn("w:pPr"), qn("w:txbxContent"),
    "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback",
}  # fmt: skip
_DIGITS = (("m", 1000), ("cm", 900), ("d", 500), ("cd", 400), ("c", 100), ("xc", 90), ("l", 50), ("xl", 40),
           ("x", 10), ("ix", 9), ("v", 5), ("iv", 4), ("i", 1))  # fmt: skip


class Notes:
    """Of one document. Numbers count from 1, those of endnotes are Roman, as Word has them."""

    def __init__(self, document: Document) -> None:
        self.ends: list[str] = []
        """What endnotes say, for the document's end, in the order they were referred to."""
        self._marks: dict[tuple[str, str], str] = {}
        self._counts = {"footnote": 0, "endnote": 0}
        self._texts: dict[tuple[str, str], tuple[Any, Any]] = {}
        for kind in self._counts:
            for link in document.part.rels.values():
                if not link.is_external and link.reltype.endswith(f"/{kind}s"):
                    for note in parse_xml(link.target_part.blob).findall(qn(f"w:{kind}")):
                        self._texts[kind, note.get(qn("w:id"), "")] = note, link.target_part

    def referred(self, paragraph: Any, flow: "Flow") -> Iterator[str]:
        """What the footnotes say that a paragraph is the first to refer to; its endnotes are kept for the end."""
        for element in paragraph.iter(*NOTES):
            kind = NOTES[element.tag]
            key = kind, element.get(qn("w:id"), "")
            if key in self._marks or key not in self._texts or not flow.shown(element, paragraph):
                continue
            self._counts[kind] += 1
            self._marks[key] = f"[{number_of(self._counts[kind], 'lowerRoman' if kind == 'endnote' else 'decimal')}]"
            said, more = flow.plain(*self._texts[key])
            text = f"{self._marks[key]} {said}"
            if kind == "endnote":
                self.ends += [text, *more]
            else:
                yield text
                yield from more

    def mark(self, element: Any) -> str:
        """What stands in the text for a reference."""
        mark = self._marks.get((NOTES[element.tag], element.get(qn("w:id"), "")))
        return f" {mark}" if mark else ""


def number_of(value: int, form: str) -> str:
    """A number as a list or a note is marked with it, in one of Word's formats."""
    if form in {"lowerLetter", "upperLetter"}:
        written = chr(ord("a") + (value - 1) % 26) * ((value - 1) // 26 % 4 + 1)
    elif form in {"lowerRoman", "upperRoman"} and value < 4000:
        written, left = "", value
        for digit, worth in _DIGITS:
            written += digit * (left // worth)
            left %= worth
    elif form == "none":
        return ""
    else:
        return str(value)
    return written.upper() if form.startswith("upper") else written
