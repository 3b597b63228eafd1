"""Searchable PDF: the original's pages, and over them what they say in invisible text, each word where it stands."""

import ctypes
import io
from codecs import BOM_UTF16_BE
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

import pypdfium2
import pypdfium2.raw as pdfium

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page, Polygon, Reading, Word
from ocr_ops.runtime.documents import LIMITS, Limits, sheets
from ocr_ops.runtime.outputs.blocks import Box, blocks, box, clean, lines, numbered, words
from ocr_ops.runtime.outputs.pdf_file import ASCENT, DESCENT, Glyphless, PdfFile, advance, numbers, visual
from ocr_ops.runtime.outputs.pictures import Picture, picture_of, pictures
from ocr_ops.runtime.outputs.visible import Letters
from ocr_ops.runtime.pdf import PDFIUM_LOCK, flatten, is_pdf
from ocr_ops.runtime.sheet import guard
from ocr_ops.runtime.word_package import is_word

Affine = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: takes (x, y) to (a x + c y + e, b x + d y + f), as PDF's matrices do."""
Point = tuple[float, float]

_BELOW = -DESCENT / (ASCENT - DESCENT)
"""Share of a line's height below its baseline."""
_DRIFT = 0.25
"""Points by which a word may leave its row: readers that go by rows take a crooked one apart, unless it is marked."""
_DEVICE = 10_000
"""Side of the square that a page is mapped to, to ask PDFium how it lies."""


def searchable_pdf(
    reading: Reading, name: str, document: bytes, options: ReadOptions, limits: Limits = LIMITS
) -> bytes:
    """A PDF's own pages, or an image's, with text that can be searched and copied; a Word document's as they are laid
    out, with text that is seen.

    Pages whose text layer was taken as their reading have all they need, and get no second one. Of a document of
    which some pages were read, these alone are kept. `UnreadableDocument` as `documents.sheets`.
    """
    if is_pdf(document):
        return _layered(reading, name, document, options)
    if is_word(document):
        pages = sheets(document, name, options, limits)
        return _set(reading, (None if sheet.image is None else picture_of(sheet.image) for sheet in pages))
    return _set(reading, pictures(document, name, options, limits))


def _set(reading: Reading, shown: Iterable[Picture | None]) -> bytes:
    """The pages that a reading has, each over its picture; where there is none, its text is what is seen."""
    pdf = PdfFile()
    glyphless, font = _font(pdf, reading.pages)
    letters = Letters(clean(word.text) for page in reading.pages for line in page.lines for word in words(line))
    fonts = letters.add_to(pdf)
    entries: list[str] = []
    for page, picture in zip(reading.pages, shown, strict=True):
        if picture is None:
            width, height = (72 * side / LIMITS.pdf_dpi for side in (page.width, page.height))
            content = pdf.stream(letters.content(page, width, height).encode("ascii"))
            held = f"/Font<<{fonts}>>"
        else:
            a, b, c, d, e, f = picture.placed
            width, height = picture.width, picture.height
            image = pdf.stream(picture.data, picture.entries, deflate=False)
            drawn = f"q {numbers(a * width, b * height, c * width, d * height, e * width, f * height)} cm /I Do Q\n"
            text = _text(page, _to_points(page, (0, height), (width, height), (0, 0)), glyphless)
            content = pdf.stream((drawn + text).encode("ascii"))
            held = f"/Font<</F {font} 0 R>>/XObject<</I {image} 0 R>>"
        entries.append(f"/MediaBox[0 0 {numbers(width, height)}]/Contents {content} 0 R/Resources<<{held}>>")
    return pdf.pages(entries)


def _layered(reading: Reading, name: str, document: bytes, options: ReadOptions) -> bytes:
    with PDFIUM_LOCK:
        return guard(name, lambda: _with_text(reading, document, options))


def _with_text(reading: Reading, document: bytes, options: ReadOptions) -> bytes:
    """Call it under the lock."""
    with closing(pypdfium2.PdfDocument(document)) as original:
        indices = [number - 1 for number, _ in numbered(reading, options)]
        whole = len(indices) == len(original)
        silent = [place for place, page in enumerate(reading.pages) if page.source != "text-layer" and page.lines]
        if whole and not silent:
            return document
        with closing(original if whole else _part(original, indices)) as kept:
            if silent:
                _add_layers(kept, [(place, reading.pages[place]) for place in silent])
            buffer = io.BytesIO()
            kept.save(buffer)
            return buffer.getvalue()


