"""PDFs in a few bytes: text, text as it should not be, scans."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, slots=True)
class Pdf:
    """One page with a font `/F`, and `/I` when it has a picture."""

    content: str
    """Operators, in ASCII."""
    size: tuple[int, int] = (400, 300)
    picture: Image.Image | None = None
    unicode: Mapping[str, str] | None = None
    """What the font says its characters are; of all others, nothing."""
    entries: str = ""
    """More of the page's dictionary."""
    notes: Sequence[tuple[tuple[int, int, int, int], str, str]] = ()
    """Annotations, fields of a form among them: where each is, its entries, and the operators of its look."""

    @property
    def data(self) -> bytes:
        font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding%s>>"
        font %= b"/ToUnicode 6 0 R" if self.unicode is not None else b""
        notes = [f"{number} 0 R" for number in range(8, 8 + 2 * len(self.notes), 2)]
        page = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {self.size[0]} {self.size[1]}]/Contents 4 0 R{self.entries}"
            f"/Annots[{' '.join(notes)}]/Resources<</Font<</F 5 0 R>>/XObject<</I 7 0 R>>>>>>"
        )
        objects = [
            f"<</Type/Catalog/Pages 2 0 R{self._form(notes)}>>".encode("ascii"),
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            page.encode("ascii"),
            _stream("", self.content.encode("ascii")),
            font,
            _stream("", _mapping(self.unicode or {})),
            _image(self.picture or Image.new("L", (1, 1))),
            *(part for number, note in enumerate(self.notes) for part in _note(9 + 2 * number, *note)),
        ]
        body = b"".join(b"%d 0 obj\n%s\nendobj\n" % item for item in enumerate(objects, 1))
        return b"%PDF-1.4\n" + body + b"trailer<</Root 1 0 R>>\n%%EOF\n"

    def _form(self, notes: Sequence[str]) -> str:
        fields = " ".join(note for note, (_, entries, _) in zip(notes, self.notes, strict=True) if "/FT" in entries)
        return f"/AcroForm<</Fields[{fields}]/DA(/F 11 Tf 0 g)/DR<</Font<</F 5 0 R>>>>>>" if fields else ""


def lines(
    texts: Sequence[str], *, left: float = 40, top: float = 260, size: float = 11, mode: int = 0, pitch: float = 1.5
) -> str:
    """Lines of text, one under the other. Mode 3 is text that is there and not painted."""
    shown = (
        f"BT /F {size} Tf {mode} Tr {left} {top - i * pitch * size:.1f} Td ({text}) Tj ET\n"
        for i, text in enumerate(texts)
    )
    return "".join(shown)


def covering(size: tuple[int, int] = (400, 300)) -> str:
    """The picture over the whole page."""
    return f"q {size[0]} 0 0 {size[1]} 0 0 cm /I Do Q\n"


def _stream(entries: str, data: bytes) -> bytes:
    return f"<</Length {len(data)}{entries}>>\nstream\n".encode("ascii") + data + b"\nendstream"


def _note(look: int, sides: tuple[int, int, int, int], entries: str, shown: str) -> Iterator[bytes]:
    """An annotation, and its look, which is object `look`."""
    left, lower, right, upper = sides
    box = f"/BBox[0 0 {right - left} {upper - lower}]/Resources<</Font<</F 5 0 R>>>>"
    rect = f"/Rect[{left} {lower} {right} {upper}]"
    yield f"<</Type/Annot{entries}{rect}/F 4/P 3 0 R/AP<</N {look} 0 R>>>>".encode("ascii")
    yield _stream(f"/Type/XObject/Subtype/Form{box}", shown.encode("ascii"))


def _image(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.convert("RGB").save(data, "JPEG", quality=90)
    entries = (
        f"/Type/XObject/Subtype/Image/Width {picture.width}/Height {picture.height}"
        "/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"
    )
    return _stream(entries, data.getvalue())


def _mapping(characters: Mapping[str, str]) -> bytes:
    rows = "".join(f"<{ord(char):02X}> <{value.encode('utf-16-be').hex()}>\n" for char, value in characters.items())
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        "1 begincodespacerange <00> <FF> endcodespacerange\n"
        f"{len(characters)} beginbfchar\n{rows}endbfchar\nendcmap CMapName currentdict /CMap defineresource pop end end"
    ).encode("ascii")
