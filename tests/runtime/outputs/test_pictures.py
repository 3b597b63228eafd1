"""Images in a PDF: their own bytes where that can be, their very pixels in any case."""

import io
from pathlib import Path

import numpy as np
import pypdfium2
import pypdfium2.raw
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.outputs.pdf import searchable_pdf
from tests.runtime.outputs.readings import page_of

ALL = ReadOptions()


def picture(width: int = 90, height: int = 60) -> Image.Image:
    """Four unlike quarters, and some grain."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 200, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 200)
    grain = np.random.default_rng(3).integers(0, 20, pixels.shape, np.uint8)
    return Image.fromarray(pixels + grain)


def saved(image: Image.Image, form: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def made(document: bytes, name: str = "a", options: ReadOptions = ALL, count: int = 1) -> bytes:
    return searchable_pdf(Reading(pages=(page_of("text"),) * count), name, document, options)


def shown(data: bytes) -> list[NDArray[np.uint8]]:
    """What each page shows, uint8 (H, W, 3) RGB, a pixel for each of the picture."""
    with pypdfium2.PdfDocument(data) as pdf:
        scales = [max(image.get_px_size()) / max(page.get_size()) for page, image in zip(pdf, images(pdf), strict=True)]
        found = [page.render(scale=scale, rev_byteorder=True) for page, scale in zip(pdf, scales, strict=True)]
        return [np.array(bitmap.to_numpy()) for bitmap in found]


def stored(data: bytes) -> list[NDArray[np.uint8]]:
    """The pixels of each page's picture, uint8 (H, W, 3) RGB, as they are in the file."""
    with pypdfium2.PdfDocument(data) as pdf:
        return [np.array(image.get_bitmap().to_pil().convert("RGB")) for image in images(pdf)]


def images(pdf: pypdfium2.PdfDocument) -> list[pypdfium2.PdfImage]:
    return [next(page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])) for page in pdf]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_turned_pictures_are_upright_in_their_own_bytes(form: str, orientation: int) -> None:
    """All eight ways EXIF knows; the page shows what the reading's polygons stand on."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    document = saved(picture(), form, exif=exif, dpi=(144, 144), **settings)
    data = made(document)
    if form == "JPEG":
        assert document in data
    (page,) = shown(data)
    (upright,) = page_images(document, "a")
    assert page.shape == upright.shape
    assert np.abs(page.astype(int) - upright).mean() < 6
    with pypdfium2.PdfDocument(data) as pdf:
        assert pdf[0].get_size() == pytest.approx((45, 30) if orientation < 5 else (30, 45), rel=1e-3)


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("1", {}),
        ("L", {}),
        ("P", {}),
        ("P", {"bits": 4}),
        ("RGB", {}),
        ("I;16", {}),
        ("LA", {}),
        ("RGBA", {}),
        ("P", {"transparency": 0}),
    ],
)
def test_pngs_keep_their_pixels(mode: str, settings: dict[str, int]) -> None:
    """Of one bit, of a palette, of 16 bits; those with transparency on white."""
    image = picture()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    elif mode == "P":
        image = image.quantize(2 ** settings.get("bits", 8))
    else:
        image = image.convert(mode)
    document = saved(image, "PNG", **settings)
    (page,) = stored(made(document))
    (expected,) = page_images(document, "a")
    assert np.abs(page.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpegs_are_taken_as_they_are(mode: str) -> None:
    """Greys and the inverted inks of CMYK as well; progressive or not."""
    document = saved(picture().convert(mode), "JPEG", quality=95, progressive=True)
    data = made(document)
    assert document in data
    (page,) = shown(data)
    (expected,) = page_images(document, "a")
    # Each program has its own way from inks to light; upside-down inks would be twice as far off.
    assert np.abs(page.astype(int) - expected).mean() < (50 if mode == "CMYK" else 5)


def test_inks_that_count_nobody_knows_which_way_are_coded_as_they_were_read() -> None:
    """CMYK without Adobe's mark, which alone says that its inks are inverted."""
    document = saved(picture().convert("CMYK"), "JPEG", quality=95)
    at = document.index(b"\xff\xee\x00\x0eAdobe")
    unmarked = document[:at] + document[at + 16 :]
    (page,) = stored(made(unmarked))
    (expected,) = page_images(unmarked, "a")
    assert np.array_equal(page, expected)