def _part(original: pypdfium2.PdfDocument, indices: Sequence[int]) -> pypdfium2.PdfDocument:
    """These pages alone, in a document of their own; of the original nothing is left to be used.

    A form stays behind, for it holds what was filled in on other pages too; what its fields show here becomes a part of
    the page, or viewers would not draw it any more.
    """
    form = original.init_forms()  # makes looks for fields that have none
    part = pypdfium2.PdfDocument.new()
    part.import_pages(original, list(indices))
    if form:
        for place, index in enumerate(indices):
            _draw_fields(part, place, original, index)
    return part


def _draw_fields(part: pypdfium2.PdfDocument, place: int, original: pypdfium2.PdfDocument, index: int) -> None:
    with closing(part[place]) as held:
        if not _without(held, lambda kind: kind == pdfium.FPDF_ANNOT_WIDGET):
            return
        with closing(original[index]) as page:
            _without(page, lambda kind: kind != pdfium.FPDF_ANNOT_WIDGET)
            while drawn := pdfium.FPDFPage_GetObject(page.raw, 0):
                pdfium.FPDFPage_RemoveObject(page.raw, drawn)
                pdfium.FPDFPageObj_Destroy(drawn)
            page.gen_content()
            page.set_rotation(0)
            left, lower, _, _ = page.get_bbox()
        if flatten(original, index):
            _insert(held, part, original, index, (left, lower))


def _without(page: pypdfium2.PdfPage, unwanted: Callable[[int], bool]) -> int:
    """Takes annotations of some kinds from a page; how many there were."""
    found = 0
    for index in reversed(range(pdfium.FPDFPage_GetAnnotCount(page.raw))):
        annotation = pdfium.FPDFPage_GetAnnot(page.raw, index)
        kind = pdfium.FPDFAnnot_GetSubtype(annotation)
        pdfium.FPDFPage_CloseAnnot(annotation)
        if unwanted(kind):
            found += pdfium.FPDFPage_RemoveAnnot(page.raw, index)
    return found


def _add_layers(kept: pypdfium2.PdfDocument, read: Sequence[tuple[int, Page]]) -> None:
    """Adds a form with its text to each of these pages; what they show already is left as it is."""
    maps = [_lies(kept, index, page) for index, page in read]
    read = [(index, _unsaid(kept, index, page, lies)) for (index, page), lies in zip(read, maps, strict=True)]
    text = _text_alone([page for _, page in read], maps)
    with closing(pypdfium2.PdfDocument(text)) as source:
        for place, (index, page) in enumerate(read):
            with closing(kept[index]) as held:
                extent = _extent(page, maps[place])
                _insert(held, kept, source, place, (extent.left, extent.top))


def _insert(
    held: pypdfium2.PdfPage, kept: pypdfium2.PdfDocument, source: pypdfium2.PdfDocument, place: int, at: Point
) -> None:
    """Adds what is drawn on another document's page to a page of this one, its lower left corner at this point."""
    sheet = pdfium.FPDF_NewXObjectFromPage(kept.raw, source.raw, place)
    form = pdfium.FPDF_NewFormObjectFromXObject(sheet)
    pdfium.FPDF_CloseXObject(sheet)
    # PDFium brings the lower left corner of the page it takes to the origin.
    pdfium.FPDFPageObj_Transform(form, 1, 0, 0, 1, *at)
    pdfium.FPDFPage_InsertObject(held.raw, form)
    if not pdfium.FPDFPage_GenerateContent(held.raw):
        msg = "a page that takes no text"
        raise ValueError(msg)


def _unsaid(pdf: pypdfium2.PdfDocument, index: int, page: Page, to_points: Affine) -> Page:
    """Of a page of both texts, its own and one that was read, without the words that stand in it already."""
    if page.source != "mixed":
        return page
    with closing(pdf[index]) as held, closing(held.get_textpage()) as layer:

        def said(word: Word) -> bool:
            left, top, right, bottom = box(tuple(_at(to_points, corner) for corner in word.polygon))
            x, y = (right - left) / 4, (bottom - top) / 4  # its neighbours are not asked
            return bool(layer.get_text_bounded(left + x, top + y, right - x, bottom - y).strip())

        left = ([word for word in line.words if not said(word)] for line in page.lines)
        lines = [
            line.model_copy(update={"words": tuple(words), "text": line.text if words else ""})
            for line, words in zip(page.lines, left, strict=True)
        ]
        return page.model_copy(update={"lines": tuple(lines)})


def _lies(pdf: pypdfium2.PdfDocument, index: int, page: Page) -> Affine:
    """From the page's pixels to its user space, whatever its boxes and its rotation."""
    with closing(pdf[index]) as held:
        corners = [_user_space(held, x, y) for x, y in ((0, 0), (_DEVICE, 0), (0, _DEVICE))]
    return _to_points(page, *corners)


