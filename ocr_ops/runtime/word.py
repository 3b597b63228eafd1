"""Word documents (.docx): a package vetted before anything in it is parsed, then set onto pages, its pictures after."""

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from math import sqrt
from typing import Any

import docx
import numpy as np
from docx.document import Document
from docx.enum.section import WD_SECTION
from docx.opc.oxml import serialize_part_xml
from docx.opc.packuri import PackURI
from docx.oxml import parse_xml
from docx.oxml.ns import qn
from docx.section import Section
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.runtime.images import image_format, image_sheets
from ocr_ops.runtime.pdf import POINTS_AN_INCH
from ocr_ops.runtime.sheet import Limits, Sheet, broken, guard, too_large, wanted
from ocr_ops.runtime.word_pages import NOTE_SIZE, Paper, Setter
from ocr_ops.runtime.word_text import Flow, Grid, PageBreak, Picture, Text

MAX_PARTS = 4096
MAX_UNPACKED = 128 * 2**20
"""Bytes of all parts."""
MAX_XML = 48 * 2**20
"""Bytes of all parts that are parsed."""
LEAST_PICTURE = 100
"""Pixels of a picture's shorter side: smaller ones are ornaments."""
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_TYPES = "[Content_Types].xml"
_DOCUMENT = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
_DOCTYPES = tuple(
    mark.encode(code) for mark in ("<!DOCTYPE", "<!ENTITY") for code in ("utf-8", "utf-16-le", "utf-16-be")
)
_LENGTH = re.compile(r"(-?\d{1,9}(?:\.\d*)?)(mm|cm|in|pt|pc|pi|)")
_UNITS = {"": 0.05, "pt": 1.0, "pc": 12.0, "pi": 12.0, "in": 72.0, "cm": 72 / 2.54, "mm": 7.2 / 2.54}
"""In points."""
_MACROS = b"vnd.ms-office.vbaProject"
_OTHERS = {
    _MACROS: "a Word document with macros",
    b"word.document.macroEnabled": "a Word document with macros",
    b"wordprocessingml.template": "a Word template",
    b"spreadsheetml": "a spreadsheet",
    b"presentationml": "a presentation",
}


def is_word(data: bytes) -> bool:
    """Whether these bytes are for this module to open, or to refuse by their name."""
    return data.startswith((_ZIP, _OLE))


def word_sheets(data: bytes, name: str, options: ReadOptions, limits: Limits) -> Iterator[Sheet]:
    """The pages of a Word document, each followed by the pictures that stand on it."""
    _vet(data, name)
    most = limits.max_pages if options.pages is None else 100 * limits.max_pages
    pages = guard(name, partial(_set, data, limits, most + 1))
    if len(pages) > most:
        raise too_large(name, f"over {most} pages", f"at most {most}")
    numbers = wanted(name, options.pages, len(pages), limits)
    for number in numbers:
        page = pages[number - 1]
        if isinstance(page, Page):
            yield Sheet(number, len(numbers), None, page)
        else:
            yield Sheet(number, len(numbers), *_picture(page, name, limits))


def _vet(data: bytes, name: str) -> None:
    """Refuses what is no Word document, and one that could be a bomb; unpacks every part, a little at a time."""
    if data.startswith(_OLE):
        raise broken(name, "locked with a password") if _ENCRYPTED in data else _not_word(name, "an old Office file")
    with guard(name, lambda: zipfile.ZipFile(io.BytesIO(data))) as package:
        parts = package.infolist()
        _vet_list(parts, name)
        for part in parts:
            text = guard(name, partial(_unpacked, package, part, keep=_is_xml(part)))
            if any(mark in text for mark in _DOCTYPES):
                raise broken(name, f"{part.filename} with a document type of its own")
            if part.filename == _TYPES and (_DOCUMENT not in text or _MACROS in text):
                found = next((kind for mark, kind in _OTHERS.items() if mark in text), "a package of another kind")
                raise _not_word(name, found)


