"""Born-digital PDFs: the first page of each, rendered; its text layer inside the CropBox is the truth."""

import unicodedata
from pathlib import Path

import cv2
from tqdm import tqdm

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.record import digest_bytes, digest_file, short, write_atomic
from ocr_ops.core.workspace import Workspace
from ocr_ops.data import pdf_pages
from ocr_ops.data.labels import Found, Labelled, LabelledPage, Region, bad
from ocr_ops.runtime import pdf_text

DPI = 150
_LINE_END_HYPHENS = str.maketrans({"\x02": "-\n", "\ufffe": "-\n"})
"""pdfium joins words that were parted at a line's end around one of these; the page shows a hyphen and two parts."""


def holds(path: Path) -> bool:
    return next(path.rglob("*.pdf"), None) is not None


def cache(_: Path) -> Path:
    """Where rendered pages are kept; another way of rendering has another folder."""
    code = digest_bytes(b"".join(Path(str(module.__file__)).read_bytes() for module in (pdf_pages, pdf_text)))
    return Workspace.current().home / "pages" / f"pdf-{DPI}-{short(code)}"


def read(folder: Path) -> Found:
    """PDFs of a folder and all folders in it. One that does not open, or has no text layer, is a bad row."""
    for path in tqdm(sorted(folder.rglob("*.pdf")), "read PDFs", unit="pdf", disable=None):
        try:
            page = _page(path, cache(folder))
        except BadRecord as error:
            yield error
        else:
            yield Labelled(page, tuple(f"{path}[{i}]" for i in range(len(page.regions))))


def _page(path: Path, folder: Path) -> LabelledPage:
    try:
        name = f"{path.stem}-{short(digest_file(path))}"
    except OSError as error:
        raise bad(path, str(error), "a PDF") from None
    kept = folder / f"{name}.json"
    if kept.is_file() and (folder / f"{name}.png").is_file():
        return LabelledPage.from_file(kept)
    try:
        page = pdf_pages.pdf_page(path, dpi=DPI)
    except BadInput as error:
        raise bad(path, error.found, error.expected) from None
    regions = tuple(
        Region(polygon=tuple((float(x), float(y)) for x, y in segment.polygon), text=segment.text)
        for segment in page.segments
    )
    transcript = _words(page.text)
    if not transcript:
        raise bad(path, "no text layer on its first page", "a born-digital PDF")
    image = cv2.imencode(".png", cv2.cvtColor(page.image, cv2.COLOR_RGB2BGR))[1].tobytes()
    write_atomic(folder / f"{name}.png", image)
    labelled = LabelledPage(image=f"{name}.png", regions=regions, transcript=transcript)
    labelled.save(kept)
    return labelled


def _words(layer: str) -> str:
    """The words of a text layer, without those whose letters no character stands for."""
    words = layer.translate(_LINE_END_HYPHENS).split()
    return " ".join(word for word in words if not any(unicodedata.category(char) in _UNKNOWN for char in word))


_UNKNOWN = frozenset({"Cc", "Cn", "Co", "Cs"})
