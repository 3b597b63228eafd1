"""Searchable PDFs: pdftotext finds the words where they stand, and what is shown stays as it was."""

import io
import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import docx
import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Line, Page, Polygon, Reading, Word
from ocr_ops.core.spec import ModelSpec
from ocr_ops.runtime.documents import sheets
from ocr_ops.runtime.outputs.blocks import box
from ocr_ops.runtime.outputs.pdf import searchable_pdf
from tests.pdfs import Pdf, covering, lines
from tests.runtime.outputs.poppler import found_words, pdftotext
from tests.runtime.outputs.readings import line_of, page_of, pages, upright
from tests.tiny import draw

ALL = ReadOptions()
MODELS = Path(__file__).parents[3] / "models"
WIDTH, HEIGHT, DPI = 600, 400, 100


def png(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(["abc", "cab"], width, height)).save(buffer, "PNG", dpi=(DPI, DPI))
    return buffer.getvalue()


def turned(text: str, centre: tuple[float, float], width: float, degrees: float, height: float = 20) -> Line:
    """A line of one word, turned by `degrees` against the clock."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((-width, -height), (width, -height), (width, height), (-width, height))
    polygon = tuple((centre[0] + (x * cos + y * sin) / 2, centre[1] + (y * cos - x * sin) / 2) for x, y in corners)
    return Line(text=text, confidence=1, polygon=polygon, words=(Word(text=text, confidence=1, polygon=polygon),))


def stands(found: Sequence[float], polygon: Polygon, scale: float, within: float = 1.0) -> bool:
    """Whether a word found on a page of `scale` points a pixel is where it was read, within some points."""
    return np.allclose(found, np.multiply(box(polygon), scale), atol=within)


def rendered(data: bytes) -> list[NDArray[np.uint8]]:
    with pypdfium2.PdfDocument(data) as pdf:
        return [np.array(page.render(scale=1).to_numpy()) for page in pdf]


def test_words_of_an_image_stand_where_they_were_read(tmp_path: Path) -> None:
    """Upright, level to the pixel; in the order of the reading, a line a line."""
    page = page_of("Crème brûlée 12,50 €", "second line here", width=WIDTH, height=HEIGHT)
    data = searchable_pdf(Reading(pages=(page,)), "a.png", png(), ALL)
    (found,) = found_words(data, tmp_path)
    words = [word for line in page.lines for word in line.words]
    assert [word.text for word in found] == [word.text for word in words]
    assert all(stands(f[1:], w.polygon, 72 / DPI, 0.1) for f, w in zip(found, words, strict=True))
    assert pdftotext(data, tmp_path).splitlines()[:2] == ["Crème brûlée 12,50 €", "second line here"]


@pytest.mark.parametrize("degrees", [0, 3, -8, 20, 45, 90, 180, 270, 100])
def test_turned_and_crooked_words_are_found_whole(tmp_path: Path, degrees: float) -> None:
    """As one word each; pdftotext's box of one that is neither level nor upright is within the word's own."""
    page = Page(width=WIDTH, height=HEIGHT, lines=(turned("LinnSequencer", (300, 200), 240, degrees),))
    data = searchable_pdf(Reading(pages=(page,)), "a.png", png(), ALL)
    ((word,),) = found_words(data, tmp_path)
    assert word.text == "LinnSequencer"
    straight = degrees % 90 == 0
    middle = (word.left + word.right) / 2, (word.top + word.bottom) / 2
    left, top, right, bottom = np.multiply(box(page.lines[0].polygon), 72 / DPI)
    assert left <= middle[0] <= right
    assert top <= middle[1] <= bottom
    if straight:
        assert stands(word[1:], page.lines[0].polygon, 72 / DPI, 0.1)
    with pypdfium2.PdfDocument(data) as pdf:
        text = pdf[0].get_textpage()
        assert text.get_text_range().strip() == "LinnSequencer"
        boxes = [text.get_charbox(i) for i in range(13)]
    sides = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
    found = (sides[0], HEIGHT * 72 / DPI - sides[3], sides[2], HEIGHT * 72 / DPI - sides[1])
    assert stands(found, page.lines[0].polygon, 72 / DPI, 1)


def test_every_character_the_models_can_read_comes_back(tmp_path: Path) -> None:
    """And others: currencies, Greek, Cyrillic, Chinese, Japanese, Korean, combining marks, beyond the first plane."""
    charset = "".join(sorted({char for path in MODELS.glob("recognition-*") for char in ModelSpec.read(path).charset}))
    more = ["€£¥₹₿₩₽¢", "Ελληνικά", "Кириллица", "漢字かなカナ", "한국어", "𠮷𝒳", "e\u0301a\u0308"]
    texts = [charset[start : start + 20].strip() for start in range(0, len(charset.replace(" ", "")), 20)] + more
    assert len(charset) > 200
    lines = tuple(line_of(text.replace(" ", ""), top=10 + 30 * row) for row, text in enumerate(texts))
    page = Page(width=WIDTH, height=40 + 30 * len(lines), lines=lines)
    data = searchable_pdf(Reading(pages=(page,)), "a.png", png(WIDTH, page.height), ALL)
    (found,) = found_words(data, tmp_path)
    assert "".join(word.text for word in found) == "".join(line.text for line in lines)
    boxed = {word.text: word for word in found}
    assert all(
        stands(boxed[t][1:], line.polygon, 72 / DPI, 0.2) for t, line in zip(more, lines[-len(more) :], strict=True)
    )


HEBREW = ("שלום עולם טוב", "בשנת הזאת", "מחיר-12.50", "שָׁלוֹם.", "السلام عليكم", "(سلام)")


def leftward(text: str, top: float) -> Line:
    """A line of words from right to left."""
    words, right = [], 560.0
    for part in text.split():
        left = right - 14 * len(part)
        words.append(Word(text=part, confidence=0.9, polygon=upright(left, top, right - left, 24)))
        right = left - 14
    return Line(text=text, confidence=0.9, polygon=upright(left, top, 560 - left, 24), words=tuple(words))


def plain(text: str) -> list[str]:
    """Lines without the marks that some readers put around text from right to left."""
    return [unicodedata.normalize("NFC", re.sub("[\u202a-\u202e]", "", line)) for line in text.split("\n") if line]


def test_hebrew_and_arabic_are_found_as_they_are_read(tmp_path: Path) -> None:
    """By readers that turn round what stands from right to left; pdftotext turns no brackets."""
    page = Page(width=WIDTH, height=HEIGHT, lines=tuple(leftward(t, 10 + 40 * row) for row, t in enumerate(HEBREW)))
    data = searchable_pdf(Reading(pages=(page,)), "a.png", png(), ALL)
    with pypdfium2.PdfDocument(data) as pdf:
        assert plain(pdf[0].get_textpage().get_text_range().replace("\r", "")) == plain("\n".join(HEBREW))
    assert plain(pdftotext(data, tmp_path).replace("\f", ""))[:-1] == plain("\n".join(HEBREW[:-1]))


@pytest.mark.parametrize("degrees", [0, 3, 20, 90, 180, 270])
def test_a_turned_word_of_hebrew_is_found(tmp_path: Path, degrees: float) -> None:
    page = Page(width=WIDTH, height=HEIGHT, lines=(turned("שלום", (300, 200), 240, degrees),))
    data = searchable_pdf(Reading(pages=(page,)), "a.png", png(), ALL)
    assert plain(pdftotext(data, tmp_path).replace("\f", "")) == ["שלום"]
    with pypdfium2.PdfDocument(data) as pdf:
        assert pdf[0].get_textpage().get_text_range() == "שלום"


def test_a_word_document_in_hebrew_is_found_as_it_is_read(tmp_path: Path) -> None:
    """Its lines begin on the right, those with a few words of it on the left."""
    texts = ("שלום עולם טוב", "the word שלום עולם is read", "קובץ open file הזה")
    document, saved = docx.Document(), io.BytesIO()
    for text in texts:
        document.add_paragraph(text)
    document.save(saved)
    (sheet,) = sheets(saved.getvalue(), "a.docx")
    assert sheet.text is not None
    assert [line.text for line in sheet.text.lines] == list(texts)
    first, second, third = ([word.polygon[0][0] for word in line.words] for line in sheet.text.lines)
    assert first == sorted(first, reverse=True)
    assert [sorted(second).index(x) for x in second] == [0, 1, 3, 2, 4, 5]
    assert [sorted(third).index(x) for x in third] == [3, 1, 2, 0]
    data = searchable_pdf(Reading(pages=(sheet.text,)), "a.docx", saved.getvalue(), ALL)
    with pypdfium2.PdfDocument(data) as pdf:
        said = [line.strip() for line in plain(pdf[0].get_textpage().get_text_range().replace("\r", ""))]
    assert said[0] == texts[0]
    assert plain(pdftotext(data, tmp_path))[0] == texts[0]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages())
def test_any_reading_makes_a_pdf(tmp_path: Path, page: Page) -> None:
    """Whatever its polygons: of no size, off the page, crossed, or none at all."""
    data = searchable_pdf(Reading(pages=(page,)), "a.png", png(), ALL)
    pdftotext(data, tmp_path)
    assert len(rendered(data)) == 1


def base_pdf(rotation: int, crop: tuple[float, float, float, float] | None, count: int = 1) -> bytes:
    """A PDF of pictures, each with a grey box, its pages turned and cropped."""
    pdf = pypdfium2.PdfDocument.new()
    for number in range(count):
        page = pdf.new_page(500, 700)
        bitmap = pypdfium2.PdfBitmap.from_pil(Image.fromarray(draw(["abc" * (number + 1)])))
        image = pypdfium2.PdfImage.new(pdf)
        image.set_bitmap(bitmap)
        image.set_matrix(pypdfium2.PdfMatrix().scale(300, 200).translate(100, 300))
        page.insert_obj(image)
        page.gen_content()
        page.set_rotation(rotation)
        if crop is not None:
            page.set_cropbox(*crop)
    buffer = io.BytesIO()
    pdf.save(buffer)
    return buffer.getvalue()


def read_sheets(document: bytes, options: ReadOptions = ALL, text: str = "found here") -> Reading:
    """A reading of all pages asked for, each of two words, the same on all."""
    read = []
    for sheet in sheets(document, "a.pdf", options):
        assert sheet.image is not None
        height, width = sheet.image.shape[:2]
        read.append(Page(width=width, height=height, lines=(line_of(text, left=200, top=300, height=40, pitch=30),)))
    return Reading(pages=tuple(read))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (50, 120, 450, 650)])
def test_pages_of_a_pdf_stay_and_say_what_was_read(
    tmp_path: Path, rotation: int, crop: tuple[float, float, float, float] | None
) -> None:
    """However they are turned and cropped, words are where they are seen, and not a pixel changes."""
    document = base_pdf(rotation, crop)
    reading = read_sheets(document)
    data = searchable_pdf(reading, "a.pdf", document, ALL)
    (found,) = found_words(data, tmp_path)
    assert [word.text for word in found] == ["found", "here"]
    words = reading.pages[0].lines[0].words
    assert all(stands(f[1:], w.polygon, 72 / 200, 0.5) for f, w in zip(found, words, strict=True))
    assert all(np.array_equal(before, after) for before, after in zip(rendered(document), rendered(data), strict=True))


@pytest.mark.parametrize(
    "state", ["5 Tc", "9 Tw", "40 Tz", "10 Ts", "BT 5 Tc 40 Tz 10 Ts 7 Tr ET", "0.5 0 0 0.5 9 9 cm"]
)
def test_words_stand_where_they_were_read_whatever_state_the_page_leaves(tmp_path: Path, state: str) -> None:
    """Spacing, stretching and raising of its own text, such as an earlier recognition's, are not those of the new."""
    document = Pdf(f"{state}\n{covering()}", picture=Image.new("L", (40, 30), 200)).data
    reading = read_sheets(document)
    (found,) = found_words(searchable_pdf(reading, "a.pdf", document, ALL), tmp_path)
    words = reading.pages[0].lines[0].words
    assert [word.text for word in found] == [word.text for word in words]
    assert all(stands(f[1:], w.polygon, 72 / 200, 0.5) for f, w in zip(found, words, strict=True))


