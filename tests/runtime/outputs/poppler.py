"""What pdftotext, the tool of poppler that people search PDFs with, finds in one."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from lxml import html


class Found(NamedTuple):
    """A word on a page, in points from the top left corner of what is shown of it."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


def pdftotext(data: bytes, folder: Path, *flags: str) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext")
    path = folder / "document.pdf"
    path.write_bytes(data)
    done = subprocess.run(["pdftotext", "-cropbox", *flags, path, "-"], check=True, capture_output=True, text=True)
    return done.stdout


def found_words(data: bytes, folder: Path) -> list[list[Found]]:
    """The words of each page, in the order pdftotext has them."""
    root = html.document_fromstring(pdftotext(data, folder, "-bbox"))
    return [
        [
            Found(word.text, *(float(word.get(key)) for key in ("xmin", "ymin", "xmax", "ymax")))
            for word in page.iterfind("word")
        ]
        for page in root.iter("page")
    ]
