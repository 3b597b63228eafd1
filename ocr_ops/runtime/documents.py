"""Documents: bytes of any origin to page images, or one clear error. Hostile input is normal here."""

import io
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import pypdfium2
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument

_FORMATS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
}
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PDF_HEADER_WITHIN = 1024  # ISO 32000-1, appendix H: readers accept the header anywhere in the first 1024 bytes
_POINTS_AN_INCH = 72

# PDFium may be entered by one thread of a process at a time. Re-entrant, because the garbage collector may
# close a forgotten generator in the very thread that holds the lock.
PDFIUM_LOCK = threading.RLock()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document may cost."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 60_000_000
    """A page. Images above are refused; PDF pages are rendered coarser instead."""
    max_pages: int = 50
    pdf_dpi: int = 200


LIMITS = Limits()


def page_images(data: bytes, name: str, limits: Limits = LIMITS) -> Iterator[NDArray[np.uint8]]:
    """The pages of a document, one at a time, as uint8 (H, W, 3) RGB.

    JPEG, PNG, TIFF (all its pages), WebP, BMP, GIF and PDF, known by their first bytes; `name` is for errors.
    `UnreadableDocument` with `http_status` 413 (too large), 415 (another type) or 422 (broken, locked,
    empty): at once for what the size and type tell, else when the page is asked for.
    """
    if not data:
        raise _broken(name, "no bytes")
    if len(data) > limits.max_bytes:
        raise _too_large(name, f"{len(data):,} bytes", f"at most {limits.max_bytes:,}")
    form = next((form for magic, form in _FORMATS.items() if data.startswith(magic)), None)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        form = "WEBP"
    if form is not None:
        return _image_pages(data, form, name, limits)
    if b"%PDF-" in data[:_PDF_HEADER_WITHIN]:
        return _pdf_pages(data, name, limits)
    raise UnreadableDocument(name, "an unknown type", "JPEG, PNG, TIFF, WebP, BMP, GIF or PDF", "convert it first", 415)


def _image_pages(data: bytes, form: str, name: str, limits: Limits) -> Iterator[NDArray[np.uint8]]:
    with _guard(name, lambda: Image.open(io.BytesIO(data), formats=[form])) as image:
        count = 1
        while form == "TIFF" and _guard(name, partial(_has_frame, image, count)):
            count += 1
            if count > limits.max_pages:
                raise _too_large(name, f"over {limits.max_pages} pages", f"at most {limits.max_pages}")
        for index in range(count):
            _guard(name, partial(image.seek, index))
            if image.width * image.height > limits.max_pixels:
                found = f"page {index + 1} of {image.width} x {image.height} pixels"
                raise _too_large(name, found, f"at most {limits.max_pixels:,} pixels")
            yield _guard(name, partial(_rgb, image))


def _has_frame(image: Image.Image, index: int) -> bool:
    try:
        image.seek(index)
    except EOFError:
        return False
    return True


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The current frame as uint8 (H, W, 3): upright, on white, at 8 bits a channel."""
    image.load()
    frame: Image.Image = image
    if frame.mode.startswith("I;16") or frame.mode in ("I", "F"):
        frame = _eight_bits(frame, image.mode)
    if frame.has_transparency_data:
        frame = frame.convert("RGBA")
        frame = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame)
    turn = _turn(image)
    if turn is not None:
        frame = frame.transpose(turn)
    return np.array(frame.convert("RGB"))


def _eight_bits(frame: Image.Image, mode: str) -> Image.Image:
    """16-bit greys by their full range; wider values, whose range nobody declares, by their own."""
    values = np.nan_to_num(np.asarray(frame, np.float32), posinf=0, neginf=0)
    low, high = (0.0, 65535.0) if mode.startswith("I;16") else (float(values.min()), float(values.max()))
    scaled = (values - low) * (255 / max(high - low, 1e-6))
    return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings the frame upright, by its EXIF data. Broken ones are no reason to refuse good pixels."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  hostile metadata trips Pillow in any way
        return None


def _pdf_pages(data: bytes, name: str, limits: Limits) -> Iterator[NDArray[np.uint8]]:
    with PDFIUM_LOCK:
        pdf = _guard(name, lambda: pypdfium2.PdfDocument(data))
    try:
        with PDFIUM_LOCK:
            count = _guard(name, lambda: len(pdf))
            if count > limits.max_pages:
                raise _too_large(name, f"{count} pages", f"at most {limits.max_pages}")
            if not count:
                raise _broken(name, "no pages")
            _guard(name, pdf.init_forms)  # or filled-in fields would not be drawn
        for index in range(count):
            with PDFIUM_LOCK:
                picture = _guard(name, partial(_render, pdf, index, limits))
            yield picture
    finally:
        with PDFIUM_LOCK:
            pdf.close()


def _render(pdf: pypdfium2.PdfDocument, index: int, limits: Limits) -> NDArray[np.uint8]:
    """One page as uint8 (H, W, 3) RGB; call it under the lock."""
    # Closed by hand: a finaliser would call PDFium from the garbage collector, outside the lock.
    page = pdf[index]
    try:
        width, height = page.get_size()
        if width <= 0 or height <= 0:
            msg = f"page {index + 1} of {width:g} x {height:g} points"
            raise ValueError(msg)
        # PDFium rounds both sides up: the largest s with (width s + 1) (height s + 1) <= max_pixels.
        area, half = width * height, (width + height) / 2
        most = (math.sqrt(half * half + area * (limits.max_pixels - 1)) - half) / area
        bitmap = page.render(scale=min(limits.pdf_dpi / _POINTS_AN_INCH, most), rev_byteorder=True)
        try:
            return np.array(bitmap.to_numpy())
        finally:
            bitmap.close()
    finally:
        page.close()


_T = TypeVar("_T")


def _guard(name: str, step: Callable[[], _T]) -> _T:
    """Runs one step of a decoder; whatever it trips over becomes an `UnreadableDocument`."""
    try:
        return step()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error).partition(",")[0], "a page of fewer pixels") from None
    except Exception as error:  # noqa: BLE001  decoders fed with hostile bytes raise anything
        if "password" in str(error).lower():
            raise _broken(name, "locked with a password") from None
        raise _broken(name, f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")) from None


def _broken(name: str, found: str) -> UnreadableDocument:
    return UnreadableDocument(name, found, "a whole, open document", "save or scan it again", 422)


def _too_large(name: str, found: str, expected: str) -> UnreadableDocument:
    return UnreadableDocument(name, found, expected, "split or shrink it", 413)
