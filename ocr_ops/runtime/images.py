"""Images: JPEG, PNG, TIFF (all its pages), WebP, BMP and GIF to upright RGB, or grey, on white."""

import io
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageStat

from ocr_ops.core.options import ReadOptions, page_spans
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
_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))
"""Those that exchange width and height."""


def image_format(data: bytes) -> str | None:
    """What Pillow calls the format these bytes begin as; None of none that is read."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return next((form for magic, form in _MAGIC.items() if data.startswith(magic)), None)


def image_sheets(
    data: bytes, form: str, name: str, options: ReadOptions, limits: Limits, *, grey: bool = False
) -> Iterator[Sheet]:
    """The pages of an image of the format `form`, (H, W, 3) RGB or `grey` (H, W). Of a film, the first picture."""
    with guard(name, lambda: Image.open(io.BytesIO(data), formats=[form])) as image:
        count, spans = 1, page_spans(options.pages) if options.pages is not None else ((1, limits.max_pages + 1),)
        last = max(last for _, last in spans)  # what nobody wants is not looked for
        while form == "TIFF" and count < last and guard(name, partial(_has_frame, image, count)):
            count += 1
        numbers = wanted(name, options.pages, count, limits)
        for number in numbers:
            guard(name, partial(image.seek, number - 1))
            width, height = guard(name, partial(square, image))
            if width * height > limits.max_pixels:
                found = f"page {number} of {width} x {height} pixels"
                raise too_large(name, found, f"at most {limits.max_pixels:,} pixels")
            yield Sheet(number, len(numbers), guard(name, partial(_pixels, image, "L" if grey else "RGB")))


def _has_frame(image: Image.Image, index: int) -> bool:
    try:
        image.seek(index)
    except EOFError:
        return False
    return True


def square(image: Image.Image) -> tuple[int, int]:
    """The size of the frame when its pixels are made square: those of a coarse fax are twice as high as wide.

    Call it before the frame is loaded, which forgets how a TIFF is turned.
    """
    width, height = image.size
    across, down = map(float, image.info.get("dpi", (1, 1)) if image.format == "TIFF" else (1, 1))
    if across != down and turn(image) in SIDEWAYS:  # of a TIFF, Pillow tells the upright size and the stored densities
        across, down = down, across
    most = max(across, down)
    if min(across, down) > 50 and 1.3 < most / min(across, down) < 4:
        return round(width * most / across), round(height * most / down)
    return width, height


def _pixels(image: Image.Image, mode: Literal["RGB", "L"]) -> NDArray[np.uint8]:
    """The current frame as uint8 (H, W, 3) or, for `L`, (H, W): upright, on white, at 8 bits a channel."""
    size = square(image)
    image.draft(mode, None)  # of a JPEG only its luminance is decoded, where that is all that is wanted
    image.load()
    frame: Image.Image = image
    if frame.mode.startswith("I;16") or frame.mode in ("I", "F"):
        frame = _eight_bits(image)
    elif frame.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow takes all for Adobe's, which count backwards. Of others nobody knows: paper is light.
        frame = max(frame, ImageChops.invert(frame), key=_lightness)
    elif frame.mode == "LAB":
        frame = frame.convert("RGB")  # the one thing that Pillow makes of it
    if frame.has_transparency_data:
        frame = frame.convert("RGBA")
        frame = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame)
    if size != image.size:
        frame = frame.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    way = turn(image)
    if way is not None:
        frame = frame.transpose(way)
    return np.array(frame if frame.mode == mode else frame.convert(mode))


def _lightness(frame: Image.Image) -> float:
    return ImageStat.Stat(frame.convert("L").resize((64, 64))).mean[0]


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys by the range of 10, 12 or 16 bits that they use; wider values by their own."""
    values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    sixteen = image.mode.startswith("I;16")
    if sixteen:
        low, high = 0.0, next(most for most in (1023.0, 4095.0, 65535.0) if high <= most)
    scaled = np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255)
    if sixteen and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        scaled = 255 - scaled  # white is zero, which Pillow heeds up to 8 bits
    return Image.fromarray(np.round(scaled).astype(np.uint8))


def turn(image: Image.Image) -> Image.Transpose | None:
    """What brings the frame upright, by its EXIF data. Broken ones are no reason to refuse good pixels."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  hostile metadata trips Pillow in any way
        return None
