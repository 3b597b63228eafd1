import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from prometheus_client import REGISTRY

from ocr_ops.core import metrics
from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.runtime.pipeline import Reader
from tests import tiny


@pytest.fixture(scope="module")
def reader(tiny_release: Release) -> Reader:
    return Reader(tiny_release)


line = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=4).map(" ".join)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(line, min_size=1, max_size=9))
def test_a_page_is_read_as_it_was_written(reader: Reader, lines: list[str]) -> None:
    """Detection, cropping, recognition and layout together, in page pixels."""
    page = reader.read_page(tiny.draw(lines))
    assert page.text == "\n".join(lines)
    for row, found in enumerate(page.lines):
        assert found.polygon[0] == pytest.approx((32, 32 + 48 * row), abs=3)


def test_a_document_is_read_page_by_page(reader: Reader) -> None:
    """A TIFF of two pages, with metrics counted."""
    pages = [Image.fromarray(tiny.draw(lines)) for lines in (["abc"], ["b", "ca"])]
    data = io.BytesIO()
    pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:])
    before = REGISTRY.get_sample_value(metrics.LINES) or 0
    reading = reader.read(data.getvalue(), "two.tif")
    assert reading.text == "abc\fb\nca"
    assert Reading.model_validate_json(reading.model_dump_json()) == reading
    assert (REGISTRY.get_sample_value(metrics.LINES) or 0) - before == 3


def test_a_blank_page_has_no_lines(reader: Reader) -> None:
    """Of whatever size."""
    for shape in ((1, 1, 3), (2000, 30, 3), (400, 600, 3)):
        assert reader.read_page(np.full(shape, 255, np.uint8)).lines == ()


def test_no_document_is_an_error(reader: Reader) -> None:
    """Bytes that are none are refused before any network runs."""
    with pytest.raises(UnreadableDocument):
        reader.read(b"hello", "note.txt")