def test_pages_with_text_of_their_own_get_no_second_layer(tmp_path: Path) -> None:
    """One page of two is silent; when none is, the document is what it was, byte for byte."""
    image_only = base_pdf(0, None)
    spoken = searchable_pdf(read_sheets(image_only, text="spoken"), "a.pdf", image_only, ALL)
    with (
        pypdfium2.PdfDocument.new() as both,
        pypdfium2.PdfDocument(spoken) as one,
        pypdfium2.PdfDocument(image_only) as two,
    ):
        both.import_pages(one)
        both.import_pages(two)
        buffer = io.BytesIO()
        both.save(buffer)
    reading = read_sheets(buffer.getvalue(), ReadOptions(text_layer="ignore"))
    own = reading.pages[0].model_copy(update={"source": "text-layer"})
    data = searchable_pdf(Reading(pages=(own, reading.pages[1])), "a.pdf", buffer.getvalue(), ALL)
    assert [[word.text for word in page] for page in found_words(data, tmp_path)] == [["spoken"], ["found", "here"]]
    assert searchable_pdf(Reading(pages=(own, own)), "a.pdf", buffer.getvalue(), ALL) == buffer.getvalue()


def test_of_some_pages_asked_for_these_alone_are_kept(tmp_path: Path) -> None:
    """In the document's order."""
    document, options = base_pdf(0, None, count=4), ReadOptions(pages="4,2")
    data = searchable_pdf(read_sheets(document, options), "a.pdf", document, options)
    shown, before = rendered(data), rendered(document)
    assert len(shown) == 2
    assert np.array_equal(shown[0], before[1])
    assert np.array_equal(shown[1], before[3])
    assert len(found_words(data, tmp_path)[1]) == 2


