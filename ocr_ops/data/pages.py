"""Labelled pages on disk: what benchmarks, calibration and load tests read.

Two layouts are understood, told apart by what the folder holds:

- `pages.jsonl` beside its images, one `LabelledPage` a line: what `render` writes;
- SROIE (ICDAR 2019): `img/N.jpg` with `box/N.csv`, each row `x1,y1,..,x4,y4,TEXT`, text upper-cased.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.reading import Polygon
from ocr_ops.core.record import Record, Value, canonical_json, digest_bytes, digest_file

INDEX_FILE = "pages.jsonl"
IGNORED = frozenset({"", "***", "###"})
"""Texts of regions that are neither to be scored nor missed."""


class Region(Value):
    """Text and where it stands: corners in pixels, clockwise from the text's top-left."""

    polygon: Polygon
    text: str

    @property
    def ignored(self) -> bool:
        return self.text in IGNORED


class LabelledPage(Record):
    """One page: an image file (relative to its folder) and its regions."""

    image: str
    regions: tuple[Region, ...]

    @property
    def text(self) -> str:
        return "\n".join(region.text for region in self.regions if not region.ignored)


@dataclass(frozen=True, slots=True)
class PageSet:
    """Pages of one folder. The digest covers the pixels and the labels, not their names."""

    folder: Path
    pages: tuple[LabelledPage, ...]
    fold: bool
    """The labels tell no case: score case-folded."""

    @property
    def digest(self) -> str:
        parts = [
            [
                digest_file(self.folder / page.image),
                [region.model_dump(mode="json") for region in page.regions],
            ]
            for page in self.pages
        ]
        return digest_bytes(canonical_json({"fold": self.fold, "pages": parts}).encode())

    def head(self, count: int | None) -> "PageSet":
        """The first `count` pages; all without one."""
        return PageSet(self.folder, self.pages[:count], self.fold)

    def files(self) -> Iterator[tuple[LabelledPage, bytes]]:
        """Each page with the bytes of its image."""
        for page in self.pages:
            yield page, (self.folder / page.image).read_bytes()


def read_pages(folder: Path) -> PageSet:
    """Reads a dataset folder. `BadInput` when it holds none of the known layouts or no page at all."""
    if (folder / INDEX_FILE).is_file():
        pages, fold = _read_index(folder), False
    elif (folder / "box").is_dir() and (folder / "img").is_dir():
        pages, fold = _read_sroie(folder), True
    else:
        found = "no such folder" if not folder.is_dir() else f"neither {INDEX_FILE} nor img/ and box/"
        raise BadInput(folder, found, "a dataset of labelled pages", "check --data; see docs/data.md for layouts")
    if not pages:
        raise BadInput(folder, "no labelled page", "at least one", "add pages, or point --data elsewhere")
    return PageSet(folder, pages, fold)


def write_index(folder: Path, pages: tuple[LabelledPage, ...]) -> PageSet:
    """Writes `pages.jsonl` beside images that are already there."""
    (folder / INDEX_FILE).write_text("".join(page.canonical + "\n" for page in pages), encoding="utf-8")
    return PageSet(folder, pages, fold=False)


def _read_index(folder: Path) -> tuple[LabelledPage, ...]:
    lines = (folder / INDEX_FILE).read_text(encoding="utf-8").splitlines()
    pages = tuple(LabelledPage.parse_json(line, f"{folder / INDEX_FILE}:{n}") for n, line in enumerate(lines, 1))
    for page in pages:
        if not (folder / page.image).is_file():
            raise BadInput(folder / page.image, "no such file", "an image the index names", "restore or re-render it")
    return pages


def _read_sroie(folder: Path) -> tuple[LabelledPage, ...]:
    images = sorted((folder / "img").iterdir())
    return tuple(
        LabelledPage(image=f"img/{image.name}", regions=_sroie_regions(folder / "box" / f"{image.stem}.csv"))
        for image in images
    )


def _sroie_regions(path: Path) -> tuple[Region, ...]:
    try:
        rows = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(path, str(error), "a label file", "restore it, or take its image away") from None
    return tuple(_sroie_region(row, f"{path}:{number}") for number, row in enumerate(rows, 1) if row.strip())


def _sroie_region(row: str, where: str) -> Region:
    *numbers, text = row.split(",", 8)
    try:
        x1, y1, x2, y2, x3, y3, x4, y4 = (float(number) for number in numbers)
    except ValueError:
        raise BadRecord(where, repr(row[:60]), "eight numbers and a text, comma-parted", "mend the row") from None
    return Region(polygon=((x1, y1), (x2, y2), (x3, y3), (x4, y4)), text=text.strip())
