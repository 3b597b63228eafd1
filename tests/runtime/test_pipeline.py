import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from prometheus_client import REGISTRY

from ocr_ops.core import metrics
from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.runtime.outputs.pdf import searchable_pdf
from ocr_ops.runtime.pipeline import Reader
from tests import tiny
from tests.pdfs import Pdf, lines
from tests.runtime.outputs.poppler import pdftotext


@pytest.fixture(scope="module")
def reader(tiny_release: Release) -> Reader:
    return Reader(tiny_release)


line = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4).map(" ".join)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(line, min_size=1, max_size=9))
def test_a_page_is_read_as_it_was_written(reader: Reader, written: list[str]) -> None:
    """Detection, cropping, recognition and layout together, in page pixels."""
    page = reader.read_page(tiny.draw(written))
    assert page.text == "\n".join(written)
    for row, found in enumerate(page.lines):
        assert found.polygon[0] == pytest.approx((32, 32 + 48 * row), abs=3)


def test_a_document_is_read_page_by_page(reader: Reader) -> None:
    """A TIFF of two pages, with metrics counted."""
    pages = [Image.fromarray(tiny.draw(texts)) for texts in (["abc"], ["b", "ca"])]
    data = io.BytesIO()
    pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:])
    before = REGISTRY.get_sample_value(metrics.LINES) or 0
    reading = reader.read(data.getvalue(), "two.tif")
    assert reading.text == "abc\fb\nca"
    assert Reading.model_validate_json(reading.model_dump_json()) == reading
    assert (REGISTRY.get_sample_value(metrics.LINES) or 0) - before == 3


BARS = Image.fromarray(tiny.draw(["abc cba ab", "ca bac"], 600, 120))
PICTURE = "q 216 0 0 43.2 7 60 cm /I Do Q\n"


def test_of_a_page_of_text_and_a_picture_of_text_each_is_read_once(reader: Reader, tmp_path: Path) -> None:
    """In the order they stand; and the searchable PDF says each once."""
    above, below = "Words above the picture", "and words below it, to 12.50"
    content = lines([above], left=20, top=150) + PICTURE + lines([below], left=20, top=20)
    data = Pdf(content, size=(230, 172), picture=BARS).data
    reading = reader.read(data, "mixed.pdf")
    (page,) = reading.pages
    assert page.source == "mixed"
    assert [line.text for line in page.lines] == [above, "abc cba ab", "ca bac", below]
    assert [{word.confidence == 1 for word in line.words} for line in page.lines] == [{True}, {False}, {False}, {True}]
    assert page.lines[1].polygon[0] == pytest.approx((7 * 200 / 72 + 32, (172 - 103) * 200 / 72 + 32), abs=6)
    found = pdftotext(searchable_pdf(reading, "mixed.pdf", data, ReadOptions()), tmp_path)
    assert sorted(found.split()) == sorted(word for line in page.lines for word in line.text.split())


def test_of_a_turned_page_both_texts_are_kept(reader: Reader) -> None:
    """What was read stands at the end."""
    content = lines(["Words above the picture"], left=20, top=150) + PICTURE
    document = Pdf(content, size=(230, 172), picture=BARS, entries="/Rotate 180")
    (page,) = reader.read(document.data, "mixed.pdf").pages
    assert page.source == "mixed"
    assert page.lines[0].text == "Words above the picture"
    assert page.orientation == 180
    assert len(page.lines) > 1
    assert sorted(line for block in page.blocks for line in block.lines) == list(range(len(page.lines)))


def test_a_blank_page_has_no_lines(reader: Reader) -> None:
    """Of whatever size."""
    for shape in ((1, 1, 3), (2000, 30, 3), (400, 600, 3)):
        assert reader.read_page(np.full(shape, 255, np.uint8)).lines == ()


def test_no_document_is_an_error(reader: Reader) -> None:
    """Bytes that are none are refused before any network runs."""
    with pytest.raises(UnreadableDocument):
        reader.read(b"hello", "note.txt")
