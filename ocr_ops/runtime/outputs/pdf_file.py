"""PdfFile: objects put together as a PDF, and the glyphless font that invisible text is written in."""

import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable, Sequence

_HALF, _FULL, _NONE = 1, 2, 3
"""Glyphs of the font: as wide as half an em, as an em, and as nothing."""
_WIDTHS = {0: 500, _HALF: 500, _FULL: 1000, _NONE: 0}
ASCENT, DESCENT = 800, -200
"""Of an em of 1000: how far a line's box reaches above and below its baseline."""
_NAME = "/OcrOpsGlyphless"
_KINDS = {"R": "R", "AL": "R", "L": "L", "EN": "L", "AN": "L", "ES": "-", "CS": "-", "ET": "-", "NSM": "'"}
_RIGHTWARD = re.compile("(-*L(?:[L'-]*[L'])?-*)")
"""What is written from left to right amid text of the other way, figures with their marks among it; by kinds."""
_MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
_CHUNK = 100  # ISO 32000-1, 9.10.3: no more entries in one block of a CMap


class PdfFile:
    """Objects are numbered from 1, in the order they are reserved or added."""

    def __init__(self) -> None:
        self._bodies: list[bytes] = []

    def reserve(self) -> int:
        """The number of an object that is set later."""
        self._bodies.append(b"null")
        return len(self._bodies)

    def set(self, number: int, body: str) -> None:
        self._bodies[number - 1] = body.encode("ascii")

    def add(self, body: str) -> int:
        number = self.reserve()
        self.set(number, body)
        return number

    def stream(self, data: bytes, entries: str = "", *, deflate: bool = True) -> int:
        """A stream. `entries` are its dictionary's, but for its length, and its filter if it is deflated here."""
        if deflate:
            data, entries = zlib.compress(data), f"{entries}/Filter/FlateDecode"
        head = f"<<{entries}/Length {len(data)}>>\nstream\n".encode("ascii")
        self._bodies.append(head + data + b"\nendstream")
        return len(self._bodies)

    def finished(self, root: int) -> bytes:
        """The file, whose catalogue is object `root`."""
        # A comment of high bytes tells those who move files that this one is no text.
        parts = [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"]
        size, offsets = len(parts[0]), []
        for number, body in enumerate(self._bodies, 1):
            offsets.append(size)
            parts.append(b"%d 0 obj\n%b\nendobj\n" % (number, body))
            size += len(parts[-1])
        parts.append(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
        parts += [b"%010d 00000 n \n" % offset for offset in offsets]
        parts.append(b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(offsets) + 1, root, size))
        return b"".join(parts)

    def pages(self, pages: Sequence[str]) -> bytes:
        """The file of these pages: the entries of each page's dictionary, without its type and parent."""
        tree = self.reserve()
        kids = [self.add(f"<</Type/Page/Parent {tree} 0 R{entries}>>") for entries in pages]
        self.set(tree, f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(f'{kid} 0 R' for kid in kids)}]>>")
        return self.finished(self.add(f"<</Type/Catalog/Pages {tree} 0 R>>"))


class Glyphless:
    """A font that shows nothing and says everything: each character of `texts` has a code, a width and its Unicode."""

    def __init__(self, texts: Iterable[str]) -> None:
        characters = sorted({" ", *(char for text in texts for char in text)})[:0xFFFF]
        self._codes = {char: code for code, char in enumerate(characters, 1)}

    def encoded(self, text: str) -> str:
        """`text` as the operand of Tj."""
        return f"<{''.join(f'{self._codes.get(char, 0):04X}' for char in text)}>"

    def add_to(self, pdf: PdfFile) -> int:
        """The number of the font's object, added to `pdf` with all it needs."""
        program = _program()
        embedded = pdf.stream(program, f"/Length1 {len(program)}")
        descriptor = pdf.add(
            f"<</Type/FontDescriptor/FontName{_NAME}/Flags 4/FontBBox[0 {DESCENT} 1000 {ASCENT}]/ItalicAngle 0"
            f"/Ascent {ASCENT}/Descent {DESCENT}/CapHeight {ASCENT}/StemV 0/FontFile2 {embedded} 0 R>>"
        )
        glyphs = [0, *map(_glyph, self._codes)]
        mapped = pdf.stream(struct.pack(f">{len(glyphs)}H", *glyphs))
        widths = " ".join(str(_WIDTHS[glyph]) for glyph in glyphs)
        descendant = pdf.add(
            f"<</Type/Font/Subtype/CIDFontType2/BaseFont{_NAME}/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)"
            f"/Supplement 0>>/FontDescriptor {descriptor} 0 R/W[0[{widths}]]/CIDToGIDMap {mapped} 0 R>>"
        )
        rows = [f"<{code:04X}> <{char.encode('utf-16-be').hex().upper()}>" for char, code in self._codes.items()]
        unicode = pdf.stream(to_unicode(rows, "0000", "FFFF"))
        return pdf.add(
            f"<</Type/Font/Subtype/Type0/BaseFont{_NAME}/Encoding/Identity-H/DescendantFonts[{descendant} 0 R]"
            f"/ToUnicode {unicode} 0 R>>"
        )


