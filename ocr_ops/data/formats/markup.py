"""OCR results as markup, an image a file: hOCR (`.hocr`, `.html`) and ALTO (`.xml`, Library of Congress).

Neither parser follows a reference: HTML has no entities but its own, and an ALTO file that declares any is refused.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from xml.parsers import expat

from PIL import Image

from ocr_ops.core.errors import BadRecord
from ocr_ops.data.labels import (
    Found,
    Region,
    bad,
    box,
    image_of,
    images_by_stem,
    label_text,
    near,
    number,
    page_of,
    text_file,
)

_HOCR_LINES = frozenset({"ocr_line", "ocrx_line", "ocr_header", "ocr_caption", "ocr_textfloat"})
_BBOX = re.compile(r"\bbbox\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)")
_PIXELS = "pixel"
_SNIFFED = 8192


@dataclass(slots=True)
class _Line:
    """A line as it is read: its place, its box as written, and the pieces of its text."""

    where: str
    sides: list[float]
    pieces: list[str] = field(default_factory=list)


def holds_hocr(path: Path) -> bool:
    return bool(_hocr_files(path))


def read_hocr(folder: Path) -> Found:
    yield from _files(folder, _hocr_files(folder), _hocr_lines)


def holds_alto(path: Path) -> bool:
    return bool(_alto_files(path))


def read_alto(folder: Path) -> Found:
    yield from _files(folder, _alto_files(folder), _alto_lines)


def _files(folder: Path, files: list[Path], read: Callable[[Path, Path], list[_Line]]) -> Found:
    images = images_by_stem(folder)
    for file in files:
        try:
            image = image_of(file.stem, images, folder, file)
            lines = read(file, folder / image)
        except BadRecord as error:
            yield error
        else:
            yield from page_of(image, ((line.where, line) for line in lines), _region)


def _region(line: _Line, where: str) -> Region:
    return Region(polygon=box(line.sides, where), text=" ".join(label_text("".join(line.pieces), where).split()))


def _hocr_files(folder: Path) -> list[Path]:
    files = [path for path in near(folder) if path.suffix.lower() in {".hocr", ".html", ".htm"}]
    return [path for path in files if path.suffix.lower() == ".hocr" or "ocr_page" in _start(path)]


def _alto_files(folder: Path) -> list[Path]:
    return [
        path for path in near(folder) if path.suffix.lower() == ".xml" and re.search(r"<(\w+:)?alto\b", _start(path))
    ]


def _start(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_SNIFFED).decode(errors="replace")
    except OSError:
        return ""


class _Hocr(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.pages = 0
        self.lines: list[_Line] = []
        self._open: list[tuple[str, str]] = []
        """Tag and class of the elements around, from the line on."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        kinds = (values.get("class") or "").split()
        self.pages += "ocr_page" in kinds
        if self._open:
            self._open.append((tag, " ".join(kinds)))
        elif _HOCR_LINES & set(kinds):
            match = _BBOX.search(values.get("title") or "")
            sides = [number(side, self.path) for side in match.groups()] if match else []
            self.lines.append(_Line(f"{self.path}:{self.getpos()[0]}", sides))
            self._open = [(tag, "")]

    def handle_endtag(self, tag: str) -> None:
        depth = next((i for i in range(len(self._open) - 1, -1, -1) if self._open[i][0] == tag), None)
        if depth is None:
            return
        if any("ocrx_word" in kind.split() for _, kind in self._open[depth:]):
            self.lines[-1].pieces.append(" ")
        del self._open[depth:]

    def handle_data(self, data: str) -> None:
        if self._open:
            self.lines[-1].pieces.append(data)


def _hocr_lines(file: Path, _: Path) -> list[_Line]:
    parser = _Hocr(file)
    try:
        parser.feed(text_file(file))
        parser.close()
    except (AssertionError, ValueError) as error:  # html.parser's way with a broken declaration
        raise bad(file, f"no HTML: {error}", "a page as hOCR") from None
    if parser.pages != 1:
        raise bad(file, f"{parser.pages} elements of class ocr_page", "one page a file")
    return parser.lines


class _Alto:
    """Handlers of an expat parser."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pages: list[dict[str, str]] = []
        self.lines: list[_Line] = []
        self.unit = ""
        self._inside = ""
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.EntityDeclHandler = self._entity

    def _start(self, name: str, values: dict[str, str]) -> None:
        self._inside = name.rpartition(":")[2]
        if self._inside == "Page":
            self.pages.append(values)
        elif self._inside == "TextLine":
            self.lines.append(_Line(f"{self.path}:{self.parser.CurrentLineNumber}", _sides(values)))
        elif self.lines and self._inside in {"String", "SP", "HYP"}:
            self.lines[-1].pieces.append(" " if self._inside == "SP" else values.get("CONTENT", ""))

    def _end(self, _: str) -> None:
        self._inside = ""

    def _text(self, text: str) -> None:
        if self._inside == "MeasurementUnit":
            self.unit += text

    def _entity(self, *_: object) -> None:
        raise bad(f"{self.path}:{self.parser.CurrentLineNumber}", "a declared entity", "plain text")


def _alto_lines(file: Path, image: Path) -> list[_Line]:
    """The lines of an ALTO file, in pixels of the image."""
    reader = _Alto(file)
    try:
        reader.parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        raise bad(f"{file}:{error.lineno}", f"no XML: {expat.errors.messages[error.code]}", "a page as ALTO") from None
    except (OSError, LookupError, ValueError) as error:
        raise bad(file, f"no XML: {error}", "a page as ALTO") from None
    if len(reader.pages) != 1:
        raise bad(file, f"{len(reader.pages)} pages", "one page a file")
    if reader.unit.strip() not in {"", _PIXELS}:
        scale = _width(image) / max(number(reader.pages[0].get("WIDTH"), file), 1)
        for line in reader.lines:
            line.sides = [side * scale for side in line.sides]
    return reader.lines


def _width(image: Path) -> int:
    """Pixels, from the head of the file."""
    try:
        with Image.open(image) as opened:
            return opened.width
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise bad(image, str(error), "an image") from None


def _sides(values: dict[str, str]) -> list[float]:
    """Left, top, right, bottom; nothing when they are not all there."""
    try:
        left, top, width, height = (float(values[key]) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    except (KeyError, ValueError):
        return []
    return [left, top, left + width, top + height]
