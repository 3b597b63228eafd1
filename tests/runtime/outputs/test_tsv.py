"""TSV: Tesseract's columns, one row a thing."""

import csv
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest
from hypothesis import given, settings

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.runtime.outputs.blocks import blocks, clean, lines, words
from ocr_ops.runtime.outputs.tsv import COLUMNS, tsv
from tests.runtime.outputs.readings import page_of, readings, rich_page
from tests.tiny import draw


def rows_of(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


@settings(max_examples=25)
@given(readings())
def test_any_reading_is_a_table_and_keeps_its_words(reading: Reading) -> None:
    """Twelve columns in every row, whatever a text has in it."""
    table = tsv(reading, ReadOptions())
    assert {line.count("\t") for line in table.splitlines()} == {11}
    told = [row["text"] for row in rows_of(table) if row["level"] == "5"]
    assert told == [
        clean(word.text)
        for page in reading.pages
        for block in blocks(page)
        for line in lines(page, block)
        for word in words(line)
    ]


def test_levels_are_counted_as_tesseract_counts() -> None:
    """Pages by their number in the document; blocks, lines and words from 1 in what holds them."""
    rows = rows_of(tsv(Reading(pages=(rich_page(), page_of("end"))), ReadOptions(pages="2,5")))
    places = ("level", "page_num", "block_num", "par_num", "line_num", "word_num")
    assert [tuple(int(row[key]) for key in places) for row in rows[:7]] == [
        (1, 2, 0, 0, 0, 0),
        (2, 2, 1, 0, 0, 0),
        (3, 2, 1, 1, 0, 0),
        (4, 2, 1, 1, 1, 0),
        (5, 2, 1, 1, 1, 1),
        (5, 2, 1, 1, 1, 2),
        (5, 2, 1, 1, 1, 3),
    ]
    assert [rows[4][key] for key in COLUMNS[6:]] == ["40", "40", "56", "24", "90.00", "Head"]
    assert (rows[3]["conf"], rows[3]["text"]) == ("-1", "")
    assert rows[-1]["page_num"] == "5"


@pytest.mark.peers
def test_the_columns_are_tesseracts(tmp_path: Path) -> None:
    """Name by name, in its order."""
    if shutil.which("tesseract") is None:
        pytest.skip("no tesseract")
    cv2.imwrite(str(tmp_path / "page.png"), draw(["abc"]))
    theirs = subprocess.run(
        ["tesseract", tmp_path / "page.png", "-", "tsv"], check=True, capture_output=True, text=True
    ).stdout
    assert tuple(theirs.splitlines()[0].split("\t")) == COLUMNS
