from pathlib import Path

import cv2
import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.data.pages import read_pages
from ocr_ops.data.pdf_corpus import LONGEST, harvest
from tests.data.born_digital import write_pdf

SENTENCE = "the quick brown fox jumps over the lazy dog and goes home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pdfs = tmp_path / "pdfs"
    pdfs.mkdir()
    for name in ("a", "b"):
        write_pdf(pdfs / f"{name}.pdf", [(30.0, 260.0 - 20 * i, 11.0, SENTENCE) for i in range(6)])
    (pdfs / "bad.pdf").write_bytes(b"nothing")
    return pdfs


def test_lines_and_pages_come_out_with_their_labels(folder: Path, tmp_path: Path) -> None:
    made = harvest(folder, tmp_path / "out", seed=3)
    assert (made.documents, made.pages, made.unreadable) == (2, 2, 1)
    rows = [row.split("\t") for row in (tmp_path / "out/lines/labels.tsv").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == made.lines >= 8
    for file, text in rows:
        image = cv2.imread(str(tmp_path / "out/lines" / file), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert image.shape[1] < 1.5 * LONGEST * image.shape[0]
        assert f" {text} " in f" {SENTENCE} "
    pages = read_pages(tmp_path / "out/pages")
    assert [len(page.regions) for page in pages.pages] == [6, 6]


def test_the_same_seed_cuts_the_same_lines(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        harvest(folder, tmp_path / name, seed=5)
    first, second = ((tmp_path / name / "lines/labels.tsv").read_bytes() for name in ("one", "two"))
    assert first == second


def test_only_lines_of_the_charset_are_kept(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no line"):
        harvest(folder, tmp_path / "out", charset="0123456789")