FIELD = (
    "/Subtype/Widget/FT/Tx/T(name)/V(Rosalind)/DA(/F 11 Tf 0 g)",
    "/Tx BMC BT /F 11 Tf 2 6 Td (Rosalind) Tj ET EMC",
)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("entries", ["", "/CropBox[20 60 390 290]"])
def test_of_some_pages_of_a_form_what_is_filled_in_is_kept(tmp_path: Path, rotation: int, entries: str) -> None:
    """It is seen and found, once, without the form; links stay."""
    notes = [((180, 100, 380, 122), *FIELD), ((10, 10, 50, 50), "/Subtype/Link/A<</S/URI/URI(http://a.org)>>", "")]
    form = Pdf(lines(["Name of the applicant:"]), notes=notes, entries=f"{entries}/Rotate {rotation}").data
    with pypdfium2.PdfDocument(form) as pdf:
        pdf.new_page(400, 300)
        buffer = io.BytesIO()
        pdf.save(buffer)
    document, options = buffer.getvalue(), ReadOptions(pages="1")
    with pypdfium2.PdfDocument(document) as pdf:
        pdf.init_forms()
        before = np.array(pdf[0].render(scale=2).to_numpy())
    (sheet,) = sheets(document, "a.pdf", options)
    assert sheet.text is not None
    data = searchable_pdf(Reading(pages=(sheet.text,)), "a.pdf", document, options)
    with pypdfium2.PdfDocument(data) as pdf:
        assert len(pdf) == 1
        page = pdf[0]
        after = np.array(page.render(scale=2).to_numpy())
        assert pdfium.FPDFPage_GetAnnotCount(page) == 1
        assert pdfium.FPDFLink_GetLinkAtPoint(page, 30, 30)
        assert page.get_textpage().get_text_range().split()[-1] == "Rosalind"
    assert after.shape == before.shape
    assert np.abs(after.astype(int) - before).mean() < 0.5  # letters of fields are smoothed in another way
    assert (before < 128).sum() == pytest.approx((after < 128).sum(), rel=0.02)
    if not entries and not rotation:
        ((*_, name),) = found_words(data, tmp_path)
        assert name.text == "Rosalind"
        assert np.allclose(name[1:], (182, 186, 225, 197), atol=3)


