"""Row files of the ICDAR competitions: a text file an image, a row a region, coordinates in front of the text.

- SROIE (2019): `img/N.jpg` and `box/N.csv`, `x1,y1,..,x4,y4,TEXT`, upper-cased whatever the image shows;
- Incidental Scene Text (2015): `gt_NAME.txt`, the same rows, `###` is not to be read;
- Focused Scene Text (2013): `gt_NAME.txt`, `left, top, right, bottom, "text"`, or parted by spaces.
"""

import re
from pathlib import Path

from ocr_ops.core.errors import BadRecord
from ocr_ops.data.labels import (
    IMAGE_SUFFIXES,
    Found,
    Region,
    bad,
    box,
    corners,
    image_of,
    images_by_stem,
    label_text,
    near,
    page_of,
    rows,
    shorten,
)

_NUMBER = r"\s*([-+]?\d{1,9}(?:\.\d*)?)\s*"
_EIGHT = re.compile(",".join([_NUMBER] * 8) + ",(.*)", re.DOTALL)
_FOUR = re.compile(",".join([_NUMBER] * 4) + ",(.*)", re.DOTALL)
_SPACED = re.compile(r"\s+".join([r"([-+]?\d{1,9})"] * 4) + r'\s+(".*")\s*', re.DOTALL)


def holds_sroie(path: Path) -> bool:
    return (path / "box").is_dir() and (path / "img").is_dir()


def holds(path: Path) -> bool:
    return any(file.name.startswith("gt_") for file in _label_files(path))


def read_sroie(folder: Path) -> Found:
    """An image nobody labelled is an error: it is no page without text."""
    for image in sorted(path for path in (folder / "img").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES):
        yield from _page(f"img/{image.name}", folder / "box" / f"{image.stem}.csv")


def read(folder: Path) -> Found:
    """Label files, each with the image of its name, in the folder or in folders of it."""
    images = images_by_stem(folder)
    for file in _label_files(folder):
        try:
            image = image_of(file.stem.removeprefix("gt_"), images, folder, file)
        except BadRecord as error:
            yield error
        else:
            yield from _page(image, file)


def _page(image: str, labels: Path) -> Found:
    try:
        found = rows(labels)
    except BadRecord as error:
        yield error
        return
    yield from page_of(image, found, _region)


def _region(row: str, where: str) -> Region:
    if match := _EIGHT.fullmatch(row):
        *numbers, text = match.groups()
        polygon = corners(list(zip(numbers[::2], numbers[1::2], strict=True)), where)
    elif match := _FOUR.fullmatch(row) or _SPACED.fullmatch(row):
        *numbers, text = match.groups()
        polygon = box(numbers, where)
        text = re.sub(r'^\s*"(.*)"\s*$', r"\1", text)
    else:
        raise bad(where, shorten(row), "eight numbers (or four) and a text, comma-parted")
    return Region(polygon=polygon, text=label_text(text, where))


def _label_files(folder: Path) -> list[Path]:
    """The `gt_*.txt` near a folder; any `*.txt` when there is none."""
    texts = [path for path in near(folder) if path.suffix == ".txt"]
    return [path for path in texts if path.name.startswith("gt_")] or texts
