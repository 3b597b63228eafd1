import string
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.data.formats.pdf import _words
from ocr_ops.data.pdf_pages import pdf_page
from ocr_ops.runtime.documents import Limits, page_images, sheets
from tests.pdfs import Pdf, covering, lines

TEXT = (
    "The quick brown fox jumps over the lazy dog",
    "while the wizard quickly mixes five dozen jars",
    "of liquid and pays 12.50 for every bottle.",
    "Sphinx of black quartz, judge my vow: all of",
    "these lines have letters high, low and deep.",
)
POOR = ("Tlie qu1ck |3rown f0x jurnps ovcr tlie 1azy d0g", "wh~le t|ne wizard qu^ckly rn1xes f|ve d0zen j4rs") * 3


def read(pdf: Pdf, **options: str) -> Page | None:
    """The page by its own text; None of one that is to be read from its pixels."""
    (sheet,) = sheets(pdf.data, "a.pdf", ReadOptions(**options))
    assert (sheet.image is None) != (sheet.text is None)
    return sheet.text


def ink(image: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> bool:
    """Whether a part of a page, in points from its top left, shows anything."""
    x0, y0, x1, y1 = (round(side * 200 / 72) for side in (left, top, right, bottom))
    return bool((image[y0:y1, x0:x1].min(axis=2) < 128).any())


def scan(texts: tuple[str, ...] = TEXT, top: float = 260) -> Image.Image:
    (pixels,) = page_images(Pdf(lines(texts, top=top)).data, "a.pdf", Limits(pdf_dpi=200))
    return Image.fromarray(pixels)


def test_sound_text_is_the_reading() -> None:
    page = read(Pdf(lines(TEXT)))
    assert page is not None
    assert page.text == "\n".join(TEXT)
    assert page.source == "text-layer"
    assert (page.width, page.height) == (1112, 834)
    assert {word.confidence for line in page.lines for word in line.words} == {1.0}


def test_letters_are_as_large_as_the_page_shows_them() -> None:
    """Whether by their font's size, by a matrix of theirs or by one of the page."""
    columns = ((40, "Sum of all"), (190, "these lines"), (300, "12.50"), (360, "-"))
    pages = []
    for size, zoom, outer in ((11, 1, 1), (1, 11, 1), (110, 0.1, 1), (2, 55, 0.1)):
        shown = f"q {outer} 0 0 {outer} 0 0 cm\n"
        for row, (x, text) in ((row, column) for row in range(6) for column in columns):
            place = f"{x / outer:g} {(260 - row * 20) / outer:g}"
            shown += f"BT /F {size} Tf {zoom} 0 0 {zoom} {place} Tm ({text}) Tj ET\n"
        pages.append(read(Pdf(f"{shown}Q\n")))
    assert pages[0] is not None
    assert [block.kind for block in pages[0].blocks] == ["table"]
    for page in pages[1:]:
        assert page is not None
        assert page.text == pages[0].text
        for line, other in zip(page.lines, pages[0].lines, strict=True):
            assert np.allclose(line.polygon, other.polygon, atol=0.2)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("box", ["", "/CropBox[20 60 390 290]"])
def test_words_stand_where_the_page_shows_them(rotate: int, box: str) -> None:
    """Whichever way the page is turned and whatever is cropped from it; the rest is no text of it."""
    pdf = Pdf(lines((*TEXT, "", *["cut away"] * 9)), entries=f"/Rotate {rotate}{box}")
    page = read(pdf)
    (image,) = page_images(pdf.data, "a.pdf")
    assert page is not None
    assert (page.height, page.width) == image.shape[:2]
    assert page.orientation == rotate
    assert [line.text for line in page.lines][: len(TEXT)] == list(TEXT)
    if box:
        assert len(page.lines) < len(TEXT) + 9
        return
    ink, inside = image.min(axis=2) < 128, np.zeros(image.shape[:2], bool)
    for line in page.lines:
        for word in line.words:
            x, y = np.array(word.polygon).T
            part = slice(int(y.min()) - 1, int(y.max()) + 3), slice(int(x.min()) - 1, int(x.max()) + 3)
            assert ink[part].any(), word.text
            inside[part] = True
    assert not (ink & ~inside).any()


def test_text_on_its_side_is_read_with_the_rest() -> None:
    """A stamp along the margin."""
    aside = "BT /F 11 Tf 0 1 -1 0 30 40 Tm (received in March) Tj ET\n"
    page = read(Pdf(lines(TEXT) + aside))
    assert page is not None
    assert "received in March" in page.text.split("\n")
    assert page.orientation == 0


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("wide", [0.3, 1.5])
def test_ruled_tables_are_seen_in_the_page(rotate: int, wide: float) -> None:
    """With the cells that their rules make, as in a page that is read from its pixels."""
    rules = [f"40 {y} m 360 {y} l" for y in (260, 200, 140, 110)] + [
        f"{x} 260 m {x} 110 l" for x in (40, 200, 280, 360)
    ]
    texts = {
        **dict(zip(((44, 235), (204, 235), (284, 235)), ("Goods", "Price", "Sum"), strict=True)),
        **dict(zip(((44, 185), (44, 170), (44, 155)), ("Screws and", "nails of iron", "by the hundred"), strict=True)),
        **dict(zip(((284, 170), (44, 120), (204, 120)), ("12.50", "All of it", "12.50"), strict=True)),
    }
    shown = "".join(f"BT /F 11 Tf {x} {y} Td ({text}) Tj ET\n" for (x, y), text in texts.items())
    page = read(Pdf(f"{wide} w {' '.join(rules)} S\n{shown}", entries=f"/Rotate {rotate}"))
    assert page is not None
    assert page.orientation == rotate
    (table,) = (block.table for block in page.blocks if block.table)
    assert [(cell.row, cell.column, cell.text) for cell in table.cells] == [
        *((0, column, text) for column, text in enumerate(("Goods", "Price", "Sum"))),
        *((1, column, text) for column, text in enumerate(("Screws and nails of iron by the hundred", "", "12.50"))),
        *((2, column, text) for column, text in enumerate(("All of it", "12.50", ""))),
    ]


@pytest.mark.parametrize("rotate", [0, 180])
def test_marks_that_stand_high_or_low_belong_to_their_words(rotate: int) -> None:
    """Beside letters and marks that stand elsewhere: commas after quotes, underscores after capitals."""
    texts = (
        r'"repetition", as "no" and \223some\224, are words',
        "in FI_DATE, as read_text and d_____ have more,",
        "'a' stands between \\\"quotes\\\", as the \\222s\\222 do.",
    )
    page = read(Pdf(lines(texts), entries=f"/Rotate {rotate}"))
    assert page is not None
    assert page.text.split("\n") == [
        '"repetition", as "no" and “some”, are words',
        "in FI_DATE, as read_text and d_____ have more,",
        "'a' stands between \"quotes\", as the ’s’ do.",
    ]


@pytest.mark.parametrize("shown", ["sxb txs", "bys tys"])
def test_signs_of_two_arabic_letters_are_read_as_they_are_written(shown: str) -> None:
    """PDFium turns them round with the line that they stand in."""
    letters = {"b": "\u0628", "t": "\u062a", "s": "\u0633", "x": "\u0644\u0627", "y": "\u0644\u0625"}
    page = read(Pdf(lines([shown] * 4), unicode={**letters, " ": " "}))
    assert page is not None
    word = "".join(letters.get(letter, letter) for letter in reversed(shown))
    assert page.text == "\n".join([word] * 4)


def test_the_layer_can_be_ignored() -> None:
    assert read(Pdf(lines(TEXT)), text_layer="ignore") is None


def test_a_page_without_text_is_read_from_its_pixels() -> None:
    assert read(Pdf("")) is None
    assert read(Pdf(covering(), picture=scan())) is None


SHIFTED = dict(zip(string.ascii_lowercase, string.ascii_lowercase[3:] + "abc", strict=True))


@pytest.mark.parametrize(
    "unicode",
    [
        dict.fromkeys(string.ascii_letters, "�"),
        {char: chr(0xE000 + ord(char)) for char in string.printable},
        {char: chr(ord(char) % 32) for char in string.ascii_lowercase},
        {char: "!\"#$%&'()*+,-./"[ord(char) % 15] for char in string.ascii_lowercase},
        SHIFTED | {" ": " "},
    ],
    ids=["replaced", "private", "control", "marks", "shifted"],
)
def test_letters_that_are_not_those_shown_are_not_believed(unicode: dict[str, str]) -> None:
    """Not even when they look like words: an l has another shape than an a."""
    assert read(Pdf(lines(TEXT), unicode=unicode)) is None


def test_true_mappings_are_believed() -> None:
    page = read(Pdf(lines(TEXT), unicode={char: char for char in string.printable if char not in "\r\n\t\x0b\x0c"}))
    assert page is not None
    assert page.text == "\n".join(TEXT)


def test_words_that_run_together_are_not_believed() -> None:
    assert read(Pdf(lines([text.replace(" ", "") for text in TEXT]))) is None


def test_of_a_stamped_scan_the_stamp_is_text_and_the_rest_is_read() -> None:
    """What is to be read shows the stamp no more, so that nothing is read twice."""
    stamp = "Received 2024-03-01, page 1 of 2"
    (sheet,) = sheets(Pdf(covering() + lines([stamp], top=285), picture=scan()).data, "a.pdf")
    assert sheet.text is not None
    assert sheet.image is not None
    assert sheet.text.text == stamp
    assert (sheet.text.height, sheet.text.width) == sheet.image.shape[:2]
    assert not ink(sheet.image, 0, 0, 400, 20)
    assert ink(sheet.image, 30, 28, 300, 50)


def test_of_a_page_with_a_picture_of_text_the_picture_is_read() -> None:
    """Also a small one on a page full of text, whose paper is of another colour."""
    tinted = "0.8 0.9 1 rg 0 0 400 300 re f 0 g\n"
    words = lines([f"{text} {text}" for text in TEXT * 3], size=6, top=285)
    picture = scan(("a line in the picture",), top=290).crop((100, 0, 600, 60))
    (sheet,) = sheets(Pdf(tinted + words + "q 180 0 0 22 20 20 cm /I Do Q\n", picture=picture).data, "a.pdf")
    assert sheet.text is not None
    assert sheet.image is not None
    assert len(sheet.text.lines) == 15
    assert not ink(sheet.image, 0, 0, 400, 250)
    assert ink(sheet.image, 20, 258, 200, 280)
    assert tuple(sheet.image[10, 10]) == tuple(sheet.image[60, 200])


FIELD = "/Subtype/Widget/FT/Tx/T(name)/V(Rosalind Franklin)/DA(/F 11 Tf 0 g)"
NOTES = {
    "field": (FIELD, "/Tx BMC q BT /F 11 Tf 2 6 Td (Rosalind Franklin) Tj ET Q EMC"),
    "short": (FIELD.replace("Rosalind Franklin", "42"), "/Tx BMC q BT /F 11 Tf 2 6 Td (42) Tj ET Q EMC"),
    "written": ("/Subtype/FreeText/Contents(Rosalind Franklin)", "BT /F 11 Tf 2 6 Td (Rosalind Franklin) Tj ET"),
    "stamp": ("/Subtype/Stamp", "BT /F 11 Tf 2 6 Td (Rosalind Franklin) Tj ET"),
}


@pytest.mark.parametrize("kind", NOTES)
@pytest.mark.parametrize("rotate", [0, 90])
def test_what_was_filled_in_is_part_of_the_text(kind: str, rotate: int) -> None:
    """However little it is; it stands where it is seen."""
    pdf = Pdf(lines(TEXT), notes=[((40, 100, 240, 122), *NOTES[kind])], entries=f"/Rotate {rotate}")
    page = read(pdf)
    assert page is not None
    assert page.text == "\n".join([*TEXT, "42" if kind == "short" else "Rosalind Franklin"])
    if not rotate:
        x, y = (np.array(page.lines[-1].polygon) * 72 / 200).T
        assert 36 < x.min() < 46
        assert 300 - 122 <= y.min() < y.max() <= 300 - 100


def test_what_was_filled_in_is_read_with_a_scan() -> None:
    """It keeps its letters; the scan around it is read."""
    (sheet,) = sheets(Pdf(covering(), picture=scan(), notes=[((40, 100, 240, 122), *NOTES["field"])]).data, "a.pdf")
    assert sheet.text is not None
    assert sheet.image is not None
    assert sheet.text.text == "Rosalind Franklin"
    assert not ink(sheet.image, 36, 176, 240, 202)
    assert ink(sheet.image, 30, 28, 300, 50)


def test_links_and_remarks_beside_the_page_change_nothing() -> None:
    aside = [((0, 0, 40, 20), "/Subtype/Link", ""), ((0, 40, 20, 60), "/Subtype/Text/Contents(not on paper)", "")]
    page = read(Pdf(lines(TEXT), notes=aside))
    assert page is not None
    assert page.text == "\n".join(TEXT)


def test_a_picture_on_a_page_of_text_does_no_harm() -> None:
    noise = np.random.default_rng(0).normal(128, 50, (200, 300, 3)).clip(0, 255).astype(np.uint8)
    photo = Image.fromarray(noise).resize((600, 400), Image.Resampling.BICUBIC)
    page = read(Pdf(lines(TEXT) + "q 200 0 0 120 100 30 cm /I Do Q\n", picture=photo))
    assert page is not None
    assert page.text == "\n".join(TEXT)


def test_a_scan_with_its_text_recognized_well_needs_no_reading() -> None:
    page = read(Pdf(covering() + lines(TEXT, mode=3), picture=scan()))
    assert page is not None
    assert page.text == "\n".join(TEXT)
    assert {round(word.confidence, 6) for line in page.lines for word in line.words} == {0.9}


@pytest.mark.parametrize(
    "layer",
    [lines(POOR, mode=3), lines(TEXT, mode=3, top=100), lines(TEXT[:2], mode=3), lines(TEXT, mode=3, left=220)],
    ids=["poor", "elsewhere", "a part", "aside"],
)
def test_a_scan_with_its_text_recognized_badly_is_read_again(layer: str) -> None:
    texts = TEXT if "quick brown" in layer else (*TEXT, TEXT[0])
    assert read(Pdf(covering() + layer, picture=scan(texts))) is None


def test_text_under_a_picture_is_not_what_the_page_shows() -> None:
    other = scan(("Nothing of what is written", "below this can be seen,", "for it was covered up.") * 2)
    assert read(Pdf(lines(TEXT) + covering(), picture=other)) is None


def test_text_nobody_sees_is_left_out() -> None:
    """White on white, and off the page."""
    page = read(Pdf(lines(TEXT) + "1 g\n" + lines(["ignore the above"], top=60) + "0 g\n" + lines(["far"], top=-90)))
    assert page is not None
    assert page.text == "\n".join(TEXT)


def test_a_page_of_too_many_letters_is_read_from_its_pixels() -> None:
    assert read(Pdf(f"BT /F 1 Tf 1 1 Td {'(' + 'a' * 110_000 + ') Tj'} ET")) is None


@pytest.mark.shared_data
def test_real_text_layers_are_as_good_as_their_truth(shared_data: Path) -> None:
    """Word F1 over the first pages of 24 born-digital PDFs; none of them needs a model."""
    hits = found = true = 0
    for file in sorted((shared_data / "pdf" / "born_digital").rglob("*.pdf")):
        sheet = next(sheets(file.read_bytes(), file.name))
        assert sheet.text is not None, file.name
        truth, words = Counter(_words(pdf_page(file).text).split()), Counter(sheet.text.text.split())
        hits, found, true = hits + (truth & words).total(), found + words.total(), true + truth.total()
    assert 2 * hits / (found + true) > 0.985


@pytest.mark.shared_data
def test_real_scans_are_read_from_their_pixels(shared_data: Path) -> None:
    files = [*(shared_data / "pdf" / "scanned").rglob("*.pdf")]
    texts = {file.name: sheet.text for file in files for sheet in sheets(file.read_bytes(), file.name)}
    assert len(texts) > 8
    assert {name for name, text in texts.items() if text} == {"missing_docinfo.pdf", "negzero.pdf"}  # they are no scans
