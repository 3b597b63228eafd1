import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageChops

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.documents import LIMITS, Limits, page_images, sheets

RED, GREEN, BLUE, WHITE = (200, 0, 0), (0, 200, 0), (0, 0, 200), (250, 250, 250)


def picture(width: int = 40, height: int = 24) -> Image.Image:
    """Four coloured quarters: red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:], pixels[top:, :left], pixels[top:, left:] = RED, GREEN, BLUE, WHITE
    return Image.fromarray(pixels)


def save(image: Image.Image, form: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def pdf(*sizes: tuple[int, int]) -> bytes:
    document, data = pypdfium2.PdfDocument.new(), io.BytesIO()
    for size in sizes:
        document.new_page(*size)
    document.save(data)
    document.close()
    return data.getvalue()


def only(data: bytes) -> NDArray[np.uint8]:
    (page,) = page_images(data, "document")
    return page


def status(data: bytes, limits: Limits = LIMITS) -> int:
    with pytest.raises(UnreadableDocument) as caught:
        list(page_images(data, "document", limits))
    assert "\n" not in str(caught.value)
    return caught.value.http_status


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"])
def test_images_are_known_by_their_bytes(form: str) -> None:
    """Whatever their name says."""
    page = only(save(picture(), form, **({"quality": 95, "subsampling": 0} if form == "JPEG" else {})))
    assert page.shape == (24, 40, 3)
    assert page.dtype == np.uint8
    assert np.abs(page[4, 4].astype(int) - RED).max() < 30
    assert np.abs(page[20, 4].astype(int) - BLUE).max() < 30


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_eight_bit_rgb(mode: str) -> None:
    """Half black, half white: both stay what they are."""
    grey = np.zeros((8, 8), np.uint8)
    grey[:, 4:] = 255
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    page = only(save(image, "TIFF" if mode in ("CMYK", "F", "I") else "PNG"))
    assert page[:, 0].max() <= 5
    assert page[:, -1].min() >= 250


def grey_tiff(values: NDArray[np.uint16], white: int, *, white_is_zero: bool) -> bytes:
    """An uncompressed TIFF of 16 bits, written by hand: Pillow would not write some."""
    height, width = values.shape
    fields = ((256, width), (257, height), (258, 16), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (277, 1))
    fields += ((278, height), (279, values.nbytes))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    pixels = (white - values if white_is_zero else values).astype("<u2").tobytes()
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(fields)) + entries + bytes(4)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_grey_levels_of_any_depth_keep_their_range(bits: int, *, white_is_zero: bool) -> None:
    """Scanners write 10 and 12 bits into 16, where white would be nearly black."""
    values = np.zeros((8, 8), np.uint16)
    values[:, 4:] = 2**bits - 1
    page = only(grey_tiff(values, 2**bits - 1, white_is_zero=white_is_zero))
    assert page[:, 0].max() <= 5
    assert page[:, -1].min() >= 250


@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("adobe", [True, False])
def test_inks_count_from_paper(*, backwards: bool, adobe: bool) -> None:
    """Adobe's CMYK counts backwards, that of others either way: paper is light."""
    page = Image.new("RGB", (64, 64), "white")
    page.paste((0, 0, 0), (8, 8, 24, 24))
    inks = page.convert("CMYK")
    data = save(inks if backwards else ImageChops.invert(inks), "JPEG", quality=95)
    if not adobe:
        start = data.index(b"\xff\xee")
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) :]
    found = only(data)
    if backwards or not adobe:
        assert found[40, 40].min() > 240
        assert found[16, 16].max() < 20