def _vet_list(parts: Sequence[zipfile.ZipInfo], name: str) -> None:
    """By what the package says of its parts, before any is unpacked."""
    declared, parsed = (sum(part.file_size for part in some) for some in (parts, filter(_is_xml, parts)))
    names = {part.filename for part in parts}
    if len(parts) > MAX_PARTS or declared > MAX_UNPACKED or parsed > MAX_XML:
        found = f"{len(parts)} parts of {declared:,} bytes, {parsed:,} of them XML"
        raise too_large(name, found, f"at most {MAX_PARTS} of {MAX_UNPACKED:,}, {MAX_XML:,} of them XML")
    if len(names) < len(parts):
        raise broken(name, "a package with two parts of one name")
    if any(part.flag_bits & 1 for part in parts):
        raise broken(name, "locked with a password")
    if _TYPES not in names:
        raise _not_word(name, "a package without a Word document")


def _is_xml(part: zipfile.ZipInfo) -> bool:
    return part.filename.lower().endswith((".xml", ".rels"))


def _unpacked(package: zipfile.ZipFile, part: zipfile.ZipInfo, *, keep: bool) -> bytes:
    """A part's bytes, if they are to be kept. `BadZipFile` for more or others than it declares."""
    kept = []
    size = 0
    with package.open(part) as file:
        while block := file.read(65536):
            size += len(block)
            if keep:
                kept.append(block)
    if size != part.file_size:
        msg = f"{part.filename} of {size:,} bytes, not {part.file_size:,}"
        raise zipfile.BadZipFile(msg)
    return b"".join(kept)


def _set(data: bytes, limits: Limits, most: int) -> list[Page | bytes]:
    """The pages of a document, up to `most`, with the pictures of each after it."""
    return list(islice(_pages(docx.Document(io.BytesIO(_linked(data))), limits), most))


def _linked(data: bytes) -> bytes:
    """The package without links to parts that it has not: Word passes over them, python-docx fails."""
    changed: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        names = {f"/{name}" for name in package.namelist()}
        for name in package.namelist():
            folder, _, file = name.rpartition("_rels/")
            if not file.endswith(".rels"):
                continue
            links = parse_xml(package.read(name))
            lost = [
                link
                for link in links.iterchildren("{*}Relationship")
                if link.get("TargetMode") != "External"
                and PackURI.from_rel_ref(f"/{folder}", link.get("Target", "")) not in names
            ]
            if lost:
                for link in lost:
                    links.remove(link)
                changed[name] = serialize_part_xml(links)
        if not changed:
            return data
        mended = io.BytesIO()
        with zipfile.ZipFile(mended, "w") as made:
            for name in package.namelist():
                made.writestr(name, changed.get(name) or package.read(name))
    return mended.getvalue()


def _pages(document: Document, limits: Limits) -> Iterator[Page | bytes]:
    flow, sections = Flow(document), list(document.sections)
    place = 0
    setter = _setter(flow, sections, place, limits)
    pictures: list[bytes] = []
    for item in flow.items(document.element.body, document.part):
        filled: list[Page] = []
        if isinstance(item, Text):
            filled.extend(setter.text(item))
        elif isinstance(item, Grid):
            filled.extend(setter.table(item))
        elif isinstance(item, Picture):
            pictures += [item.data] if _worth_reading(item.data, limits) else []
        elif isinstance(item, PageBreak):
            filled += [] if setter.empty else [setter.page()]
        else:
            place = min(place + 1, len(sections) - 1)
            if sections[place].start_type != WD_SECTION.CONTINUOUS:
                filled.extend(setter.rest())
                setter = _setter(flow, sections, place, limits, setter.number + setter.count)
        for page in filled:
            yield page
            yield from pictures
            pictures = []
    for note in flow.notes.ends:
        yield from setter.text(Text(note, NOTE_SIZE))
    yield from setter.rest()
    if not setter.count:
        yield setter.page()
    yield from pictures


