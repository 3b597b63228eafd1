"""hOCR: XHTML that keeps to hOCR 1.2."""

import re
from html.parser import HTMLParser

from hypothesis import given, settings
from lxml import etree, html

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime.outputs.blocks import blocks, clean, lines, words
from ocr_ops.runtime.outputs.hocr import hocr
from tests.runtime.outputs.readings import line_of, page_of, readings, rich_page

_INSIDE = {"ocr_page": None, "ocr_carea": "ocr_page", "ocr_par": "ocr_carea", "ocr_line": "ocr_par"} | {
    "ocrx_word": "ocr_line"
}
_NUMBER = r"-?\d+(\.\d+)?"
_TITLES = {
    "ocr_page": r'image "[^"]*"; bbox 0 0 \d+ \d+; ppageno \d+',
    "ocr_carea": r"bbox( \d+){4}",
    "ocr_par": r"bbox( \d+){4}",
    "ocr_line": rf"bbox( \d+){{4}}(; baseline {_NUMBER} -?\d+|; textangle {_NUMBER})?",
    "ocrx_word": r"bbox( \d+){4}; x_wconf (\d|[1-9]\d|100)",
}
_REQUIRED = {"ocr-system", "ocr-capabilities", "ocr-number-of-pages", "ocr-langs"}


def check(data: bytes) -> etree._Element:
    """The document, if it is hOCR: nested classes, properties by the grammar, metadata, ids that are unique."""
    root = etree.fromstring(data)
    parts = root.xpath("//*[@class]")
    for part in parts:
        kind = part.get("class")
        assert part.getparent().get("class") == _INSIDE[kind]
        assert re.fullmatch(_TITLES[kind], part.get("title")), part.get("title")
        left, top, right, bottom = map(
            int, re.search(r"bbox (\S+) (\S+) (\S+) (\S+?)(;|$)", part.get("title")).groups()[:4]
        )
        assert left <= right
        assert top <= bottom
    names = [part.get("id") for part in parts]
    assert len(names) == len(set(names))
    told = {meta.get("name"): meta.get("content") for meta in root.iterfind(".//{*}meta[@name]")}
    assert set(told) == _REQUIRED
    assert {part.get("class") for part in parts} <= set(told["ocr-capabilities"].split())
    assert int(told["ocr-number-of-pages"]) == len(root.xpath("//*[@class='ocr_page']"))
    return root


@settings(max_examples=25)
@given(readings())
def test_any_reading_is_valid_and_keeps_its_words(reading: Reading) -> None:
    """As XML and as HTML: whatever a text has in it that looks like markup is text."""
    data = hocr(reading, 'a "b"; c <&>.png', ReadOptions())
    root = check(data)
    expected = [
        clean(word.text)
        for page in reading.pages
        for block in blocks(page)
        for line in lines(page, block)
        for word in words(line)
    ]
    assert [word.text or "" for word in root.xpath("//*[@class='ocrx_word']")] == expected
    loose = html.document_fromstring(data)
    assert len(loose.xpath("//*[@class='ocrx_word']")) == len(expected)


def test_pages_blocks_and_language_are_told() -> None:
    """The number a page has in its document, its size, and the language of the paragraphs."""
    root = check(hocr(Reading(pages=(rich_page(),)), "menu.pdf", ReadOptions(pages="4-9", language="fr")))
    (page,) = root.xpath("//*[@class='ocr_page']")
    assert page.get("title") == 'image "menu.pdf"; bbox 0 0 640 480; ppageno 3'
    assert len(root.xpath("//*[@class='ocr_carea']")) == 4
    assert {part.get("lang") for part in root.xpath("//*[@class='ocr_par']")} == {"fr"}
    assert root.xpath("//*[@class='ocrx_word']")[0].get("title") == "bbox 40 40 96 64; x_wconf 90"


def test_lines_tell_their_slope_or_their_angle() -> None:
    """A line that falls by 10 in 100 pixels, and one that runs up the page."""
    falling = line_of("a").model_copy(update={"polygon": ((10, 10), (110, 20), (110, 50), (10, 40))})
    upward = line_of("b").model_copy(update={"polygon": ((10, 200), (10, 100), (40, 100), (40, 200))})
    page = Page(width=300, height=300, lines=(falling, upward))
    told = [
        line.get("title")
        for line in check(hocr(Reading(pages=(page,)), "a", ReadOptions())).xpath("//*[@class='ocr_line']")
    ]
    assert told == ["bbox 10 10 110 50; baseline 0.1000 -10", "bbox 10 100 40 200; textangle 90.0"]


def test_nothing_lies_outside_of_the_page() -> None:
    """Left of it or above it: the boxes begin at its edge, and so does the baseline."""
    polygon = ((-10, -4), (90, 6), (90, 36), (-10, 26))
    line = line_of("a").model_copy(update={"polygon": polygon, "words": ()})
    page = Page(width=300, height=300, lines=(line,))
    (told,) = check(hocr(Reading(pages=(page,)), "a", ReadOptions())).xpath("//*[@class='ocr_line']")
    assert told.get("title") == "bbox 0 0 90 36; baseline 0.1000 -9"


class Browser(HTMLParser):
    """Nests elements as browsers do, to whom `<div/>` is the start of one that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str | None] = []
        self.found: list[tuple[str | None, ...]] = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(dict(attrs).get("class"))
            self.found.append(tuple(filter(None, self.open)))

    def handle_endtag(self, tag: str) -> None:
        if tag != "meta":
            self.open.pop()


def test_what_is_empty_ends_where_it_should_in_a_browser() -> None:
    """A page without text does not hold the next one, nor a word without any the next word."""
    nothing = line_of("a b")
    words = (nothing.words[0].model_copy(update={"text": ""}), nothing.words[1])
    page = page_of("a").model_copy(update={"lines": (nothing.model_copy(update={"words": words}),)})
    browser = Browser()
    data = hocr(Reading(pages=(page_of(), page)), "a", ReadOptions())
    browser.feed(data.decode())
    html.document_fromstring(data, parser=html.HTMLParser(recover=False))
    assert not browser.open
    inside = ["ocr_page", "ocr_carea", "ocr_par", "ocr_line"]
    whole = [tuple(inside[:depth]) for depth in range(1, 5)] + [(*inside, "ocrx_word")] * 2
    assert [classes for classes in browser.found if classes] == [("ocr_page",), *whole]


def test_an_empty_page_is_a_page() -> None:
    """Without any block."""
    root = check(hocr(Reading(pages=(page_of(),)), "a", ReadOptions()))
    assert not root.xpath("//*[@class='ocr_carea']")
