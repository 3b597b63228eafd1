"""Pictures: the pages of an image as a PDF holds them, in their own bytes wherever PDF knows the coding."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.documents import LIMITS, Limits, sheets
from ocr_ops.runtime.images import SIDEWAYS, image_format, square, turn
from ocr_ops.runtime.sheet import guard

Placement = tuple[int, int, int, int, int, int]
"""a, b, c, d, e, f: where the stored picture's unit square comes to lie on an upright page of width W and height H:
(u, v) at ((a u + c v + e) W, (b u + d v + f) H)."""

_PLACED: dict[Image.Transpose | None, Placement] = {
    None: (1, 0, 0, 1, 0, 0),
    Image.Transpose.FLIP_LEFT_RIGHT: (-1, 0, 0, 1, 1, 0),
    Image.Transpose.ROTATE_180: (-1, 0, 0, -1, 1, 1),
    Image.Transpose.FLIP_TOP_BOTTOM: (1, 0, 0, -1, 0, 1),
    Image.Transpose.TRANSPOSE: (0, -1, -1, 0, 1, 1),
    Image.Transpose.ROTATE_270: (0, -1, 1, 0, 0, 1),
    Image.Transpose.TRANSVERSE: (0, 1, 1, 0, 0, 0),
    Image.Transpose.ROTATE_90: (0, 1, -1, 0, 1, 0),
}
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {0: ("/DeviceGray", 1), 2: ("/DeviceRGB", 3), 3: ("", 1)}
_JPEG_COLOURS = {
    "L": "/ColorSpace/DeviceGray",
    "RGB": "/ColorSpace/DeviceRGB",
    "CMYK": "/ColorSpace/DeviceCMYK/Decode[1 0 1 0 1 0 1 0]",  # as Adobe writes them: inverted
}
_SANE_DPI = range(50, 2401)
_MOST_POINTS = 14_400  # ISO 32000-1, annex C: the side of a page


@dataclass(frozen=True, slots=True)
class Picture:
    """One page's image: the bytes and entries of its stream, and how it lies on the page."""

    data: bytes
    entries: str
    placed: Placement
    width: float
    height: float
    """Of the page, in points."""


def pictures(data: bytes, name: str, options: ReadOptions, limits: Limits = LIMITS) -> Iterator[Picture]:
    """The pages of an image that `options` wants. JPEGs are taken as they are, and PNGs that are no more than pixels;
    any other is coded without loss, upright and on white.
    """
    form = image_format(data)
    with guard(name, lambda: Image.open(io.BytesIO(data), formats=[form or ""])) as image:
        stored = _jpeg(data, image) if form == "JPEG" else _png(data) if form == "PNG" else None
        if stored is not None:
            yield _picture(*stored, (image.width, image.height), turn(image), _dpi(image))
            return
        for sheet in sheets(data, name, options, limits):
            if sheet.image is not None:
                guard(name, partial(image.seek, sheet.number - 1))
                yield picture_of(sheet.image, _upright(image))


def picture_of(page: NDArray[np.uint8], dpi: tuple[float, float] = (LIMITS.pdf_dpi, LIMITS.pdf_dpi)) -> Picture:
    """A page, uint8 (H, W, 3) RGB, coded without loss."""
    height, width = page.shape[:2]
    return _picture(*_lossless(page), (width, height), None, dpi)


def _picture(
    data: bytes, entries: str, size: tuple[int, int], way: Image.Transpose | None, dpi: tuple[float, float]
) -> Picture:
    """`size` and `dpi` are those of the picture as it is stored, across and down."""
    sides = [72 * pixels / density for pixels, density in zip(size, dpi, strict=True)]
    shrunk = min(1.0, _MOST_POINTS / max(sides))
    width, height = (side * shrunk for side in (sides if _PLACED[way][0] else sides[::-1]))
    entries = f"/Type/XObject/Subtype/Image/Width {size[0]}/Height {size[1]}{entries}"
    return Picture(data, entries, _PLACED[way], width, height)


def _dpi(image: Image.Image) -> tuple[float, float]:
    """The density of pixels that the file tells, across and down; where none can be believed, that of rendered PDFs."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return LIMITS.pdf_dpi, LIMITS.pdf_dpi
    believed = all(_SANE_DPI.start <= density < _SANE_DPI.stop for density in (across, down))
    return (across, down) if believed else (LIMITS.pdf_dpi, LIMITS.pdf_dpi)


def _upright(image: Image.Image) -> tuple[float, float]:
    """The density of the frame as it is read: upright, and of square pixels."""
    across, down = _dpi(image)
    if square(image) != image.size:
        across = down = max(across, down)
    return (down, across) if turn(image) in SIDEWAYS else (across, down)


def _jpeg(data: bytes, image: Image.Image) -> tuple[bytes, str] | None:
    colours = _JPEG_COLOURS.get(image.mode)
    unsure = image.mode == "CMYK" and "adobe" not in image.info  # which end of its scale is ink, nobody says
    return None if colours is None or unsure else (data, f"{colours}/BitsPerComponent 8/Filter/DCTDecode")


def _png(data: bytes) -> tuple[bytes, str] | None:
    """A PNG's own compressed rows, which PDF reads as they are; None if it is interlaced or transparent."""
    chunks: dict[bytes, bytes] = {}
    rows: list[bytes] = []
    at = len(_PNG_MAGIC)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            rows.append(body)
        else:
            chunks.setdefault(kind, body)
        at += length + 12
    width, _, depth, colour, _, _, interlaced = struct.unpack_from(
        ">IIBBBBB", chunks.get(b"IHDR", b"").ljust(13, b"\0")
    )
    if interlaced or b"tRNS" in chunks or colour not in _PNG_COLOURS or not rows:
        return None
    space, channels = _PNG_COLOURS[colour]
    if colour == 3:
        palette = chunks.get(b"PLTE", b"")[: 3 * 2**depth]
        if not palette or len(palette) % 3:
            return None
        space = f"[/Indexed/DeviceRGB {len(palette) // 3 - 1} <{palette.hex()}>]"
    parameters = f"<</Predictor 15/Colors {channels}/BitsPerComponent {depth}/Columns {width}>>"
    entries = f"/ColorSpace{space}/BitsPerComponent {depth}/Filter/FlateDecode/DecodeParms{parameters}"
    return b"".join(rows), entries


def _lossless(page: NDArray[np.uint8]) -> tuple[bytes, str]:
    """A page, uint8 (H, W, 3) RGB, in as few bits as it needs."""
    image = Image.fromarray(page)
    if np.array_equal(page[..., 0], page[..., 1]) and np.array_equal(page[..., 0], page[..., 2]):
        grey = page[..., 0]
        image = Image.fromarray(np.ascontiguousarray(grey))
        if np.isin(grey, (0, 255)).all():
            image = image.convert("1", dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    stored = _png(buffer.getvalue())
    assert stored is not None  # noqa: S101  Pillow writes pixels alone, and row after row
    return stored
