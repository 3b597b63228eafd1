"""Documents: bytes of any origin to sheets, or one clear error. Hostile input is normal here."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.images import image_format, image_sheets
from ocr_ops.runtime.pdf import is_pdf, pdf_sheets
from ocr_ops.runtime.sheet import LIMITS, Limits, Sheet, broken, too_large
from ocr_ops.runtime.word import is_word, word_sheets

__all__ = ["LIMITS", "Limits", "Sheet", "page_images", "sheets"]

KINDS = "JPEG, PNG, TIFF, WebP, BMP, GIF, PDF or DOCX"
WHOLE = ReadOptions()
_PIXELS = ReadOptions(text_layer="ignore")


def sheets(data: bytes, name: str, options: ReadOptions = WHOLE, limits: Limits = LIMITS) -> Iterator[Sheet]:
    """The pages of a document that `options` wants, one at a time and in order.

    JPEG, PNG, TIFF (all its pages), WebP, BMP, GIF, PDF and Word's .docx, known by their first bytes; `name` is for
    errors. The pages of a .docx are text, whatever `options.text_layer` says: it has no pixels but its pictures'.
    `UnreadableDocument` with `http_status` 413 (too large), 415 (another type) or 422 (broken, locked,
    empty): at once for what the size and type tell, else when the page is asked for.
    """
    if not data:
        raise broken(name, "no bytes")
    if len(data) > limits.max_bytes:
        raise too_large(name, f"{len(data):,} bytes", f"at most {limits.max_bytes:,}")
    form = image_format(data)
    if form is not None:
        return image_sheets(data, form, name, options, limits)
    if is_pdf(data):
        return pdf_sheets(data, name, options, limits)
    if is_word(data):
        return word_sheets(data, name, options, limits)
    raise UnreadableDocument(name, "an unknown type", KINDS, "convert it first", 415)


def page_images(data: bytes, name: str, limits: Limits = LIMITS) -> Iterator[NDArray[np.uint8]]:
    """The pages of a document, one at a time, as uint8 (H, W, 3) RGB, whatever text it has. Errors as `sheets`."""
    pages = sheets(data, name, _PIXELS, limits)
    return (sheet.image for sheet in pages if sheet.image is not None)
