"""Annotations in JSON: FUNSD forms, CORD receipts, COCO-Text photographs. Words are joined to the lines they stand on.

- FUNSD: `annotations/N.json` (`form`: entities of words with boxes) and `images/N.png`;
- CORD: `json/N.json` (`valid_line`: words with quads) and `image/N.png`;
- COCO-Text: `COCO_Text.json` (`imgs`, `anns`, `imgToAnns`), images beside it or in folders of its own.
"""

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from ocr_ops.core.errors import BadRecord
from ocr_ops.core.reading import Polygon
from ocr_ops.data.labels import (
    Found,
    Region,
    around,
    bad,
    box,
    corners,
    entry,
    image_of,
    images_by_stem,
    label_text,
    near,
    number,
    page_of,
    parsed_json,
    text_file,
)

Word = tuple[Polygon, str]


def holds_funsd(path: Path) -> bool:
    return (path / "images").is_dir() and any(path.glob("annotations/*.json"))


def read_funsd(folder: Path) -> Found:
    yield from _files(folder, "annotations", _funsd_lines)


def holds_cord(path: Path) -> bool:
    return (path / "image").is_dir() and any(path.glob("json/*.json"))


def read_cord(folder: Path) -> Found:
    yield from _files(folder, "json", _cord_lines)


def holds_coco_text(path: Path) -> bool:
    return _coco_file(path) is not None


def read_coco_text(path: Path) -> Found:
    """Illegible text, and text nobody wrote down, is not to be read."""
    file = _coco_file(path)
    if file is None:
        raise bad(path, "no COCO_Text.json", "the annotations of COCO-Text")
    data = parsed_json(text_file(file), file)
    images, notes, by_image = (entry(data, key, dict, file) for key in ("imgs", "anns", "imgToAnns"))
    places = images_by_stem(file.parent)
    for key, image in images.items():
        where = f"{file}#imgs[{key}]"
        try:
            name = image_of(Path(entry(image, "file_name", str, where)).stem, places, file.parent, where)
            numbers = by_image.get(key, [])
            if not isinstance(numbers, list):
                raise bad(where, f"imgToAnns[{key}] is no list", "the numbers of its annotations")
        except BadRecord as error:
            yield error
            continue
        yield from page_of(name, ((f"{file}#anns[{n}]", notes.get(str(n))) for n in numbers), _coco_region)


def _files(folder: Path, labels: str, lines: Callable[[Any, str], Iterable[tuple[str, list[Any]]]]) -> Found:
    """A label file an image: its lines, each a list of words to be joined."""
    images = images_by_stem(folder)
    for file in sorted((folder / labels).glob("*.json")):
        try:
            image = image_of(file.stem, images, folder, file)
            found = list(lines(parsed_json(text_file(file), file), str(file)))
        except BadRecord as error:
            yield error
            continue
        yield from page_of(image, found, _joined)


def _joined(words: list[Any], where: str) -> Region:
    """One line of words: (polygon, text), or the error that was found in one of them."""
    for word in words:
        if isinstance(word, BadRecord):
            raise word
    return Region(polygon=around([polygon for polygon, _ in words], where), text=" ".join(text for _, text in words))


def _funsd_lines(data: Any, where: str) -> Iterable[tuple[str, list[Any]]]:
    """Entities run over several lines: a word that begins left of the one before, or below it, begins a line."""
    for index, entity in enumerate(entry(data, "form", list, where)):
        place = f"{where}#form[{index}]"
        line: list[Word] = []
        try:
            words = [_funsd_word(word, place) for word in entry(entity, "words", list, place)]
        except BadRecord as error:
            yield place, [error]
            continue
        for polygon, text in words:
            if not text:
                continue
            (left, top), (_, bottom) = polygon[0], polygon[2]
            if line and (left < line[-1][0][0][0] or (top + bottom) / 2 > line[-1][0][2][1]):
                yield place, line
                line = []
            line.append((polygon, text))
        if line:
            yield place, line


def _funsd_word(word: Any, where: str) -> Word:
    return box(entry(word, "box", list, where), where), label_text(entry(word, "text", str, where), where)


def _cord_lines(data: Any, where: str) -> Iterable[tuple[str, list[Any]]]:
    """Words of one entry and one row are a line; regions marked `dontcare` are not to be read."""
    for index, line in enumerate(entry(data, "valid_line", list, where)):
        place = f"{where}#valid_line[{index}]"
        try:
            words = entry(line, "words", list, place)
            rows = [(str(word.get("row_id")) if isinstance(word, dict) else "", word) for word in words]
            parsed = [(row, _cord_word(word, place)) for row, word in rows]
        except BadRecord as error:
            yield place, [error]
            continue
        for _, group in groupby(parsed, key=lambda pair: pair[0]):
            yield place, [word for _, word in group if word[1]]
    ignored = data.get("dontcare") or []
    for index, quad in enumerate(ignored if isinstance(ignored, list) else [ignored]):
        place = f"{where}#dontcare[{index}]"
        for one in quad if isinstance(quad, list) else [quad]:
            try:
                yield place, [(_quad(one, place), "###")]
            except BadRecord as error:
                yield place, [error]


def _cord_word(word: Any, where: str) -> Word:
    return _quad(entry(word, "quad", dict, where), where), label_text(entry(word, "text", str, where), where)


def _quad(value: Any, where: str) -> Polygon:
    if not isinstance(value, dict):
        raise bad(where, "no quad", "x1, y1 to x4, y4")
    return corners([(value.get(f"x{corner}"), value.get(f"y{corner}")) for corner in range(1, 5)], where)


def _coco_file(path: Path) -> Path | None:
    files = [path] if path.is_file() else near(path) if path.is_dir() else []
    names = (file for file in files if file.suffix == ".json")
    return next((file for file in names if file.name.lower().replace("_", "").startswith("cocotext")), None)


def _coco_region(value: Any, where: str) -> Region:
    if not isinstance(value, dict):
        raise bad(where, "no such annotation", "what imgToAnns names")
    outline = value.get("mask") or value.get("polygon")
    if isinstance(outline, list) and len(outline) >= 8:
        polygon = corners(list(zip(outline[::2], outline[1::2], strict=False)), where)
    else:
        sides = entry(value, "bbox", list, where)
        if len(sides) != 4:
            raise bad(where, f"bbox of {len(sides)} numbers", "left, top, width, height")
        left, top, width, height = (number(side, where) for side in sides)
        polygon = box([left, top, left + width, top + height], where)
    text = value.get("utf8_string")
    legible = value.get("legibility") != "illegible" and isinstance(text, str)
    return Region(polygon=polygon, text=label_text(text, where) if legible else "###")