def test_a_fax_has_square_pixels() -> None:
    """Those sent coarsely are twice as high as wide."""
    data = save(picture(200, 50).convert("1"), "TIFF", compression="group4", dpi=(204, 98))
    assert only(data).shape == (104, 200, 3)
    assert status(data, Limits(max_pixels=15_000)) == 413


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_fax_that_is_turned_has_square_pixels(orientation: int) -> None:
    """Its densities are those of its rows and columns as they are stored, however they are to be shown."""
    fax = picture(200, 50).convert("1")
    data = save(fax, "TIFF", compression="group4", dpi=(204, 98), tiffinfo={0x0112: orientation})
    assert only(data).shape == ((104, 200, 3) if orientation < 5 else (200, 104, 3))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_paper_is_white(mode: str) -> None:
    """Not black, which is what lies under most transparent pixels."""
    image = Image.new("RGBA", (6, 6), (0, 0, 0, 0)).convert(mode) if mode != "P" else Image.new("P", (6, 6), 0)
    options = {"transparency": 0} if mode == "P" else {}
    assert only(save(image, "PNG", **options)).min() == 255


@pytest.mark.parametrize(
    ("form", "modes"),
    [
        ("JPEG", "L RGB CMYK"),
        ("PNG", "1 L LA P RGB RGBA I;16"),
        ("TIFF", "1 L LA P RGB RGBA CMYK LAB I;16"),
        ("WEBP", "L RGB RGBA"),
        ("BMP", "1 L P RGB"),
        ("GIF", "1 L P RGB"),
        ("PDF", "1 L P RGB CMYK"),
    ],
)
def test_pages_come_in_grey_where_no_colours_are_wanted(form: str, modes: str) -> None:
    """As their colours would be made grey, but for a level: each way of doing so rounds."""
    for mode in modes.split():
        image = picture().convert("L").convert(mode) if mode == "I;16" else picture().convert(mode)
        data = save(image, form)
        (sheet,) = sheets(data, "document", grey=True)
        assert sheet.image is not None
        apart = np.abs(cv2.cvtColor(only(data), cv2.COLOR_RGB2GRAY).astype(int) - sheet.image)
        # A JPEG may hold colours brighter than any, which are cut off only where they are decoded.
        assert apart.mean() < 1 if form == "JPEG" else apart.max() <= 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, RED), (2, GREEN), (3, WHITE), (4, BLUE), (5, RED), (6, BLUE), (7, WHITE), (8, GREEN)],
)
def test_pages_stand_upright(form: str, orientation: int, corner: tuple[int, int, int]) -> None:
    """The EXIF orientation is applied, once."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    page = only(save(picture(), form, exif=exif))
    assert page.shape[:2] == ((24, 40) if orientation < 5 else (40, 24))
    assert np.abs(page[3, 3].astype(int) - corner).max() < 40


def test_a_tiff_gives_all_its_pages() -> None:
    """In order, each with its own size."""
    pages = [picture(10 + i, 20) for i in range(4)]
    data = save(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert [page.shape[1] for page in page_images(data, "many.tif")] == [10, 11, 12, 13]
    assert status(data, Limits(max_pages=3)) == 413


def test_a_pdf_is_rendered_at_its_resolution() -> None:
    """200 dots an inch, fewer when the page would be too large."""
    data = pdf((72, 144), (144, 72))
    assert [page.shape for page in page_images(data, "a.pdf")] == [(400, 200, 3), (200, 400, 3)]
    (small, _) = page_images(data, "a.pdf", Limits(max_pixels=10_000))
    assert 9_000 < small.shape[0] * small.shape[1] <= 10_000
    assert status(data, Limits(max_pages=1)) == 413


@pytest.mark.parametrize(
    ("pages", "numbers"),
    [(None, [1, 2, 3, 4, 5]), ("2", [2]), ("4-9", [4, 5]), ("3,1-2,2", [1, 2, 3]), ("5,99999", [5])],
)
@pytest.mark.parametrize("form", ["PDF", "TIFF"])
def test_only_wanted_pages_are_opened(form: str, pages: str | None, numbers: list[int]) -> None:
    """Each tells its number and how many there will be; those beyond the end are left out."""
    pictures = [picture(10 + i, 20) for i in range(5)]
    data = save(pictures[0], form, save_all=True, append_images=pictures[1:])
    found = list(sheets(data, "many", ReadOptions(pages=pages), Limits(max_pages=5)))
    assert [sheet.number for sheet in found] == numbers
    assert {sheet.count for sheet in found} == {len(numbers)}
    assert all(sheet.image is not None for sheet in found)


@pytest.mark.parametrize(("pages", "expected"), [("6", 422), ("1-4", 413), (None, 413)])
@pytest.mark.parametrize("form", ["PDF", "TIFF"])
def test_pages_that_cannot_be_had(form: str, pages: str | None, expected: int) -> None:
    """None of those asked for is there, or more are asked for than one document may have."""
    pictures = [picture()] * 5
    data = save(pictures[0], form, save_all=True, append_images=pictures[1:])
    with pytest.raises(UnreadableDocument) as caught:
        list(sheets(data, "many", ReadOptions(pages=pages), Limits(max_pages=3)))
    assert caught.value.http_status == expected


def test_pdfs_are_rendered_one_at_a_time() -> None:
    """PDFium is not thread-safe; threads, and generators left half-way, must not harm."""
    data = pdf(*[(100, 100)] * 4)

    def work(index: int) -> int:
        pages = page_images(data, "a.pdf")
        if index % 3 == 0:
            next(pages)
            return 4  # dropped half-way
        return sum(1 for _ in pages)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(60))) == [4] * 60


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 422),
        (b"hello", 415),
        (b"PK\x03\x04" + bytes(100), 422),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"%PDF-1.7\n", 422),
        (b"\x89PNG\r\n\x1a\n", 422),
        (b"\xff\xd8\xff", 422),
        (b"II*\0", 422),
        (b"RIFF\0\0\0\0WEBP", 422),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, expected: int) -> None:
    """Unknown types with 415, broken ones with 422."""
    assert status(data) == expected


def test_limits_hold_before_anything_is_decoded() -> None:
    """Bytes at once, pixels from the header: a bomb never goes off."""
    with pytest.raises(UnreadableDocument):
        page_images(bytes(11), "large.bin", Limits(max_bytes=10))
    assert status(save(picture(), "PNG"), Limits(max_pixels=100)) == 413
    png = save(picture(), "PNG")
    for side in (8_000, 12_000, 50_000):
        header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
        bomb = png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]
        assert status(bomb) == 413


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "PDF"])
def test_half_a_document_is_an_error(form: str) -> None:
    """Not half a page."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = save(noise, form)
    assert only(data).shape[2] == 3
    # PDFium mends a lost end as best it can; without the first objects there is nothing to mend.
    assert status(data[:200] if form == "PDF" else data[: len(data) // 2]) == 422


SEEDS = [save(picture(), form) for form in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PDF")]


@settings(max_examples=150)
@given(st.data())
def test_damage_never_shows_as_anything_but_unreadable(data: st.DataObject) -> None:
    """Cut, overwritten and random bytes give pages or the one error."""
    document = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(0, 6))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(document)))
    document = document[:cut] + data.draw(st.binary(max_size=20))
    try:
        pages = list(page_images(bytes(document), "damaged", Limits(max_pixels=1_000_000)))
    except UnreadableDocument:
        return
    assert all(page.ndim == 3 and page.shape[2] == 3 for page in pages)


@pytest.mark.shared_data
def test_malformed_and_locked_files_are_named_as_such(shared_data: Path) -> None:
    """Real corrupt, fuzzed, empty and password-protected PDFs."""
    files = sorted((shared_data / "pdf" / "malformed_or_locked").glob("*.pdf"))
    assert files
    assert {status(file.read_bytes()) for file in files} == {422}
    with pytest.raises(UnreadableDocument, match="locked with a password") as refused:
        page_images((files[-1]).read_bytes(), files[-1].name).__next__()
    assert refused.value.remedy == "save it without its password"


@pytest.mark.shared_data
@pytest.mark.parametrize("folder", ["pdf/scanned", "pdf/born_digital", "pdf/invoices", "tesseract-test"])
def test_real_documents_open(shared_data: Path, folder: str) -> None:
    """Scans, palettes, odd page boxes, forms: each has a first page with something on it."""
    suffixes = {".pdf", ".png", ".tif"}
    files = [file for file in sorted((shared_data / folder).rglob("*")) if file.suffix in suffixes]
    assert files
    for file in files:
        page = next(iter(page_images(file.read_bytes(), file.name)))
        assert min(page.shape[:2]) > 100
