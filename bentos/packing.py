"""Packing: what goes over a hop, as bytes. Pictures are their raw pixels after a head that tells their shapes; nothing
that is unpacked is ever run, and nothing is larger than it says.
"""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from mmap import mmap

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import UsageError
from ocr_ops.runtime.ctc import Decoded

MEDIA_TYPE = "application/vnd.ocr-ops.pictures"
MOST_PICTURES = 65_536
_COUNT, _SHAPE = struct.Struct("<4sI"), struct.Struct("<III")
_MAGIC = b"OCR1"
_CHARACTER = 3 * 8
"""Bytes that tell of a character."""


def pack(pictures: Sequence[NDArray[np.uint8]]) -> bytes:
    """Pictures, uint8 (H, W) or (H, W, C), in one buffer: a count, their shapes, their pixels."""
    shapes = [(*picture.shape, 0)[:3] for picture in pictures]
    head = [_COUNT.pack(_MAGIC, len(pictures)), *(_SHAPE.pack(*shape) for shape in shapes)]
    return b"".join([*head, *(np.ascontiguousarray(picture).data.cast("B") for picture in pictures if picture.size)])


def unpack(body: bytes | mmap) -> list[NDArray[np.uint8]]:
    """The pictures in a buffer of `pack`, read-only views of it. `UsageError` for any other bytes."""
    if len(body) < _COUNT.size:
        raise _wrong(f"{len(body)} bytes")
    magic, count = _COUNT.unpack_from(body)
    start = _COUNT.size + count * _SHAPE.size
    if magic != _MAGIC or count > MOST_PICTURES or len(body) < start:
        raise _wrong(f"a head of {magic!r} and {count} pictures in {len(body):,} bytes")
    shapes = [shape if shape[2] else shape[:2] for shape in _SHAPE.iter_unpack(memoryview(body)[_COUNT.size : start])]
    sizes = [math.prod(shape) for shape in shapes]
    if not all(sizes) or start + sum(sizes) != len(body):
        raise _wrong(f"{sum(sizes):,} bytes of pixels announced, {len(body) - start:,} sent")
    return list(_cut(body, start, shapes, sizes))


def _cut(
    body: bytes | mmap, start: int, shapes: Sequence[tuple[int, ...]], sizes: Sequence[int]
) -> Iterator[NDArray[np.uint8]]:
    for shape, size in zip(shapes, sizes, strict=True):
        yield np.frombuffer(body, np.uint8, size, start).reshape(shape)
        start += size


def pack_boxes(boxes: NDArray[np.float32]) -> bytes:
    """Boxes, float32 (N, 4, 2)."""
    return np.ascontiguousarray(boxes, "<f4").tobytes()


def unpack_boxes(body: bytes) -> NDArray[np.float32]:
    """Boxes of `pack_boxes`, float32 (N, 4, 2). `UsageError` for bytes that are none."""
    if len(body) % 32:
        raise _wrong(f"{len(body)} bytes of boxes")
    boxes = np.frombuffer(body, "<f4").reshape(-1, 4, 2)
    if not np.isfinite(boxes).all():
        raise _wrong("a corner that is no number")
    return boxes.astype(np.float32)


def pack_texts(texts: Sequence[Decoded]) -> bytes:
    """What was read of crops: a line of JSON with the texts, then for each of their characters its confidence, start
    and end.
    """
    said = json.dumps([text.text for text in texts]).encode()
    sure = [confidence for text in texts for confidence in text.confidences]
    where = [edge for text in texts for span in text.spans for edge in span]
    return b"\n".join((said, np.array([*sure, *where], "<f8").tobytes()))


def unpack_texts(body: bytes) -> list[Decoded]:
    """Texts of `pack_texts`. `UsageError` for bytes that are none."""
    said, _, numbers = body.partition(b"\n")
    try:
        texts = json.loads(said)
    except (ValueError, RecursionError):
        raise _wrong(f"{len(body)} bytes of texts") from None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise _wrong("no list of texts")
    count = sum(map(len, texts))
    if len(numbers) != count * _CHARACTER:
        raise _wrong(f"{len(numbers)} bytes about {count} characters")
    values = np.frombuffer(numbers, "<f8")
    if not np.isfinite(values).all():
        raise _wrong("a character of no certainty or place")
    sure, where = values[:count].tolist(), values[count:].tolist()
    spans = list(zip(where[::2], where[1::2], strict=True))
    ends = accumulate(map(len, texts), initial=0)
    return [
        Decoded(text, tuple(sure[a:b]), tuple(spans[a:b])) for text, (a, b) in zip(texts, pairwise(ends), strict=True)
    ]


def _wrong(found: str) -> UsageError:
    return UsageError("hop", found, "what another service of this toolkit packed", "run the same version on both sides")
