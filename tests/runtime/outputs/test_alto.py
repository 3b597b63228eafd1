"""ALTO: valid against the standard, and every word is in it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from lxml import etree

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Line, Page, Reading, Word
from ocr_ops.runtime.outputs.alto import NAMESPACE, alto
from ocr_ops.runtime.outputs.blocks import blocks, clean, lines, words
from tests.runtime.outputs.readings import page_of, readings, rich_page, upright

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).with_name("alto.xsd")))
IN = {"a": NAMESPACE}


@settings(max_examples=25)
@given(readings())
def test_any_reading_is_valid_and_keeps_its_words(reading: Reading) -> None:
    """Whatever characters a text has, and whatever shape it is in."""
    root = etree.fromstring(alto(reading, "a\x00<&>.png", ReadOptions(language="de-AT")))
    SCHEMA.assertValid(root)
    told = [string.get("CONTENT") for string in root.iterfind(".//a:String", IN)]
    assert told == [
        clean(word.text)
        for page in reading.pages
        for block in blocks(page)
        for line in lines(page, block)
        for word in words(line)
    ]


def test_blocks_words_and_shapes_are_told() -> None:
    """Headings by their tag, tables as composed blocks, boxes and confidence of words."""
    reading = Reading(pages=(rich_page(),))
    root = etree.fromstring(alto(reading, "menu.png", ReadOptions(pages="3")))
    assert root.findtext(".//a:fileName", namespaces=IN) == "menu.png"
    (page,) = root.iterfind(".//a:Page", IN)
    assert (page.get("PHYSICAL_IMG_NR"), page.get("WIDTH"), page.get("HEIGHT")) == ("3", "640", "480")
    space = page.find("a:PrintSpace", IN)
    assert [etree.QName(block).localname for block in space] == ["TextBlock", "TextBlock", "ComposedBlock", "TextBlock"]
    assert [block.get("TAGREFS") for block in space] == ["heading", None, None, None]
    assert root.find(".//a:StructureTag", IN).get("ID") == "heading"
    first = space.find(".//a:String", IN)
    figures = [first.get(key) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT", "WC")]
    assert figures == ["40", "40", "56", "24", "0.9000"]
    assert first.find(".//a:Polygon", IN).get("POINTS") == "40,40 96,40 96,64 40,64"
    assert space.find(".//a:TextLine", IN).get("BASELINE") == "40,64 194,64"


@pytest.mark.parametrize(("across", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_spaces_are_between_their_words(across: int, down: int) -> None:
    """Of a line that runs to the right, to the left, down or up the page."""
    boxes = [(200 + 100 * i * across, 200 + 100 * i * down) for i in range(2)]
    words = tuple(Word(text="ab", confidence=1, polygon=upright(x, y, 60, 60)) for x, y in boxes)
    page = Page(width=640, height=480, lines=(Line(text="ab ab", confidence=1, polygon=(), words=words),))
    root = etree.fromstring(alto(Reading(pages=(page,)), "a.png", ReadOptions()))
    (space,) = root.iterfind(".//a:SP", IN)
    first, second = boxes
    place = [max(first[i], second[i]) - (40 if (across, down)[i] else 0) for i in range(2)]
    size = [40 if step else 60 for step in (across, down)]
    assert [int(space.get(key)) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT")] == [*place, *size]


def test_a_page_on_its_side_tells_how_it_is_turned() -> None:
    """Against the clock, where a page's orientation counts with it."""
    page = page_of("side").model_copy(update={"orientation": 90})
    root = etree.fromstring(alto(Reading(pages=(page,)), "a.png", ReadOptions()))
    assert root.find(".//a:Page", IN).get("ROTATION") == "270"
