"""The toolkit's own pages: `pages.jsonl` beside its images, one `LabelledPage` a line."""

from collections.abc import Iterable
from pathlib import Path

from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import write_atomic
from ocr_ops.data.labels import Found, LabelledPage, Region, corners, image_named, page_of, parsed_json, rows

INDEX_FILE = "pages.jsonl"


def holds(path: Path) -> bool:
    return (path / INDEX_FILE).is_file()


def read(folder: Path) -> Found:
    for where, row in rows(folder / INDEX_FILE):
        try:
            page = LabelledPage.parse(parsed_json(row, where), where)
            image_named(folder, page.image, where)
        except BadRecord as error:
            yield error
            continue
        regions = ((f"{where}[{i}]", region) for i, region in enumerate(page.regions))
        yield from page_of(page.image, regions, _region, page.transcript)


def write(folder: Path, pages: Iterable[LabelledPage]) -> Path:
    """Writes the index beside images that are already there."""
    write_atomic(folder / INDEX_FILE, "".join(page.canonical + "\n" for page in pages).encode())
    return folder / INDEX_FILE


def _region(region: Region, where: str) -> Region:
    return Region(polygon=corners(region.polygon, where), text=region.text)
