"""Converted and split datasets say what the originals say."""

from pathlib import Path

import cv2
import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.data.convert import LINE_FILES, PAGE_WRITERS, split_lines, split_pages, write_lines, write_pages
from ocr_ops.data.lines import read_lines
from ocr_ops.data.pages import LabelledPage, PageSet, Region, read_pages, write_index
from tests.data.formats.examples import LINES, PAGES, TEXTS, draw, write


def index(folder: Path, count: int) -> PageSet:
    """Pages of two lines, unlike each other in every pixel that counts."""
    regions = tuple(
        Region(polygon=((x, 78.0), (x + 96, 78.0), (x + 96, 98.0), (x, 98.0)), text=text)
        for x, text in zip((4.0, 100.0), TEXTS, strict=True)
    )
    names = [draw(folder / f"{seed}.png", seed).name for seed in range(count)]
    return write_index(folder, tuple(LabelledPage(image=name, regions=regions) for name in names))


@pytest.mark.parametrize("target", PAGE_WRITERS)
@pytest.mark.parametrize("name", PAGES)
def test_pages_round_trip(tmp_path: Path, name: str, target: str) -> None:
    """From every format into every format that is written: the same pixels, boxes and texts."""
    PAGES[name][1](tmp_path / "in")
    pages = read_pages(tmp_path / "in")
    written = write_pages(pages, tmp_path / "out", target)
    again = read_pages(tmp_path / "out")
    assert (written.images, written.rejected) == (1, ())
    assert [(page.image, page.regions) for page in again.pages] == [(page.image, page.regions) for page in pages.pages]
    assert (again.digest == pages.digest) == (name != "sroie")  # other formats do not say that case was folded


@pytest.mark.parametrize("target", LINE_FILES)
@pytest.mark.parametrize("name", LINES)
def test_lines_round_trip(tmp_path: Path, name: str, target: str) -> None:
    """Grey PNG loses nothing: the same digest."""
    LINES[name][1](tmp_path / "in")
    lines = read_lines(tmp_path / "in")
    assert write_lines(lines, tmp_path / "out", target).images == 2
    assert read_lines(tmp_path / "out").digest == lines.digest


def test_lines_cut_from_pages_stay_with_their_page(tmp_path: Path) -> None:
    """Two lines of each of two pages: two documents before and after."""
    index(tmp_path / "in", 2)
    write_lines(read_lines(tmp_path / "in"), tmp_path / "out")
    documents = [line.document for line in read_lines(tmp_path / "out").lines]
    assert documents == ["0", "0", "1", "1"]


def test_what_does_not_decode_is_left_out_and_told(tmp_path: Path) -> None:
    """One bad crop of two costs one line."""
    LINES["labels.tsv"][1](tmp_path / "in")
    (tmp_path / "in" / "img" / "a_1.png").write_bytes(b"no image")
    written = write_lines(read_lines(tmp_path / "in"), tmp_path / "out")
    assert written.images == 1
    assert written.rejected[0].where == "labels.tsv:1"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """A folder with something in it is refused."""
    pages = index(tmp_path / "in", 1)
    with pytest.raises(BadInput, match="something is there"):
        write_pages(pages, tmp_path / "in")


def test_a_page_falls_to_the_same_side_in_whatever_company(tmp_path: Path) -> None:
    """Renamed, packed otherwise, and among other pages: its pixels decide."""
    split_pages(index(tmp_path / "a", 12), tmp_path / "one", 0.4)
    sides = {
        int(Path(page.image).stem): side
        for side in ("train", "test")
        for page in read_pages(tmp_path / "one" / side).pages
    }
    assert len(sides) == 12
    index(tmp_path / "b", 20)
    for seed in range(20):
        image = cv2.imread(str(tmp_path / "b" / f"{seed}.png"))
        cv2.imwrite(str(tmp_path / "b" / f"{seed}.bmp"), image)
    renamed = (tmp_path / "b" / "pages.jsonl").read_text().replace(".png", ".bmp")
    write(tmp_path / "b" / "pages.jsonl", renamed)
    split_pages(read_pages(tmp_path / "b"), tmp_path / "two", 0.4)
    for side in ("train", "test"):
        for page in read_pages(tmp_path / "two" / side).pages:
            assert sides.get(int(Path(page.image).stem), side) == side


def test_a_document_is_never_parted(tmp_path: Path) -> None:
    """Lines of one document stand on one side, and none is lost."""
    index(tmp_path / "in", 12)
    split_lines(read_lines(tmp_path / "in"), tmp_path / "out", 0.4)
    train, test = (read_lines(tmp_path / "out" / side) for side in ("train", "test"))
    assert len(train.lines) + len(test.lines) == 24
    assert {line.document for line in train.lines}.isdisjoint(line.document for line in test.lines)


def test_a_side_without_documents_is_refused(tmp_path: Path) -> None:
    """No data is never a dataset."""
    pages = index(tmp_path / "in", 1)
    with pytest.raises(BadInput, match="--share"):
        split_pages(pages, tmp_path / "out", 0.5)
    assert not (tmp_path / "out").exists()
