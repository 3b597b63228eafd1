"""Leaks: images of a test set that a training set has, too, or nearly so."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops.core.errors import BadInput
from ocr_ops.data.labels import IMAGE_SUFFIXES
from ocr_ops.data.lines import scan_lines
from ocr_ops.data.pages import page_format, scan_pages
from ocr_ops.data.pixels import Gray, distances, gray_file, look

DISTANCE = 24
"""Bits of 256. Receipts compressed and scaled again differ by 6 at most, different ones by 28 at least."""
BLOCK = 1024
"""Test images compared at a time."""
LEAST_CONTRAST = 8.0
"""Standard deviation of grey levels; what is blank looks like anything else that is."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Where each image is, and what it looks like: uint64 (n, 4)."""

    places: tuple[str, ...]
    codes: NDArray[np.uint64]
    skipped: int
    """Images that do not decode, or are blank."""


@dataclass(frozen=True, slots=True)
class Leak:
    """A test image, the training image most like it, and by how many bits of 256 they differ."""

    test: str
    train: str
    distance: int


def leaks(train: Looks, test: Looks, most: int = DISTANCE) -> list[Leak]:
    """Test images within `most` bits of a training image, the nearest one each."""
    found: list[Leak] = []
    for start in range(0, len(test.codes), BLOCK):
        apart = distances(test.codes[start : start + BLOCK], train.codes)
        nearest = apart.argmin(axis=1)
        for row in np.flatnonzero(apart[np.arange(len(apart)), nearest] <= most):
            column = int(nearest[row])
            found.append(Leak(test.places[start + row], train.places[column], int(apart[row, column])))
    return found


def looks(path: Path, form: str | None = None, *, lines: bool = False) -> Looks:
    """What the images of a dataset, or of a bare folder of images, look like; `lines` cuts pages into their lines.

    `BadInput` when not one of them can be compared.
    """
    places, codes, skipped = [], [], 0
    for place, image in tqdm(_images(path, form, lines=lines), f"look at {path.name}", unit="image", disable=None):
        if image is None or float(image.std()) < LEAST_CONTRAST:
            skipped += 1
        else:
            places.append(place)
            codes.append(look(image))
    if not codes:
        raise BadInput(path, f"{skipped} images, none of them comparable", "readable images", "check the folder")
    return Looks(tuple(places), np.stack(codes), skipped)


def _images(path: Path, form: str | None, *, lines: bool) -> Iterator[tuple[str, Gray | None]]:
    if lines:
        for line in scan_lines(path, form).lines:
            try:
                yield line.where, line.image()
            except BadInput:
                yield line.where, None
        return
    if form or page_format(path):
        pages = scan_pages(path, form)
        files = [pages.folder / page.image for page in pages.pages]
    else:
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    for file in files:
        try:
            yield str(file), gray_file(file)
        except BadInput:
            yield str(file), None
