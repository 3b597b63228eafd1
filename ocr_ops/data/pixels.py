"""Pixels of a dataset's images: decoded, identified exactly, and compared by looks."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import BadInput
from ocr_ops.runtime.documents import page_images

Gray = NDArray[np.uint8]

LOOK_SIDE = 16
"""A look has as many bits, squared."""


def gray(data: bytes, name: str) -> Gray:
    """The first page of a document as uint8 (h, w). `UnreadableDocument` when it does not decode."""
    image = next(page_images(data, name))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def gray_file(path: Path) -> Gray:
    """As `gray`, of a file. `BadInput` when there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(path, (error.strerror or str(error)).lower(), "an image", "restore it") from None
    return gray(data, str(path))


def pixel_digest(image: Gray) -> str:
    """`sha256:<hex>` of shape and pixels, however a file packs them."""
    return "sha256:" + hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def look(image: Gray) -> NDArray[np.uint64]:
    """A perceptual hash, uint64 (4,): nearly the same for an image that was scaled, brightened or compressed again.

    256 bits: signs of the lowest frequencies of the image's cosine transform at 64 x 64, against their median
    (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010, with 16 x 16 for 8 x 8:
    documents look more alike than photographs).
    """
    small = cv2.resize(image, (4 * LOOK_SIDE, 4 * LOOK_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:LOOK_SIDE, :LOOK_SIDE].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # mean brightness
    return np.packbits(bits).view(np.uint64)


def distances(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Differing bits of each look (n, 4) against each (m, 4), uint16 (n, m)."""
    total = np.zeros((len(left), len(right)), np.uint16)
    for word in range(left.shape[1]):
        total += np.bitwise_count(left[:, word, None] ^ right[None, :, word])
    return total