def test_broken_documents_are_refused() -> None:
    """With the reason."""
    reading = Reading(pages=(page_of("a"),))
    for data in (b"PK\x03\x04", b"%PDF-1.7 nothing", b"text"):
        with pytest.raises(UnreadableDocument):
            searchable_pdf(reading, "a.pdf", data, ALL)


def test_a_word_document_is_seen_as_it_is_laid_out(tmp_path: Path) -> None:
    """Words of several scripts where they stand, the sides of cells, and pictures with what was read in them."""
    document, saved = docx.Document(), io.BytesIO()
    document.add_paragraph("Ordinary words, “quoted” — and čtyři żółte ő Αθήνα Привет 日本")
    document.add_table(1, 2).cell(0, 1).text = "in a cell"
    document.add_picture(io.BytesIO(png()))
    document.save(saved)
    found = list(sheets(saved.getvalue(), "a.docx"))
    pages = [sheet.text or page_of("found here", width=WIDTH, height=HEIGHT) for sheet in found]
    data = searchable_pdf(Reading(pages=tuple(pages)), "a.docx", saved.getvalue(), ALL)
    first, second = found_words(data, tmp_path)
    words = [word for line in pages[0].lines for word in line.words]
    assert [word.text for word in first] == [word.text for word in words]
    for told, word in zip(first, words, strict=True):
        assert stands(told[1:], word.polygon, 72 / 200, within=3), word.text
    assert [word.text for word in second] == ["found", "here"]
    seen, picture = rendered(data)
    assert seen.shape[:2] == (792, 612)
    left, top, right, bottom = (round(side) for side in first[0][1:])
    assert (seen[top:bottom, left:right] < 128).any()
    assert (picture < 128).any()
    table = pages[0].blocks[1].table
    assert table is not None
    x, y = (round(side * 72 / 200) for side in table.cells[1].polygon[0])
    assert (seen[y + 4 : y + 10, x - 2 : x + 3] < 200).any()


@pytest.mark.shared_data
def test_real_pdfs_look_as_before_and_can_be_searched(shared_data: Path, tmp_path: Path) -> None:
    """Invoices, scans and born-digital pages, of whatever make: they look the same, and the new text is there."""
    tried = 0
    for path in sorted((shared_data / "pdf").glob("*/**/*.pdf")):
        document = path.read_bytes()
        if path.parent.name == "malformed_or_locked" or len(document) > 200_000:
            continue
        with pypdfium2.PdfDocument(document) as pdf:
            if len(pdf) > 4:
                continue
            sizes = [page.get_size() for page in pdf]
        texts = [line_of("zyxwv", left=8, top=4, height=10, pitch=6)]
        read = Reading(pages=tuple(Page(width=round(w), height=round(h), lines=tuple(texts)) for w, h in sizes))
        data = searchable_pdf(read, path.name, document, ReadOptions(text_layer="ignore"))
        for before, after in zip(rendered(document), rendered(data), strict=True):
            assert np.array_equal(before, after), path
        for words in found_words(data, tmp_path):
            ours = [word for word in words if "zyxwv" in word.text]
            assert len(ours) == 1, path
        tried += 1
    assert tried > 30
