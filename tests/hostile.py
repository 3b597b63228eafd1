"""Documents made to harm."""

import io
import socket
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import docx
from docx.opc.constants import RELATIONSHIP_TYPE
from PIL import Image

from tests.pdfs import Pdf, covering, lines

HUGE = 35_000


def saved(picture: Image.Image, form: str) -> bytes:
    data = io.BytesIO()
    picture.save(data, form)
    return data.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(block: bytes, times: int) -> bytes:
    """What unpacks to `block` so many times; packed once, and its check sum told from one block's: moments."""
    work, step = zlib.compressobj(9), zlib.adler32(block)
    head = work.compress(b"") + work.flush(zlib.Z_FULL_FLUSH)
    body = work.compress(block) + work.flush(zlib.Z_FULL_FLUSH)
    low, high = 1, 0
    for _ in range(times):
        high = (high + (step >> 16) + len(block) * (low - 1)) % 65521
        low = (low + (step & 0xFFFF) - 1) % 65521
    return head + body * times + b"\x03\0" + struct.pack(">HH", high, low)


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


def many_pages(count: int) -> bytes:
    kids = " ".join(f"{number} 0 R" for number in range(3, count + 3))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {count}/Kids[{kids}]>>"]
    objects += ["<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>"] * count
    return pdf_of(objects)


def pdf_of(objects: list[str]) -> bytes:
    body = "".join(f"{number} 0 obj\n{content}\nendobj\n" for number, content in enumerate(objects, 1))
    return f"%PDF-1.4\n{body}trailer<</Root 1 0 R>>\n%%EOF\n".encode("latin-1")


PAGE = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>>>"
TREE = ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Count 1/Kids[3 0 R]>>"]
FORM = "<</Type/XObject/Subtype/Form/BBox[0 0 72 72]/Resources<</XObject<</X 5 0 R>>>>/Length 5>>"
FORM += "\nstream\n/X Do\nendstream"


CIRCLES = {
    "form": [*TREE, PAGE, "<</Length 5>>\nstream\n/X Do\nendstream", FORM],
    "tree": [TREE[0], "<</Type/Pages/Count 3/Kids[2 0 R 2 0 R 3 0 R]>>", PAGE, "<<>>", FORM],
    "count": [TREE[0], "<</Type/Pages/Count 2147483647/Kids[3 0 R]>>", PAGE, "<<>>", FORM],
    "negative": [TREE[0], "<</Type/Pages/Count -1/Kids[3 0 R]>>", PAGE, "<<>>", FORM],
    "box": [*TREE, PAGE.replace("[0 0 72 72]", "3 0 R"), "4 0 R", "5 0 R"],
    "contents": [*TREE, PAGE, "[4 0 R 4 0 R]", FORM],
    "length": [*TREE, PAGE, "<</Length 4 0 R>>\nstream\n/X Do\nendstream", FORM],
    "deep": [*TREE, PAGE.replace("[0 0 72 72]", "[" * 60_000), "<<>>", FORM],
    "wide": [*TREE, PAGE.replace("0 0 72 72", "0 0 1e9 1e9"), "<<>>", FORM],
    "thin": [*TREE, PAGE.replace("0 0 72 72", "0 0 1e-9 99999"), "<<>>", FORM],
}
"""Objects of PDFs that lead back to themselves, or into the deep."""


def stream_bomb() -> bytes:
    """A PDF's stream, packed twice: a few kilobytes that make a gigabyte of drawing."""
    twice = zlib.compress(packed(b"0 0 m 9 9 l S " * 75_000, 1000), 9)
    head = pdf_of([*TREE, PAGE]).partition(b"trailer")[0]
    stream = b"4 0 obj\n<</Filter[/FlateDecode/FlateDecode]/Length %d>>\nstream\n%s\nendstream\nendobj\n"
    return head + stream % (len(twice), twice) + b"trailer<</Root 1 0 R>>\n%%EOF\n"


def linked_word(address: str) -> bytes:
    """A Word document with a link to `address`, and a picture that is there."""
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
    return linked.getvalue()


def pdf_that_asks(address: str) -> bytes:
    """A PDF that would open `address`, send a form there, and have its picture from there."""
    entries = (
        f"/AA<</O<</S/URI/URI({address}/open)>>>>"
        f"/Annots[<</Type/Annot/Subtype/Link/Rect[0 0 99 99]/A<</S/SubmitForm/F<</FS/URL/F({address}/form)>>>>>>]"
    )
    pdf = Pdf(covering() + lines(["text"]), entries=entries).data
    action = f"<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.launchURL('{address}/js'))>>"
    pdf = pdf.replace(b"<</Type/Catalog", action.encode())
    return pdf.replace(b"/Filter/DCTDecode", f"/F<</FS/URL/F({address}/stream)>>/FFilter/DCTDecode".encode())


def word_bomb(part: str = "word/media/image1.png", size: int = 130 * 2**20) -> bytes:
    """A Word document with a part that is small, and unpacks to zeros without an end."""
    document, data = docx.Document(), io.BytesIO()
    document.save(data)
    with zipfile.ZipFile(data, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        package.writestr(part, bytes(size))
    return data.getvalue()


def two_in_one() -> dict[str, bytes]:
    """Polyglots: what each is by its first bytes, and what it is besides."""
    picture, pdf, word = saved(Image.new("RGB", (30, 20), "white"), "JPEG"), Pdf(lines(["of two"])).data, io.BytesIO()
    docx.Document().save(word)
    return {
        "jpeg with a pdf": picture[:2] + b"\xff\xfe" + struct.pack(">H", len(pdf) + 2) + pdf + picture[2:],
        "jpeg before a docx": picture + word.getvalue(),
        "pdf before a docx": pdf + word.getvalue(),
    }


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a server that nobody should ask for anything, and what it was asked for."""
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
