"""Images: JPEG, PNG, TIFF (all its pages), WebP, BMP and GIF to upright RGB on white."""

import io
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.sheet import Limits, Sheet, guard, too_large, wanted

_MAGIC = {
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


def image_format(data: bytes) -> str | None:
    """What Pillow calls the format these bytes begin as; None of none that is read."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return next((form for magic, form in _MAGIC.items() if data.startswith(magic)), None)


def image_sheets(data: bytes, form: str, name: str, options: ReadOptions, limits: Limits) -> Iterator[Sheet]:
    """The pages of an image of the format `form`. Of a film, the first picture."""
    with guard(name, lambda: Image.open(io.BytesIO(data), formats=[form])) as image:
        count = 1
        while form == "TIFF" and guard(name, partial(_has_frame, image, count)):
            count += 1
            if count > limits.max_pages and options.pages is None:
                raise too_large(name, f"over {limits.max_pages} pages", f"at most {limits.max_pages}")
        numbers = wanted(name, options.pages, count, limits)
        for number in numbers:
            guard(name, partial(image.seek, number - 1))
            if image.width * image.height > limits.max_pixels:
                found = f"page {number} of {image.width} x {image.height} pixels"
                raise too_large(name, found, f"at most {limits.max_pixels:,} pixels")
            yield Sheet(number, len(numbers), guard(name, partial(_rgb, image)))


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
    way = turn(image)
    if way is not None:
        frame = frame.transpose(way)
    return np.array(frame.convert("RGB"))


def _eight_bits(frame: Image.Image, mode: str) -> Image.Image:
    """16-bit greys by their full range; wider values, whose range nobody declares, by their own."""
    values = np.nan_to_num(np.asarray(frame, np.float32), posinf=0, neginf=0)
    low, high = (0.0, 65535.0) if mode.startswith("I;16") else (float(values.min()), float(values.max()))
    scaled = (values - low) * (255 / max(high - low, 1e-6))
    return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))


def turn(image: Image.Image) -> Image.Transpose | None:
    """What brings the frame upright, by its EXIF data. Broken ones are no reason to refuse good pixels."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  hostile metadata trips Pillow in any way
        return None
