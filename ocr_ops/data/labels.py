"""Labels as files hold them: regions, pages, bad rows, and the few parts every format is parsed from."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import cv2
import numpy as np

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.reading import Polygon
from ocr_ops.core.record import Record, Value

IGNORED = frozenset({"", "***", "###"})
"""Texts of regions that are neither to be scored nor missed."""
UNREAD = "\ufffd"
"""Stands in a text for what nobody wrote down: such a region is to be found, its text is not scored."""
IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
FARTHEST = 1e6
"""Pixels; no page is that large."""
CASE_EVIDENCE = 100
"""So many letters of one case are no accident: the labels tell no case."""

T = TypeVar("T")


class Region(Value):
    """Text and where it stands: corners in pixels, clockwise from the text's top-left."""

    polygon: Polygon
    text: str

    @property
    def ignored(self) -> bool:
        return self.text in IGNORED

    @property
    def readable(self) -> bool:
        """Its text is known: it can be scored and learned from."""
        return not self.ignored and UNREAD not in self.text


class LabelledPage(Record):
    """One page: an image file (relative to its folder) and its regions."""

    image: str
    regions: tuple[Region, ...]
    transcript: str | None = None
    """The text of the whole page, where it is known better than its regions tell."""

    @property
    def text(self) -> str:
        if self.transcript is not None:
            return self.transcript
        return "\n".join(region.text for region in self.regions if region.readable)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A page as a file tells it, and where (file and line) each of its regions stands there."""

    page: LabelledPage
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A label that cannot be used: `where` (file and line, relative to its dataset) and why."""

    where: str
    cause: str

    @classmethod
    def of(cls, error: BadInput, folder: Path) -> Self:
        return cls(within(folder, error.subject), f"{error.found}; expected {error.expected}")


Found = Iterator[Labelled | BadRecord]
"""What a page format's reader yields: pages, and the bad rows between them as values, for the caller to judge."""


def within(folder: Path, where: str) -> str:
    """`where` as seen from the folder."""
    return where.removeprefix(f"{folder}{os.sep}")


def bad(where: object, found: str, expected: str) -> BadRecord:
    return BadRecord(where, found, expected, "mend it, or take it away; `ocr-ops data check` lists all such rows")


def page_of(
    image: str, regions: Iterable[tuple[str, T]], parse: Callable[[T, str], Region], transcript: str | None = None
) -> Found:
    """A page of regions parsed one by one: the bad ones first, then the page of the good ones."""
    places, good = [], []
    for where, item in regions:
        try:
            good.append(parse(item, where))
            places.append(where)
        except BadRecord as error:
            yield error
    yield Labelled(LabelledPage(image=image, regions=tuple(good), transcript=transcript), tuple(places))


def text_file(path: Path) -> str:
    """A UTF-8 file without its byte order mark; `BadRecord` when it cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise bad(path, str(error), "a label file in UTF-8") from None


def rows(path: Path) -> list[tuple[str, str]]:
    """The rows of a file that are not blank, each with `file:line`. Only newlines part them: text may hold the rest."""
    lines = text_file(path).split("\n")
    return [(f"{path}:{number}", line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]


def parsed_json(text: str, where: object) -> Any:
    """JSON of any shape; `BadRecord` when it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(where, f"no JSON: {error}", "a label in JSON") from None


def entry(value: Any, key: str, kind: type[T], where: object) -> T:
    """`value[key]`, which must be of that kind."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise bad(where, f"{key}: {shorten(found)}", f"a {kind.__name__} named {key}")
    return found


def shorten(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list of thousands of lists
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def label_text(value: Any, where: object) -> str:
    """A transcription: a string that UTF-8 can hold, without the white space around it."""
    if not isinstance(value, str):
        raise bad(where, f"text {shorten(value)}", "a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise bad(where, f"text {shorten(value)}", "text that UTF-8 can hold") from None
    return value.strip()


def line_text(value: Any, where: object) -> str:
    """The transcription of a line crop: not empty, its white space single spaces."""
    text = " ".join(label_text(value, where).split())
    if not text:
        raise bad(where, "an empty label", "the text of the image")
    return text


def number(value: Any, where: object) -> float:
    """A number of pixels, also when it is written as a string."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) <= FARTHEST:
        raise bad(where, f"coordinate {shorten(value)}", "a number of pixels")
    return found