def _setter(flow: Flow, sections: list[Section], place: int, limits: Limits, number: int = 1) -> Setter:
    """For the pages of a section, the first of which is this one of the document."""
    section = sections[place] if sections else None
    paper = (_paper(section) if section is not None else Paper()).sane
    scale = min(limits.pdf_dpi / POINTS_AN_INCH, sqrt(limits.max_pixels / (paper.width * paper.height)))
    first = section is not None and section.different_first_page_header_footer
    return Setter(
        paper,
        scale,
        _margins(flow, sections, place, ""),
        _margins(flow, sections, place, "first_page_") if first else None,
        _margins(flow, sections, place, "even_page_") if flow.mirrored else None,
        number if section is None else _number(section, number),
    )


def _number(section: Section, following: int) -> int:
    """Of a section's first page: the one that it is given, or the next that is as odd or even as it asks."""
    counted = section._sectPr.find(qn("w:pgNumType"))  # noqa: SLF001  python-docx has no name for it
    given = counted.get(qn("w:start"), "") if counted is not None else ""
    if given.isascii() and given.isdigit():
        return int(given[:9])
    asked = {WD_SECTION.ODD_PAGE: 1, WD_SECTION.EVEN_PAGE: 0}.get(section.start_type)
    return following if asked is None else following + (following + asked) % 2


def _paper(section: Section) -> Paper:
    """What the section says of it; python-docx takes no fractions of a length, which other programs write."""
    properties, usual = section._sectPr, Paper()  # noqa: SLF001  there is no other way to the lengths as they are written
    size, margins = properties.find(qn("w:pgSz")), properties.find(qn("w:pgMar"))
    return Paper(
        _points(size, "w:w", usual.width),
        _points(size, "w:h", usual.height),
        _points(margins, "w:left", usual.left),
        _points(margins, "w:right", usual.right),
        _points(margins, "w:top", usual.top),
        _points(margins, "w:bottom", usual.bottom),
    )


def _points(element: Any, name: str, usual: float) -> float:
    """A length, which is in twentieths of a point where it names no unit."""
    found = _LENGTH.fullmatch(element.get(qn(name), "")) if element is not None else None
    return float(found[1]) * _UNITS[found[2]] if found else usual


def _margins(flow: Flow, sections: list[Section], place: int, kind: str) -> tuple[list[Text], list[Text]]:
    """Header and footer, from the section or the nearest before it that has one."""
    found: list[list[Text]] = []
    for which in ("header", "footer"):
        texts: list[Text] = []
        for section in reversed(sections[: place + 1]):
            margin = getattr(section, f"{kind}{which}")
            if not margin.is_linked_to_previous:
                for item in flow.items(margin._element, margin.part):  # noqa: SLF001  its paragraphs alone are public
                    if isinstance(item, Text):
                        texts.append(item)
                    elif isinstance(item, Grid):
                        texts += [Text(cell.text) for cell in item.cells if cell.text.strip()]
                break
        found.append(texts)
    return found[0], found[1]


def _worth_reading(data: bytes, limits: Limits) -> bool:
    """Whether a picture is large enough to hold text, and of a kind and size that is read."""
    form = image_format(data)
    if form is None:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=[form]) as image:
            return min(image.size) >= LEAST_PICTURE and image.width * image.height <= limits.max_pixels
    except Exception:  # noqa: BLE001  a broken picture is no reason to refuse the text around it
        return False


def _picture(data: bytes, name: str, limits: Limits) -> tuple[NDArray[np.uint8] | None, Page | None]:
    try:
        return next(image_sheets(data, image_format(data) or "", name, ReadOptions(pages="1"), limits)).image, None
    except UnreadableDocument:
        return None, Page(width=1, height=1, source="text-layer", lines=())  # the pages around it are still read


def _not_word(name: str, found: str) -> UnreadableDocument:
    return UnreadableDocument(name, found, "a Word document (.docx), an image or a PDF", "save it as one of these", 415)
