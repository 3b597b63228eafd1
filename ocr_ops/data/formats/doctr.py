"""docTR folders: `images/` beside `labels.json`, keyed by the name of the image.

- detection: `{"1.jpg": {"polygons": [[[x, y], ...], ...]}}`, or polygons by class; they say where text is, not which;
- recognition: `{"1.jpg": "TEXT"}`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ocr_ops.core.errors import BadRecord
from ocr_ops.data.labels import (
    UNREAD,
    Found,
    Region,
    bad,
    corners,
    image_named,
    line_text,
    page_of,
    parsed_json,
    shorten,
    text_file,
)

LABELS_FILE = "labels.json"
_IMAGES = "images"


def holds_pages(path: Path) -> bool:
    return isinstance(_first(path), dict)


def holds_lines(path: Path) -> bool:
    return isinstance(_first(path), str)


def read_pages(folder: Path) -> Found:
    """The pages of a detection folder; every region's text is `UNREAD`."""
    for name, value in _labels(folder).items():
        where = f"{folder / LABELS_FILE}#{name}"
        polygons = value.get("polygons") if isinstance(value, dict) else None
        if isinstance(polygons, dict):
            polygons = [polygon for group in polygons.values() if isinstance(group, list) for polygon in group]
        try:
            if not isinstance(polygons, list):
                raise bad(where, shorten(value), "polygons of the image")
            image = image_named(folder, f"{_IMAGES}/{name}", where)
        except BadRecord as error:
            yield error
            continue
        yield from page_of(image, ((f"{where}[{i}]", polygon) for i, polygon in enumerate(polygons)), _region)


def read_lines(folder: Path) -> Iterator[tuple[str, str, str] | BadRecord]:
    """Where, image and text of each crop, bad ones as they come."""
    for name, value in _labels(folder).items():
        where = f"{folder / LABELS_FILE}#{name}"
        try:
            yield where, image_named(folder, f"{_IMAGES}/{name}", where), line_text(value, where)
        except BadRecord as error:
            yield error


def _region(polygon: Any, where: str) -> Region:
    return Region(polygon=corners(polygon, where), text=UNREAD)


def _labels(folder: Path) -> dict[str, Any]:
    path = folder / LABELS_FILE
    labels = parsed_json(text_file(path), path)
    if not isinstance(labels, dict):
        raise bad(path, shorten(labels), "an object keyed by image")
    return labels


def _first(folder: Path) -> Any:
    """The label of the first image; none when this is no docTR folder."""
    if not (folder / LABELS_FILE).is_file() or not (folder / _IMAGES).is_dir():
        return None
    try:
        return next(iter(_labels(folder).values()), None)
    except BadRecord:
        return None
