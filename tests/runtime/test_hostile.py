"""Documents made to harm: each is refused, or read within its limits, and nothing outside is ever asked for."""

import io
import socket
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator

import docx
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.runtime.decoders import Decoders
from ocr_ops.runtime.decoding import Caps
from ocr_ops.runtime.documents import LIMITS, Limits, Sheet
from tests.pdfs import Pdf, covering, lines

HUGE = 35_000


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


def saved(picture: Image.Image, form: str) -> bytes:
    data = io.BytesIO()
    picture.save(data, form)
    return data.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(block: bytes, times: int) -> bytes:
    """What unpacks to `block` so many times; packed once, which is a matter of moments."""
    work, check = zlib.compressobj(9), 1
    head = work.compress(b"") + work.flush(zlib.Z_FULL_FLUSH)
    body = work.compress(block) + work.flush(zlib.Z_FULL_FLUSH)
    for _ in range(times):
        check = zlib.adler32(block, check)
    return head + body * times + b"\x03\0" + struct.pack(">I", check)


def png_bomb() -> bytes:
    """All of its 1.2 thousand million pixels, in one megabyte."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", HUGE, HUGE, 8, 0, 0, 0, 0))
    rows = packed(bytes((HUGE + 1) * 100), HUGE // 100)
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def huge_jpeg() -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", HUGE, HUGE)
    return bytes(data)


def huge_bmp() -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "BMP"))
    data[18:26] = struct.pack("<ii", HUGE, HUGE)
    return bytes(data)


def huge_gif() -> bytes:
    data = bytearray(saved(Image.new("P", (16, 16)), "GIF"))
    data[6:10] = struct.pack("<HH", HUGE, HUGE)
    return bytes(data)


def huge_tiff() -> bytes:
    fields = ((256, HUGE), (257, HUGE), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, HUGE), (279, 100))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(fields)) + entries + bytes(104)


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


def many_pages(count: int) -> bytes:
    kids = " ".join(f"{number} 0 R" for number in range(3, count + 3))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {count}/Kids[{kids}]>>"]
    objects += ["<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>"] * count
    return pdf_of(objects)


def pdf_of(objects: list[str]) -> bytes:
    body = "".join(f"{number} 0 obj\n{content}\nendobj\n" for number, content in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}trailer<</Root 1 0 R>>\n%%EOF\n".encode("latin-1")


def test_ten_thousand_pages_are_refused_unless_few_are_wanted(decoders: Decoders) -> None:
    data = many_pages(10_000)
    assert refused(decoders, data) == 413
    (sheet,) = opened(decoders, data, "9999")
    assert (sheet.number, sheet.count) == (9999, 1)


PAGE = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>"
TREE = ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Count 1/Kids[3 0 R]>>"]
FORM = "<</Type/XObject/Subtype/Form/BBox[0 0 72 72]/Resources<</XObject<</X 5 0 R>>>>/Length 5>>"
FORM += "\nstream\n/X Do\nendstream"


@pytest.mark.parametrize(
    "objects",
    [
        [*TREE, PAGE, "<</Length 5>>\nstream\n/X Do\nendstream", FORM],
        [TREE[0], "<</Type/Pages/Count 3/Kids[2 0 R 2 0 R 3 0 R]>>", PAGE, "<<>>", FORM],
        [TREE[0], "<</Type/Pages/Count 2147483647/Kids[3 0 R]>>", PAGE, "<<>>", FORM],
        [TREE[0], "<</Type/Pages/Count -1/Kids[3 0 R]>>", PAGE, "<<>>", FORM],
        [*TREE, PAGE.replace("[0 0 72 72]", "3 0 R"), "4 0 R", "5 0 R"],
        [*TREE, PAGE, "[4 0 R 4 0 R]", FORM],
        [*TREE, PAGE, "<</Length 4 0 R>>\nstream\n/X Do\nendstream", FORM],
        [*TREE, PAGE.replace("[0 0 72 72]", "[" * 60_000), "<<>>", FORM],
        [*TREE, PAGE.replace("0 0 72 72", "0 0 1e9 1e9"), "<<>>", FORM],
        [*TREE, PAGE.replace("0 0 72 72", "0 0 1e-9 99999"), "<<>>", FORM],
    ],
    ids=["form", "tree", "count", "negative", "box", "contents", "length", "deep", "wide", "thin"],
)
def test_pdfs_that_turn_in_circles_come_to_an_end(decoders: Decoders, objects: list[str]) -> None:
    try:
        found = opened(decoders, pdf_of(objects))
    except UnreadableDocument:
        return
    assert all(sheet.image is None or sheet.image.size <= 3 * LIMITS.max_pixels for sheet in found)


def test_a_bomb_in_a_pdfs_stream_does_not_go_off(decoders: Decoders) -> None:
    """Packed twice: a few kilobytes that make a gigabyte of drawing."""
    twice = zlib.compress(packed(b"0 0 m 9 9 l S " * 75_000, 1000), 9)
    head = pdf_of([*TREE, PAGE]).partition(b"trailer")[0]
    stream = b"4 0 obj\n<</Filter[/FlateDecode/FlateDecode]/Length %d>>\nstream\n%s\nendstream\nendobj\n"
    data = head + stream % (len(twice), twice) + b"trailer<</Root 1 0 R>>\n%%EOF\n"
    try:
        assert len(opened(decoders, data)) == 1
    except UnreadableDocument as error:
        assert error.http_status in {413, 422}  # noqa: PT017  either will do


def test_a_document_is_what_its_first_bytes_say(decoders: Decoders) -> None:
    """One reading of a file that is two."""
    picture = saved(Image.new("RGB", (30, 20), "white"), "JPEG")
    pdf = Pdf(lines(["Written in the PDF of the two"])).data
    word = io.BytesIO()
    docx.Document().save(word)
    comment = picture[:2] + b"\xff\xfe" + struct.pack(">H", len(pdf) + 2) + pdf + picture[2:]
    (sheet,) = opened(decoders, comment)
    assert sheet.image is not None
    assert sheet.image.shape == (20, 30, 3)
    (sheet,) = opened(decoders, picture + word.getvalue())
    assert sheet.image is not None
    (sheet,) = opened(decoders, pdf + word.getvalue())
    assert sheet.text is not None
    assert sheet.text.text == "Written in the PDF of the two"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[bytes]]]:
    """A server that nobody should ask for anything, and what it was asked for."""
    questions: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    questions.append(client.recv(1000))

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", questions
        server.shutdown(socket.SHUT_RDWR)


def test_nothing_is_ever_fetched(decoders: Decoders, asked: tuple[str, list[bytes]]) -> None:
    """Not a linked picture, a template, a stream kept elsewhere, nor what is to be opened or sent on opening."""
    address, questions = asked
    document, data = docx.Document(), io.BytesIO()
    document.add_paragraph("text")
    for kind in (RELATIONSHIP_TYPE.HYPERLINK, RELATIONSHIP_TYPE.IMAGE):
        link = document.part.relate_to(f"{address}/{kind[-5:]}", kind, is_external=True)
    document.add_picture(io.BytesIO(saved(Image.new("RGB", (200, 200)), "PNG")))
    document.save(data)
    linked = io.BytesIO()
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(linked, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'r:embed="', f'r:embed="{link}" r:link="'.encode()))
    assert [sheet.image for sheet in opened(decoders, linked.getvalue())] == [None]

    entries = (
        f"/AA<</O<</S/URI/URI({address}/open)>>>>"
        f"/Annots[<</Type/Annot/Subtype/Link/Rect[0 0 99 99]/A<</S/SubmitForm/F<</FS/URL/F({address}/form)>>>>>>]"
    )
    pdf = Pdf(covering() + lines(["text"]), entries=entries).data
    action = f"<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.launchURL('{address}/js'))>>"
    pdf = pdf.replace(b"<</Type/Catalog", action.encode())
    pdf = pdf.replace(b"/Filter/DCTDecode", f"/F<</FS/URL/F({address}/stream)>>/FFilter/DCTDecode".encode())
    assert len(opened(decoders, pdf)) == 1
    assert not questions