def _user_space(page: pypdfium2.PdfPage, x: int, y: int) -> Point:
    across, up = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDF_DeviceToPage(page.raw, 0, 0, _DEVICE, _DEVICE, 0, x, y, across, up)
    return across.value, up.value


def _text_alone(pages: Sequence[Page], maps: Sequence[Affine]) -> bytes:
    """A PDF that holds the text of these pages and nothing else, in the user space of the pages it is for."""
    pdf = PdfFile()
    glyphless, font = _font(pdf, pages)
    entries: list[str] = []
    for page, to_points in zip(pages, maps, strict=True):
        content = pdf.stream(_text(page, to_points, glyphless).encode("ascii"))
        sides = numbers(*_extent(page, to_points))
        entries.append(f"/MediaBox[{sides}]/Contents {content} 0 R/Resources<</Font<</F {font} 0 R>>>>")
    return pdf.pages(entries)


def _extent(page: Page, to_points: Affine) -> Box:
    """What the page's pixels cover of its user space, in which y counts upwards."""
    return box(tuple(_at(to_points, corner) for corner in ((0, 0), (page.width, page.height))))


def _font(pdf: PdfFile, pages: Sequence[Page]) -> tuple[Glyphless, int]:
    glyphless = Glyphless(visual(clean(word.text)) for page in pages for line in page.lines for word in words(line))
    return glyphless, glyphless.add_to(pdf)


def _to_points(page: Page, origin: Point, right: Point, below: Point) -> Affine:
    """The map that takes three corners of the page's pixels, top left, top right and bottom left, to these points."""
    width, height = max(page.width, 1), max(page.height, 1)
    a, b = (right[0] - origin[0]) / width, (right[1] - origin[1]) / width
    c, d = (below[0] - origin[0]) / height, (below[1] - origin[1]) / height
    return a, b, c, d, *origin


def _text(page: Page, to_points: Affine, glyphless: Glyphless) -> str:
    """The page's words in reading order as operators, none of which shows: text rendering mode 3."""
    shown = "\n".join(_shown(page, to_points, glyphless))
    # How the page's own text was spaced, stretched and raised last, a form on it inherits.
    return f"q BT 3 Tr 0 Tc 0 Tw 100 Tz 0 Ts /F 1 Tf\n{shown}\nET Q\n"


def _shown(page: Page, to_points: Affine, glyphless: Glyphless) -> Iterator[str]:
    for line in (line for block in blocks(page) for line in lines(page, block)):
        end: Polygon | None = None
        for word in words(line):
            text, corners = clean(word.text), _corners(word.polygon)
            if not advance(text):
                continue
            if end is not None:
                # A space from one word to the next: or readers that go by distances alone might join them.
                before, after = (end, corners) if _forward(end, corners) else (corners, end)
                yield _piece(" ", (before[1], after[0], after[3], before[2]), to_points, glyphless)
            yield _piece(text, corners, to_points, glyphless)
            end = corners


def _piece(text: str, corners: Polygon, to_points: Affine, glyphless: Glyphless) -> str:
    """`text` from corner to corner: its matrix turns, slants and stretches it until it fills the polygon."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = (_at(to_points, corner) for corner in corners)
    text = visual(text)
    pen = advance(text)
    along = ((bx - ax + cx - dx) / 2 / pen, (by - ay + cy - dy) / 2 / pen)
    up = (ax - dx, ay - dy)
    start = (dx + _BELOW * up[0], dy + _BELOW * up[1])
    shown = f"{numbers(*along, *up, *start)} Tm {glyphless.encoded(text)} Tj"
    if pen * min(map(abs, along)) < _DRIFT:
        return shown
    return f"/Span<</ActualText<{(BOM_UTF16_BE + text.encode('utf-16-be')).hex()}>>>BDC {shown} EMC"


def _forward(word: Polygon, other: Polygon) -> bool:
    """Whether the other word stands on from this one in the direction of its line; those of Hebrew stand before it."""
    (ax, ay), (bx, by), *_ = word
    (cx, cy), *_ = other
    return (bx - ax) * (cx - ax) + (by - ay) * (cy - ay) >= 0


def _corners(polygon: Polygon) -> Polygon:
    """Four corners that enclose something: the polygon's own, or those of its box, a pixel wide and high at least."""
    if len(polygon) == 4 and _area(polygon) >= 1:
        return polygon
    left, top, right, bottom = box(polygon)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _area(polygon: Polygon) -> float:
    pairs = zip(polygon, (*polygon[1:], polygon[0]), strict=True)
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) / 2


def _at(affine: Affine, point: Point) -> Point:
    a, b, c, d, e, f = affine
    x, y = point
    return a * x + c * y + e, b * x + d * y + f
