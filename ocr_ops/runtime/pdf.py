"""PDFs, opened by PDFium: their pages rendered, or read by their own text where it is sound."""

import math
import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import pypdfium2
from numpy.typing import NDArray
from pypdfium2 import raw

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.runtime.sheet import Limits, Sheet, guard, wanted
from ocr_ops.runtime.text_layer import Judgement, own_text, without

_HEADER_WITHIN = 1024  # ISO 32000-1, appendix H: readers accept the header anywhere in the first 1024 bytes
POINTS_AN_INCH = 72
_ON_TOP = frozenset({raw.FPDF_ANNOT_WIDGET, raw.FPDF_ANNOT_FREETEXT, raw.FPDF_ANNOT_STAMP})
"""Kinds of annotations that show text: fields of forms, and what was written or stamped on the page later."""

# PDFium may be entered by one thread of a process at a time. Re-entrant, because the garbage collector may
# close a forgotten generator in the very thread that holds the lock.
PDFIUM_LOCK = threading.RLock()


def is_pdf(data: bytes) -> bool:
    return b"%PDF-" in data[:_HEADER_WITHIN]


def pdf_sheets(data: bytes, name: str, options: ReadOptions, limits: Limits) -> Iterator[Sheet]:
    """The pages of a PDF."""
    with PDFIUM_LOCK:
        pdf = guard(name, lambda: pypdfium2.PdfDocument(data))
    flat = _Flat(data)
    try:
        with PDFIUM_LOCK:
            numbers = wanted(name, options.pages, guard(name, lambda: len(pdf)), limits)
            guard(name, pdf.init_forms)  # or filled-in fields would not be drawn
        for number in numbers:
            with PDFIUM_LOCK:
                image, text = guard(name, partial(_open, pdf, flat, number, options, limits))
            yield Sheet(number, len(numbers), image, text)
    finally:
        with PDFIUM_LOCK:
            flat.close()
            pdf.close()


class _Flat:
    """A second opening of a document, made when it is needed: what lies on top of its pages becomes part of them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pdf: pypdfium2.PdfDocument | None = None

    def own_text(self, number: int, width: int, height: int) -> Judgement:
        """As the function. Call it under the lock."""
        if self._pdf is None:
            self._pdf = pypdfium2.PdfDocument(self._data)
            self._pdf.init_forms()  # makes looks for fields that have none
        if not flatten(self._pdf, number - 1):
            return Judgement(None, "fields that cannot be drawn")
        page = self._pdf[number - 1]
        try:
            return own_text(page, width, height)
        finally:
            page.close()

    def close(self) -> None:
        if self._pdf is not None:
            self._pdf.close()


def flatten(pdf: pypdfium2.PdfDocument, index: int) -> bool:
    """Makes what annotations show on a page a part of it, if that can be done. Call it under the lock."""
    page = pdf[index]
    try:
        return bool(raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) != raw.FLATTEN_FAIL)
    finally:
        page.close()


def has_text_on_top(page: pypdfium2.PdfPage) -> bool:
    """Whether there are annotations that show text, which is then no part of the page's own. Call it under the lock."""
    for index in range(raw.FPDFPage_GetAnnotCount(page)):
        annotation = raw.FPDFPage_GetAnnot(page, index)
        kind = raw.FPDFAnnot_GetSubtype(annotation)
        raw.FPDFPage_CloseAnnot(annotation)
        if kind in _ON_TOP:
            return True
    return False


def _open(
    pdf: pypdfium2.PdfDocument, flat: _Flat, number: int, options: ReadOptions, limits: Limits
) -> tuple[NDArray[np.uint8] | None, Page | None]:
    """One page: its picture, uint8 (H, W, 3) RGB, its text, or both, as of a `Sheet`. Call it under the lock."""
    # Closed by hand: a finaliser would call PDFium from the garbage collector, outside the lock.
    page = pdf[number - 1]
    try:
        width, height = page.get_size()
        if width <= 0 or height <= 0:
            msg = f"page {number} of {width:g} x {height:g} points"
            raise ValueError(msg)
        # PDFium rounds both sides up: the largest s with (width s + 1) (height s + 1) <= max_pixels.
        area, half = width * height, (width + height) / 2
        most = (math.sqrt(half * half + area * (limits.max_pixels - 1)) - half) / area
        scale = min(limits.pdf_dpi / POINTS_AN_INCH, most)
        own = Judgement(None)
        if options.text_layer == "auto":
            size = math.ceil(width * scale), math.ceil(height * scale)
            own = flat.own_text(number, *size) if has_text_on_top(page) else own_text(page, *size)
        if own.page is not None and not own.painted:
            return None, own.page
        image = _rendered(page, scale)
        return without(image, own.painted), own.page
    finally:
        page.close()


def _rendered(page: pypdfium2.PdfPage, scale: float) -> NDArray[np.uint8]:
    """Its picture, uint8 (H, W, 3) RGB."""
    bitmap = page.render(scale=scale, rev_byteorder=True)
    try:
        return np.array(bitmap.to_numpy())
    finally:
        bitmap.close()
