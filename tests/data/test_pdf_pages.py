from pathlib import Path

import numpy as np
import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.data.pdf_pages import page_count, pdf_page
from tests.data.born_digital import write_pdf

LINES = [(40.0, 250.0, 12.0, "Invoice No. 4711"), (260.0, 250.0, 12.0, "Total: 12.50"), (40.0, 220.0, 9.0, "thank you")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_pdf(tmp_path / "page.pdf", LINES)


def test_each_run_of_words_is_a_segment(path: Path) -> None:
    page = pdf_page(path)
    assert [segment.text for segment in page.segments] == [text for *_, text in LINES]
    assert [len(words) for words in page.words] == [3, 2, 2]
    assert page.text.split() == " ".join(text for *_, text in LINES).split()


@pytest.mark.parametrize("dpi", [72, 150, 233])
def test_boxes_hold_all_the_ink_and_little_else(path: Path, dpi: float) -> None:
    page = pdf_page(path, dpi=dpi)
    ink = page.image.min(axis=2) < 128
    inside = np.zeros_like(ink)
    for segment in page.segments:
        x0, y0 = np.floor(segment.polygon[0]).astype(int)
        x1, y1 = np.ceil(segment.polygon[2]).astype(int)
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
        assert ink[y0 : y1 + 1, x0 : x1 + 1].any(), segment.text
        assert segment.polygon[2, 1] - segment.polygon[0, 1] < 1.6 * 12 * dpi / 72
    assert not (ink & ~inside).any()


def test_words_stand_in_order_inside_their_segment(path: Path) -> None:
    for segment, words in zip(pdf_page(path).segments, pdf_page(path).words, strict=True):
        edges = [edge for word in words for edge in word]
        assert edges == sorted(edges)
        assert segment.polygon[0, 0] <= edges[0]
        assert edges[-1] <= segment.polygon[1, 0]


def test_text_that_is_not_printed_is_no_segment(tmp_path: Path) -> None:
    unseen = write_pdf(tmp_path / "off.pdf", [(40.0, 250.0, 12.0, "seen"), (40.0, -90.0, 12.0, "below the page")])
    assert [segment.text for segment in pdf_page(unseen).segments] == ["seen"]


def test_bad_files_are_refused(tmp_path: Path, path: Path) -> None:
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.4 nothing")
    with pytest.raises(BadInput, match=r"bad\.pdf"):
        pdf_page(tmp_path / "bad.pdf")
    with pytest.raises(BadInput, match="page 2"):
        pdf_page(path, 1)
    assert page_count(path) == 1