@pytest.mark.parametrize("form", ["BMP", "GIF", "WEBP", "TIFF"])
def test_others_are_coded_without_loss(form: str) -> None:
    """Pixel for pixel what was read."""
    document = saved(picture(), form)
    (page,) = stored(made(document))
    (expected,) = page_images(document, "a")
    assert np.array_equal(page, expected)


@pytest.mark.parametrize("down", [196, 98])
def test_pages_of_a_fax_have_its_two_densities(down: int) -> None:
    """204 dots an inch across, 196 or 98 down; and only those pages that were read."""
    fax = picture(204, down).convert("1")
    buffer = io.BytesIO()
    fax.save(buffer, "TIFF", compression="group4", dpi=(204, down), save_all=True, append_images=[fax] * 4)
    data = made(buffer.getvalue(), options=ReadOptions(pages="2-3,5"), count=3)
    with pypdfium2.PdfDocument(data) as pdf:
        assert [page.get_size() for page in pdf] == [(72, 72)] * 3
    # Coarse ones are read with their pixels made square, which takes greys.
    assert (b"/BitsPerComponent 1/" in data) == (down == 196)


def test_each_page_of_a_tiff_has_its_own_size() -> None:
    """By its own density, and turned by its own orientation."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, new=True) as file:
        for dpi, orientation in (((200, 200), 1), ((100, 100), 1), ((200, 100), 1), ((200, 100), 6), ((100, 200), 8)):
            picture(400, 200).save(file, "TIFF", dpi=dpi, tiffinfo={0x0112: orientation})
            file.newFrame()
    sizes = [(144, 72), (288, 144), (144, 144), (144, 144), (72, 288)]
    for pages, expected in (("1-5", sizes), ("2", sizes[1:2]), ("1,4-5", [sizes[0], *sizes[3:]])):
        data = made(buffer.getvalue(), options=ReadOptions(pages=pages), count=len(expected))
        with pypdfium2.PdfDocument(data) as pdf:
            assert [page.get_size() for page in pdf] == expected


@pytest.mark.parametrize("dpi", [(0, 0), (1, 1), (1e9, 1e9)])
def test_densities_nobody_can_believe_are_not(dpi: tuple[float, float]) -> None:
    """The page is as large as one rendered at the usual density would be."""
    document = saved(picture(400, 200), "TIFF", dpi=dpi)
    with pypdfium2.PdfDocument(made(document)) as pdf:
        assert pdf[0].get_size() == (144, 72)


def test_a_page_is_never_larger_than_pdf_allows() -> None:
    """A strip of 60,000 pixels at 50 dots an inch is shrunk."""
    document = saved(Image.new("L", (60_000, 10), 255), "PNG", dpi=(50, 50))
    reading = Reading(pages=(Page(width=60_000, height=10, lines=()),))
    with pypdfium2.PdfDocument(searchable_pdf(reading, "a", document, ALL)) as pdf:
        assert max(pdf[0].get_size()) <= 14_400


@pytest.mark.shared_data
def test_real_scans_are_taken_as_they_are(shared_data: Path) -> None:
    """Receipts as JPEG, faxes and photographs of text as TIFF and PNG."""
    for path in sorted((shared_data / "sroie" / "img").glob("*.jpg"))[:5]:
        document = path.read_bytes()
        assert document in made(document, path.name)
    for path in sorted((shared_data / "tesseract-test").glob("*.tif")):
        document = path.read_bytes()
        (page,) = stored(made(document, path.name))
        (expected,) = page_images(document, path.name)
        assert np.array_equal(page, expected), path
