"""Ground truth as OCR-D, kraken, Calamari and Tesseract keep it: `NAME.gt.txt` beside `NAME.png` or `NAME.bin.png`."""

from collections.abc import Iterator
from pathlib import Path

from ocr_ops.core.errors import BadRecord
from ocr_ops.data.labels import IMAGE_SUFFIXES, bad, line_text, text_file

SUFFIX = ".gt.txt"
_KINDS = ("", ".bin", ".nrm", ".dew", ".raw")


def holds(path: Path) -> bool:
    return path.is_dir() and next(path.rglob(f"*{SUFFIX}"), None) is not None


def read_lines(folder: Path) -> Iterator[tuple[str, str, str] | BadRecord]:
    """Where, image and text of each crop, bad ones as they come."""
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        name = path.name.removesuffix(SUFFIX)
        places = (path.with_name(name + kind + suffix) for kind in _KINDS for suffix in sorted(IMAGE_SUFFIXES))
        image = next((place for place in places if place.is_file()), None)
        try:
            if image is None:
                raise bad(path, f"no image {name}.*", "an image beside the text")
            yield str(path), image.relative_to(folder).as_posix(), line_text(text_file(path), path)
        except BadRecord as error:
            yield error
