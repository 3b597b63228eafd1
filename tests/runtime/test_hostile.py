"""Documents made to harm: each is refused, or read within its limits, and nothing outside is ever asked for."""

from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.decoders import Decoders
from ocr_ops.runtime.documents import LIMITS, Limits, Sheet
from ocr_ops.runtime.sheet import Caps
from tests.hostile import (
    CIRCLES,
    huge_bmp,
    huge_gif,
    huge_jpeg,
    huge_tiff,
    linked_word,
    listening,
    many_pages,
    packed,
    pdf_of,
    pdf_that_asks,
    png_bomb,
    png_chunk,
    saved,
    stream_bomb,
    two_in_one,
)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(Caps(page_cpu_seconds=5, page_seconds=60, memory_bytes=2**30))
    yield made
    made.close()


def opened(decoders: Decoders, data: bytes, pages: str | None = None, limits: Limits = LIMITS) -> list[Sheet]:
    return list(decoders.each_sheet(data, "bad.bin", ReadOptions(pages=pages), limits))


def refused(decoders: Decoders, data: bytes) -> int:
    with pytest.raises(UnreadableDocument) as caught:
        opened(decoders, data)
    return caught.value.http_status


@pytest.mark.parametrize("make", [png_bomb, huge_jpeg, huge_bmp, huge_gif, huge_tiff])
def test_pictures_of_35_000_pixels_a_side_are_refused(decoders: Decoders, make: Callable[[], bytes]) -> None:
    assert refused(decoders, make()) == 413


def test_a_bomb_in_a_pictures_margin_does_not_go_off(decoders: Decoders) -> None:
    """A comment, or a colour profile, that is unpacked to much more than the picture."""
    bomb = packed(bytes(2**20), 400)
    for kind, head in ((b"zTXt", b"comment\0\0"), (b"iCCP", b"profile\0\0")):
        picture = saved(Image.new("RGB", (16, 16)), "PNG")
        data = picture[:33] + png_chunk(kind, head + bomb) + picture[33:]
        try:
            assert len(opened(decoders, data)) == 1
        except UnreadableDocument as error:
            assert error.http_status in {413, 422}  # noqa: PT017  either will do


def test_ten_thousand_pages_are_refused_unless_few_are_wanted(decoders: Decoders) -> None:
    data = many_pages(10_000)
    assert refused(decoders, data) == 413
    (sheet,) = opened(decoders, data, "9999")
    assert (sheet.number, sheet.count) == (9999, 1)


@pytest.mark.parametrize(
    "objects",
    CIRCLES.values(),
    ids=CIRCLES,
)
def test_pdfs_that_turn_in_circles_come_to_an_end(decoders: Decoders, objects: list[str]) -> None:
    try:
        found = opened(decoders, pdf_of(objects))
    except UnreadableDocument:
        return
    assert all(sheet.image is None or sheet.image.size <= 3 * LIMITS.max_pixels for sheet in found)


def test_a_bomb_in_a_pdfs_stream_does_not_go_off(decoders: Decoders) -> None:
    """Packed twice: a few kilobytes that make a gigabyte of drawing."""
    try:
        assert len(opened(decoders, stream_bomb())) == 1
    except UnreadableDocument as error:
        assert error.http_status in {413, 422}  # noqa: PT017  either will do


def test_a_document_is_what_its_first_bytes_say(decoders: Decoders) -> None:
    """One reading of a file that is two."""
    found = {name: opened(decoders, data) for name, data in two_in_one().items()}
    assert all(len(sheets) == 1 for sheets in found.values())
    image = found["jpeg with a pdf"][0].image
    assert image is not None
    assert image.shape == (20, 30, 3)
    assert found["jpeg before a docx"][0].image is not None
    text = found["pdf before a docx"][0].text
    assert text is not None
    assert text.text == "of two"


def test_nothing_is_ever_fetched(decoders: Decoders) -> None:
    """Not a linked picture, a template, a stream kept elsewhere, nor what is to be opened or sent on opening."""
    with listening() as (address, questions):
        assert [sheet.image for sheet in opened(decoders, linked_word(address))] == [None]
        assert len(opened(decoders, pdf_that_asks(address))) == 1
    assert not questions