def box(values: Any, where: object) -> Polygon:
    """Left, top, right, bottom as four corners."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        raise bad(where, shorten(values), "left, top, right, bottom")
    x0, y0, x1, y1 = (number(value, where) for value in values)
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def corners(points: Any, where: object) -> Polygon:
    """Points [[x, y], ...] as four corners, clockwise; more than four become the least rectangle around them.

    By convention the first half of the points runs along the top of the text, the second half back along its bottom.
    Four points the other way round are turned: text is never mirrored.
    """
    if not isinstance(points, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in points):
        raise bad(where, shorten(points), "points of x and y")
    if len(points) < 4:
        raise bad(where, f"{len(points)} points", "four corners or more")
    polygon = tuple((number(x, where), number(y, where)) for x, y in points)
    if len(polygon) == 4:
        return polygon if _area(polygon) >= 0 else (polygon[0], polygon[3], polygon[2], polygon[1])
    half = len(polygon) // 2
    ends = np.array([polygon[i] for i in (0, half - 1, half, -1)], np.float32)
    rectangle = cv2.boxPoints(cv2.minAreaRect(np.array(polygon, np.float32)))
    turns = [np.roll(rectangle, -turn, axis=0) for turn in range(4)]
    best = min(turns, key=lambda turned: float(np.abs(turned - ends).sum()))
    return tuple((float(x), float(y)) for x, y in best)


def sides(polygon: Polygon) -> tuple[float, float]:
    """Mean width and height of four corners, pixels; nothing of what has not four."""
    quad = np.asarray(polygon, np.float64)
    if quad.shape != (4, 2):
        return 0.0, 0.0
    top, right, bottom, left = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    return float(top + bottom) / 2, float(right + left) / 2


def around(polygons: Sequence[Polygon], where: object) -> Polygon:
    """Four corners around the words of one line, left to right: level when the words are, else the least rectangle."""
    points = [point for polygon in polygons for point in polygon]
    if all(polygon == box([*polygon[0], *polygon[2]], where) for polygon in polygons):
        xs, ys = zip(*points, strict=True)
        return box([min(xs), min(ys), max(xs), max(ys)], where)
    if len(polygons) == 1:
        return polygons[0]
    top = [point for polygon in polygons for point in polygon[:2]]
    bottom = [point for polygon in reversed(polygons) for point in polygon[2:]]
    return corners([*top, *bottom], where)


def _area(polygon: Polygon) -> float:
    """Signed: positive when the corners run clockwise on a page, whose y axis points down."""
    following = (*polygon[1:], polygon[0])
    return sum(x * v - u * y for (x, y), (u, v) in zip(polygon, following, strict=True)) / 2


def near(folder: Path) -> list[Path]:
    """Files of a folder and of the folders in it."""
    return sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())


def images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images near a folder by their names without suffix."""
    images: dict[str, list[Path]] = {}
    for path in near(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.setdefault(path.stem, []).append(path)
    return images


def image_of(stem: str, images: dict[str, list[Path]], folder: Path, where: object) -> str:
    """The one image a label file belongs to, relative to the folder."""
    found = images.get(stem, [])
    if len(found) != 1:
        shown = f"{len(found)} images named {stem}" if found else f"no image named {stem}"
        raise bad(where, shown, "one image a label file")
    return found[0].relative_to(folder).as_posix()


def image_named(folder: Path, name: Any, where: object) -> str:
    """An image as a label names it, relative to its folder; `BadRecord` when it is missing or outside.

    Labels that name images from the folder's parent (`folder/image.jpg`, as PPOCRLabel writes) are understood.
    """
    if not isinstance(name, str) or not name.strip():
        raise bad(where, f"image {shorten(name)}", "the name of an image")
    path = Path(name.strip())
    if path.is_absolute() and path.is_relative_to(folder.absolute()):
        path = path.relative_to(folder.absolute())
    if path.is_absolute() or ".." in path.parts:
        raise bad(where, f"image {shorten(name)}", f"an image within {folder}")
    places = [path, Path(*path.parts[1:])] if path.parts[:1] == (folder.absolute().name,) else [path]
    for place in places:
        if is_file(folder / place):
            return place.as_posix()
    raise bad(where, f"no image {shorten(name)}", f"an image within {folder}")


def is_file(path: Path) -> bool:
    """Whether a file is there; a name no file can have is no error."""
    try:
        return path.is_file()
    except OSError:
        return False


def one_case(texts: Iterable[str]) -> bool:
    """Whether labels tell no case: at least `CASE_EVIDENCE` letters, and all of one case."""
    upper = lower = 0
    for text in texts:
        upper += sum(char.isupper() for char in text)
        lower += sum(char.islower() for char in text)
        if upper and lower:
            return False
    return upper + lower >= CASE_EVIDENCE
