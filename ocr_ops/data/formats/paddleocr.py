r"""Row files of path and label, parted by a tab: PaddleOCR's for detection and recognition, and `labels.tsv`.

- detection: `img/1.jpg\t[{"transcription": "TEXT", "points": [[x, y], ...]}, ...]`, `###` is not to be read;
- recognition: `crop/1.jpg\tTEXT`, or a JSON list of paths in front: crops of one text.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.record import canonical_json, write_atomic
from ocr_ops.data.labels import (
    IGNORED,
    IMAGE_SUFFIXES,
    Found,
    LabelledPage,
    Region,
    bad,
    corners,
    entry,
    image_named,
    label_text,
    line_text,
    page_of,
    parsed_json,
    rows,
    shorten,
)

LINES_FILE = "labels.tsv"
PAGES_FILE = "Label.txt"
CROPS_FILE = "rec_gt.txt"
_STATE_FILE = "fileState.txt"  # PPOCRLabel's notes of what was seen: rows of path and "1"


def holds_pages(path: Path) -> bool:
    return bool(_page_files(path))


def holds_lines(path: Path) -> bool:
    return bool(_line_files(path))


def read_pages(path: Path) -> Found:
    """The pages of a label file, or of the only one in a folder."""
    file = _only(path, _page_files(path))
    for where, row in rows(file):
        try:
            name, _, label = row.partition("\t")
            image = image_named(file.parent, name, where)
            regions = parsed_json(label, where)
            if not isinstance(regions, list):
                raise bad(where, shorten(label), "a JSON list of transcription and points")
        except BadRecord as error:
            yield error
            continue
        yield from page_of(image, ((f"{where}[{i}]", region) for i, region in enumerate(regions)), _region)


def read_lines(path: Path) -> Iterator[tuple[str, str, str] | BadRecord]:
    """Where, image and text of each crop, bad rows as they come. White space in texts becomes single spaces."""
    file = _only(path, _line_files(path))
    for where, row in rows(file):
        name, _, text = row.partition("\t")
        try:
            names = parsed_json(name, where) if name.startswith("[") else [name]
            label = line_text(text, where)
        except BadRecord as error:
            yield error
            continue
        for one in names:
            try:
                yield where, image_named(file.parent, one, where), label
            except BadRecord as error:
                yield error


def write_pages(folder: Path, pages: Iterable[LabelledPage]) -> Path:
    """Writes `Label.txt` beside images that are already there."""
    text = "".join(f"{page.image}\t{canonical_json([_label(region) for region in page.regions])}\n" for page in pages)
    write_atomic(folder / PAGES_FILE, text.encode())
    return folder / PAGES_FILE


def write_lines(folder: Path, lines: Iterable[tuple[str, str]], name: str = LINES_FILE) -> Path:
    """Writes rows of path, tab, text beside crops that are already there."""
    write_atomic(folder / name, "".join(f"{image}\t{text}\n" for image, text in lines).encode())
    return folder / name


def _label(region: Region) -> dict[str, Any]:
    text = "###" if region.text in IGNORED else region.text
    return {"transcription": text, "points": region.polygon, "difficult": region.ignored}


def _region(value: Any, where: str) -> Region:
    points = entry(value, "points", list, where)
    text = label_text(value.get("transcription"), where)
    return Region(polygon=corners(points, where), text="###" if value.get("difficult") is True else text)


def _page_files(path: Path) -> list[Path]:
    return [file for file in _row_files(path) if _labels_pages(file)]


def _line_files(path: Path) -> list[Path]:
    """Label files for recognition; `labels.tsv` alone where there is one."""
    own = path / LINES_FILE
    return [own] if own.is_file() else [file for file in _row_files(path) if _labels_lines(file)]


def _row_files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else path.glob("*.txt")
    return sorted(file for file in found if file.name != _STATE_FILE)


def _first_row(path: Path) -> tuple[str, str]:
    """Path and label of the first row; empty ones where the file is no text or has no tab."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError):
        return "", ""
    name, _, label = first.partition("\t")
    return name.strip(), label.strip()


def _labels_pages(path: Path) -> bool:
    name, label = _first_row(path)
    return bool(name) and (label == "[]" or (label.startswith("[{") and label.endswith("}]")))


def _labels_lines(path: Path) -> bool:
    name, label = _first_row(path)
    return bool(label) and not _labels_pages(path) and Path(name.rstrip('"] ')).suffix.lower() in IMAGE_SUFFIXES


def _only(path: Path, files: list[Path]) -> Path:
    """The label file: those of training and test beside each other are never mixed unasked."""
    if len(files) == 1:
        return files[0]
    if path.is_file():  # its format was named, not guessed
        return path
    found = f"several label files: {', '.join(file.name for file in files)}" if files else "no label file"
    raise BadInput(path, found, "one label file", "name the label file itself")
