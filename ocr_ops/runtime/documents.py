"""Documents: bytes of any origin to sheets, or one clear error. Hostile input is normal here."""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.images import image_format, image_sheets
from ocr_ops.runtime.pdf import is_pdf, pdf_sheets
from ocr_ops.runtime.sheet import LIMITS, Limits, Sheet, broken, too_large
from ocr_ops.runtime.word import word_sheets
from ocr_ops.runtime.word_package import is_word

__all__ = ["LIMITS", "Limits", "Sheet", "page_images", "sheets"]

KINDS = "JPEG, PNG, TIFF, WebP, BMP, GIF, PDF or DOCX"
WHOLE = ReadOptions()
_PIXELS = ReadOptions(text_layer="ignore")


def sheets(
    data: bytes, name: str, options: ReadOptions = WHOLE, limits: Limits = LIMITS, *, grey: bool = False
) -> Iterator[Sheet]:
    """The pages of a document that `options` wants, one at a time and in order.

    JPEG, PNG, TIFF (all its pages), WebP, BMP, GIF, PDF and Word's .docx, known by their first bytes; `name` is for
    errors. The pages of a .docx are text, whatever `options.text_layer` says: it has no pixels but its pictures'. With
    `grey`, for models that read no colours, pixels are (H, W): scans are opened in less than half the time.
    `UnreadableDocument` with `http_status` 413 (too large), 415 (another type) or 422 (broken, locked,
    empty): at once for what the size and type tell, else when the page is asked for.
    """
    if not data:
        raise broken(name, "no bytes")
    if len(data) > limits.max_bytes:
        raise too_large(name, f"{len(data):,} bytes", f"at most {limits.max_bytes:,}")
    form = image_format(data)
    if form is not None:
        return image_sheets(data, form, name, options, limits, grey=grey)
    for is_one, opened in ((is_pdf, pdf_sheets), (is_word, word_sheets)):
        if is_one(data):
            pages = opened(data, name, options, limits)
            return map(_grey, pages) if grey else pages
    raise UnreadableDocument(name, "an unknown type", KINDS, "convert it first", 415)


def _grey(sheet: Sheet) -> Sheet:
    if sheet.image is None or sheet.image.ndim == 2:
        return sheet
    return replace(sheet, image=np.asarray(cv2.cvtColor(sheet.image, cv2.COLOR_RGB2GRAY), np.uint8))


def page_images(data: bytes, name: str, limits: Limits = LIMITS) -> Iterator[NDArray[np.uint8]]:
    """The pages of a document, one at a time, as uint8 (H, W, 3) RGB, whatever text it has. Errors as `sheets`."""
    pages = sheets(data, name, _PIXELS, limits)
    return (sheet.image for sheet in pages if sheet.image is not None)