def to_unicode(rows: Sequence[str], first: str, last: str) -> bytes:
    """A CMap of these rows, of the codes between two: which characters they are."""
    blocks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    return "\n".join(
        [
            "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap",
            "/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def",
            "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def",
            f"1 begincodespacerange\n<{first}> <{last}>\nendcodespacerange",
            *(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks),
            "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend",
        ]
    ).encode("ascii")


def visual(text: str) -> str:
    """A word as its letters stand on paper from left to right, which of Hebrew or Arabic is from the last to the first.

    Readers turn it round again: they take letters as they stand.
    """
    if text.isascii():
        return text
    kinds = "".join(_KINDS.get(unicodedata.bidirectional(char), " ") for char in text)
    if "R" not in kinds:
        return text
    parts, start = [], 0
    for place, run in enumerate(_RIGHTWARD.split(kinds)):
        part = text[start : start + len(run)]
        parts.append(part if place % 2 else part[::-1].translate(_MIRRORED))
        start += len(run)
    return "".join(reversed(parts))


def numbers(*values: float) -> str:
    """As PDF writes them: no exponents, four places after the point."""
    return " ".join(f"{value:.4f}".rstrip("0").rstrip(".") for value in values)


def advance(text: str) -> float:
    """How far the font's pen moves over `text`, in ems."""
    return sum(_WIDTHS[_glyph(char)] for char in text) / 1000


def _glyph(char: str) -> int:
    if unicodedata.combining(char):
        return _NONE
    return _FULL if unicodedata.east_asian_width(char) in "WF" else _HALF


def _program() -> bytes:
    """The font as TrueType. Each glyph is a line without a width: nothing to see, but readers that measure what they
    select find it as large as it ought to be.
    """
    count = len(_WIDTHS)
    box = (0, DESCENT, 1000, ASCENT)
    outlines = [_outline(width) for width in _WIDTHS.values()]
    places = [sum(map(len, outlines[:glyph])) // 2 for glyph in range(count + 1)]
    tables = {
        b"cmap": struct.pack(">4HI", 0, 1, 1, 0, 12) + struct.pack(">3H", 0, 262, 0) + bytes(256),
        b"glyf": b"".join(outlines),
        b"head": struct.pack(
            ">4I2H2Q4h2H3h", 0x00010000, 0x00010000, 0, 0x5F0F3CF5, 3, 1000, 0, 0, *box, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">I3hH11hH", 0x00010000, ASCENT, DESCENT, 0, 1000, 0, 0, 0, 1, *[0] * 7, count),
        b"hmtx": b"".join(struct.pack(">Hh", width, 0) for width in _WIDTHS.values()),
        b"loca": struct.pack(f">{count + 1}H", *places),
        b"maxp": struct.pack(">I14H", 0x00010000, count, 2, 1, 0, 0, 2, *[0] * 8),
        b"name": struct.pack(">3H", 0, 0, 6),
        b"post": struct.pack(">IiHhIIIII", 0x00030000, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    head = struct.pack(">I4H", 0x00010000, len(tables), 128, 3, 16 * len(tables) - 128)
    offset, records, bodies = len(head) + 16 * len(tables), b"", b""
    for tag, table in tables.items():
        padded = table + bytes(-len(table) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        records += struct.pack(">4s3I", tag, total, offset + len(bodies), len(table))
        bodies += padded
    return head + records + bodies


def _outline(width: int) -> bytes:
    """A contour of two points, from the glyph's lower left corner to the upper right one."""
    head = struct.pack(">5hHH2B", 1, 0, DESCENT, width, ASCENT, 1, 0, 1, 1)
    return head + struct.pack(">4h", 0, width, DESCENT, ASCENT - DESCENT)
