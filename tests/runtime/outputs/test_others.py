"""hOCR and ALTO in the hands of others: the published schema, validators, and tools their users have.

`ci/outputs` installs these and runs this; without them there is nothing to ask.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from lxml import etree

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime.outputs.alto import alto
from ocr_ops.runtime.outputs.hocr import hocr
from tests.runtime.outputs.poppler import found_words
from tests.runtime.outputs.readings import line_of, page_of, readings, rich_page

TOOLS = Path(os.environ.get("OCR_OPS_OUTPUT_TOOLS", ""))
pytestmark = pytest.mark.skipif(not TOOLS.name, reason="`ci/outputs` brings the tools")
OPTIONS = ReadOptions(language="de-AT")
LATER = {"LANG", "ROTATION"}
"""What 4.4 gave a page, which the schema of 4.2 cannot know."""


def tool(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """One of theirs, as a user would run it."""
    env = {**os.environ, "PYTHONPATH": str(TOOLS), "PYTHONWARNINGS": "ignore"}
    return subprocess.run([sys.executable, *command], capture_output=True, check=True, env=env)


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(TOOLS / "digiflow/resources/xsd/alto-4-2.xsd"))


def test_alto_is_valid_against_the_published_schema(schema: etree.XMLSchema) -> None:
    """4.2, the newest there is a package of: what we write beside is a page's language and rotation, of 4.4."""

    @settings(max_examples=100, deadline=None)
    @given(readings())
    def any_reading(reading: Reading) -> None:
        root = etree.fromstring(alto(reading, "a\x00<&>.png", OPTIONS))
        for page in root.iterfind(".//{*}Page"):
            for name in LATER & set(page.attrib):
                del page.attrib[name]
        schema.assertValid(root)

    any_reading()


def test_the_published_schema_refuses_what_is_none(schema: etree.XMLSchema) -> None:
    """Or it would say nothing."""
    data = alto(Reading(pages=(rich_page(),)), "a.png", ReadOptions())
    schema.assertValid(etree.fromstring(data))
    assert not schema.validate(etree.fromstring(data.replace(b' CONTENT="', b' CONTENTS="', 1)))


@pytest.mark.parametrize("page", [rich_page(), page_of(), page_of("a <b> & c", "Größe 12 €")])
def test_validators_of_hocr_find_nothing(page: Page, tmp_path: Path) -> None:
    """hocr-spec, which has hOCR 1.2, would like to be told the scripts; hocr-check looks at boxes too."""
    path = tmp_path / "a.hocr"
    path.write_bytes(hocr(Reading(pages=(page,)), "menu.png", OPTIONS))
    told = tool(TOOLS / "bin/hocr-spec", path).stdout.decode().splitlines()
    wish = f"[WARN] {path} Recommended metadata field 'ocr-scripts' missing"
    assert set(told) - {wish} == {f"[OK] {path} Document is valid"}
    told = tool(TOOLS / "bin/hocr-check", path).stderr.decode()
    assert told.startswith("ok 1 ")
    assert "not ok" not in told


def test_hocr_lines_are_our_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.hocr"
    page = page_of("first line", "a <b> & c")
    path.write_bytes(hocr(Reading(pages=(page,)), "menu.png", OPTIONS))
    assert tool(TOOLS / "bin/hocr-lines", path).stdout.decode().splitlines() == page.text.splitlines()


def test_alto_tools_read_our_text_and_confidence(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    page = page_of("first line", "a <b> & c", "Größe 12 €")
    path.write_bytes(alto(Reading(pages=(page,)), "menu.png", OPTIONS))
    assert tool(TOOLS / "bin/alto-tools", "-t", path).stdout.decode().split() == page.text.split()
    assert tool(TOOLS / "bin/alto-tools", "-c", path).stdout.decode().endswith("Confidence: 90.0")


def test_ocrmypdf_puts_our_words_where_they_stand(tmp_path: Path) -> None:
    """A PDF that it makes of our hOCR: pdftotext finds each word in its place, also one that juts out of the page."""
    jutting = line_of("out of it", left=-10)
    page = Page(width=640, height=480, lines=(*page_of("first line", "Größe 12 €").lines, jutting))
    path, made = tmp_path / "a.hocr", tmp_path / "a.pdf"
    path.write_bytes(hocr(Reading(pages=(page,)), "a.png", OPTIONS))
    tool("-m", "ocrmypdf.hocrtransform", "--resolution", "72", path, made)
    (found,) = found_words(made.read_bytes(), tmp_path)
    words = [word for line in page.lines for word in line.words]
    assert sorted(word.text for word in found) == sorted(word.text for word in words)
    for word in words:
        (left, top), (right, _), (_, bottom), _ = word.polygon
        there = next(one for one in found if one.text == word.text)
        assert (there.left, there.right) == pytest.approx((max(left, 0), right), abs=1)
        assert there.top < (top + bottom) / 2 < there.bottom
