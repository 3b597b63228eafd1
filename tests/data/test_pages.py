"""Datasets on disk read whole or say what is wrong with them."""

from pathlib import Path

import pytest

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.data.pages import LabelledPage, Region, read_pages, write_index

SQUARE = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (0.0, 9.0))


def sroie(folder: Path, row: str) -> Path:
    for name in ("img", "box"):
        (folder / name).mkdir()
    (folder / "img" / "1.jpg").write_bytes(b"pixels")
    (folder / "box" / "1.csv").write_text(row, encoding="utf-8")
    return folder


def test_sroie_text_keeps_its_commas(tmp_path: Path) -> None:
    """Only the first eight commas part numbers."""
    pages = read_pages(sroie(tmp_path, "1,2,3,2,3,4,1,4,12, JALAN 7/4,JOHOR\n"))
    assert pages.fold
    assert pages.pages[0].regions[0].text == "12, JALAN 7/4,JOHOR"
    assert pages.pages[0].regions[0].polygon[2] == (3.0, 4.0)


def test_bad_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    """A person can go and mend it."""
    with pytest.raises(BadRecord, match=r"1\.csv:2"):
        read_pages(sroie(tmp_path, "1,2,3,2,3,4,1,4,A\n1,2,three,2,3,4,1,4,B\n"))


def test_missing_labels_are_an_error(tmp_path: Path) -> None:
    """An image nobody labelled is not a page without text."""
    folder = sroie(tmp_path, "")
    (folder / "box" / "1.csv").unlink()
    with pytest.raises(BadRecord, match=r"1\.csv"):
        read_pages(folder)


def test_own_layout_round_trips(tmp_path: Path) -> None:
    """What is written is what is read, with the same digest."""
    (tmp_path / "a.png").write_bytes(b"pixels")
    page = LabelledPage(image="a.png", regions=(Region(polygon=SQUARE, text="A"), Region(polygon=SQUARE, text="###")))
    written = write_index(tmp_path, (page,))
    again = read_pages(tmp_path)
    assert again.pages == (page,)
    assert again.digest == written.digest
    assert page.text == "A"


def test_digest_follows_pixels_and_labels(tmp_path: Path) -> None:
    """Either change makes another dataset."""
    (tmp_path / "a.png").write_bytes(b"pixels")
    page = LabelledPage(image="a.png", regions=(Region(polygon=SQUARE, text="A"),))
    first = write_index(tmp_path, (page,)).digest
    (tmp_path / "a.png").write_bytes(b"others")
    second = read_pages(tmp_path).digest
    assert first != second
    assert write_index(tmp_path, (page, page)).digest not in {first, second}


@pytest.mark.parametrize("content", ["nothing", "empty index", "no folder"])
def test_a_folder_without_pages_is_refused(tmp_path: Path, content: str) -> None:
    """No data is never a dataset."""
    if content == "empty index":
        (tmp_path / "pages.jsonl").write_text("")
    with pytest.raises(BadInput):
        read_pages(tmp_path / "none" if content == "no folder" else tmp_path)


def test_index_naming_a_lost_image_is_refused(tmp_path: Path) -> None:
    """Labels alone are no page."""
    write_index(tmp_path, (LabelledPage(image="gone.png", regions=()),))
    with pytest.raises(BadInput, match=r"gone\.png"):
        read_pages(tmp_path)


@pytest.mark.shared_data
def test_real_receipts_read(shared_data: Path) -> None:
    """Every labelled receipt loads, with lines."""
    pages = read_pages(shared_data / "sroie")
    assert len(pages.pages) == 117
    assert all(page.regions for page in pages.pages)
