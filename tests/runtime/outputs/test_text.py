"""Plain text: lines, blank lines, form feeds, and nothing else."""

from hypothesis import given, settings

from ocr_ops.core.reading import Reading
from ocr_ops.runtime.outputs.blocks import blocks, clean, lines
from ocr_ops.runtime.outputs.text import text
from tests.runtime.outputs.readings import page_of, readings, rich_page


def test_blank_lines_part_blocks_and_form_feeds_pages() -> None:
    """In reading order."""
    assert text(Reading(pages=(rich_page(), page_of("next page")))) == (
        "Head | line\n\nfirst *line*\nsecond line\n\nItem Price\nTea 2|50\n\n# not a heading\n\fnext page\n"
    )


@settings(max_examples=25)
@given(readings())
def test_any_reading_comes_back_line_by_line(reading: Reading) -> None:
    """No text can break a line, a block or a page."""
    pages = text(reading).split("\f")
    assert len(pages) == len(reading.pages)
    for found, page in zip(pages, reading.pages, strict=True):
        expected = [[clean(line.text) for line in lines(page, block)] for block in blocks(page)]
        assert found == "\n".join("".join(f"{line}\n" for line in block) for block in expected)
        assert len(found.splitlines()) == found.count("\n")
