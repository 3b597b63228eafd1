"""Word documents (.docx): set onto pages, each with its pictures after it."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import sqrt
from typing import Any

import numpy as np
from docx.document import Document
from docx.enum.section import WD_SECTION
from docx.oxml.ns import qn
from docx.section import Section
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions, page_spans
from ocr_ops.core.reading import Page
from ocr_ops.runtime.images import image_format, image_sheets
from ocr_ops.runtime.pdf import POINTS_AN_INCH
from ocr_ops.runtime.sheet import Limits, Sheet, guard, too_large, wanted
from ocr_ops.runtime.word_items import Grid, PageBreak, Picture, Text
from ocr_ops.runtime.word_package import word_document
from ocr_ops.runtime.word_pages import NOTE_SIZE, Margins, Paper, Setter
from ocr_ops.runtime.word_text import Flow, points

LEAST_PICTURE = 100
"""Pixels of a picture's shorter side: smaller ones are ornaments."""


def word_sheets(data: bytes, name: str, options: ReadOptions, limits: Limits) -> Iterator[Sheet]:
    """The pages of a Word document, each followed by the pictures that stand on it."""
    document = word_document(data, name)
    most = limits.max_pages if options.pages is None else 100 * limits.max_pages
    last = most + 1 if options.pages is None else max(last for _, last in page_spans(options.pages))
    pages = guard(name, partial(_set, document, limits, min(last, most + 1)))  # what nobody wants is not set
    if len(pages) > most:
        raise too_large(name, f"over {most} pages", f"at most {most}")
    numbers = wanted(name, options.pages, len(pages), limits)
    for number in numbers:
        page = pages[number - 1]
        if isinstance(page, Page):
            yield Sheet(number, len(numbers), None, page)
        else:
            yield Sheet(number, len(numbers), *_picture(page, name, limits))


def _set(document: Document, limits: Limits, most: int) -> list[Page | bytes]:
    """The pages of a document, up to `most`, with the pictures of each after it."""
    return list(islice(_pages(document, limits), most))


def _pages(document: Document, limits: Limits) -> Iterator[Page | bytes]:
    flow = Flow(document)
    sections = _Sections(flow, list(document.sections), limits)
    setter = sections.setter(1)
    pictures: list[bytes] = []
    seen: set[bytes] = set()

    def given(pages: Iterable[Page]) -> Iterator[Page | bytes]:
        """Each with its pictures after it; those above and below the text only where they come first."""
        for page in pages:
            yield page
            pictures.extend(data for data in dict.fromkeys(setter.pictures) if data not in seen)
            seen.update(setter.pictures)
            setter.pictures.clear()
            yield from pictures
            pictures.clear()

    for item in flow.items(document.element.body, document.part):
        if isinstance(item, Text):
            yield from given(setter.text(item))
        elif isinstance(item, Grid):
            yield from given(setter.table(item))
        elif isinstance(item, Picture):
            pictures += [item.data] if _worth_reading(item.data, limits) else []
        elif isinstance(item, PageBreak):
            yield from given([] if setter.empty else [setter.page()])
        else:
            sections.place = min(sections.place + 1, len(sections.all) - 1)
            if sections.all[sections.place].start_type != WD_SECTION.CONTINUOUS:
                yield from given(setter.rest())
                setter = sections.setter(setter.number + setter.count)
    for note in flow.notes.ends:
        yield from given(setter.text(Text(note, NOTE_SIZE)))
    yield from given(setter.rest() if setter.count or not setter.empty else [setter.page()])
    yield from pictures


@dataclass(slots=True)
class _Sections:
    """The sections of a document, one after the other: each goes on with the headers and footers it has none of."""

    flow: Flow
    all: list[Section]
    limits: Limits
    place: int = 0
    """Which of them it is."""
    nearest: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """By the name of a header or footer, up to which section it was looked for, and the last one there is."""

    def setter(self, number: int) -> Setter:
        """For the pages of the section, the first of which is this one of the document."""
        section = self.all[self.place] if self.all else None
        paper = (_paper(section) if section is not None else Paper()).sane
        scale = min(self.limits.pdf_dpi / POINTS_AN_INCH, sqrt(self.limits.max_pixels / (paper.width * paper.height)))
        first = section is not None and section.different_first_page_header_footer
        return Setter(
            paper,
            scale,
            self._margins(""),
            self._margins("first_page_") if first else None,
            self._margins("even_page_") if self.flow.mirrored else None,
            number if section is None else _number(section, number),
        )

    def _margins(self, kind: str) -> Margins:
        return self._margin(f"{kind}header"), self._margin(f"{kind}footer")

    def _margin(self, name: str) -> list[Text | Picture]:
        """A header or footer, of the section or the nearest before it that has one."""
        known, nearest = self.nearest.get(name, (0, None))
        for section in self.all[known : self.place + 1]:
            margin = getattr(section, name)
            nearest = nearest if margin.is_linked_to_previous else margin
        self.nearest[name] = self.place + 1, nearest
        items: list[Text | Picture] = []
        if nearest is None:
            return items
        for item in self.flow.items(nearest._element, nearest.part):  # noqa: SLF001  its paragraphs alone are public
            if isinstance(item, Text):
                items.append(item)
            elif isinstance(item, Grid):
                items += [Text(cell.text) for cell in item.cells if cell.text.strip()]
            elif isinstance(item, Picture) and _worth_reading(item.data, self.limits):
                items.append(item)
        return items


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
        points(size, "w:w", usual.width),
        points(size, "w:h", usual.height),
        points(margins, "w:left", usual.left),
        points(margins, "w:right", usual.right),
        points(margins, "w:top", usual.top),
        points(margins, "w:bottom", usual.bottom),
    )


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
