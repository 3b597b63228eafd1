"""The package that a Word document is: vetted before anything in it is parsed, and made such as python-docx takes."""

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial

import docx
from docx.document import Document
from docx.opc.oxml import serialize_part_xml
from docx.opc.packuri import PackURI
from docx.oxml import parse_xml

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.runtime.sheet import broken, guard, locked, too_large

MAX_PARTS = 4096
MAX_UNPACKED = 128 * 2**20
"""Bytes of all parts."""
MAX_XML = 48 * 2**20
"""Bytes of all parts that are parsed."""
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_TYPES = "[Content_Types].xml"
_DOCUMENT = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
_DOCTYPES = tuple(
    mark.encode(code) for mark in ("<!DOCTYPE", "<!ENTITY") for code in ("utf-8", "utf-16-le", "utf-16-be")
)
_MACROS = b"vnd.ms-office.vbaProject"
_OTHERS = {
    _MACROS: "a Word document with macros",
    b"word.document.macroEnabled": "a Word document with macros",
    b"wordprocessingml.template": "a Word template",
    b"spreadsheetml": "a spreadsheet",
    b"presentationml": "a presentation",
}
_STRICT = re.compile(rb"""(?<=["'])http://purl\.oclc\.org/ooxml/(\w+)/""")
_USUAL = rb"http://schemas.openxmlformats.org/\1/2006/"
"""How the strict form of ISO 29500 names what is in a document, and how everybody else does."""


def is_word(data: bytes) -> bool:
    """Whether these bytes are for this module to open, or to refuse by their name."""
    return data.startswith((_ZIP, _OLE))


def word_document(data: bytes, name: str) -> Document:
    """The document in a package that is sound; else `UnreadableDocument` as of `documents.sheets`."""
    _vet(data, name)
    return guard(name, lambda: docx.Document(io.BytesIO(_mended(data))))


def _vet(data: bytes, name: str) -> None:
    """Refuses what is no Word document, and one that could be a bomb; unpacks every part, a little at a time."""
    if data.startswith(_OLE):
        raise locked(name) if _ENCRYPTED in data else _not_word(name, "an old Office file")
    with guard(name, lambda: zipfile.ZipFile(io.BytesIO(data))) as package:
        parts = package.infolist()
        _vet_list(parts, name)
        for part in parts:
            text = guard(name, partial(_unpacked, package, part, keep=_is_xml(part)))
            if any(mark in text for mark in _DOCTYPES):
                raise broken(name, f"{part.filename} with a document type of its own")
            if part.filename == _TYPES and (_DOCUMENT not in text or _MACROS in text):
                found = next((kind for mark, kind in _OTHERS.items() if mark in text), "a package of another kind")
                raise _not_word(name, found)


def _vet_list(parts: Sequence[zipfile.ZipInfo], name: str) -> None:
    """By what the package says of its parts, before any is unpacked."""
    declared, parsed = (sum(part.file_size for part in some) for some in (parts, filter(_is_xml, parts)))
    names = {part.filename for part in parts}
    if len(parts) > MAX_PARTS or declared > MAX_UNPACKED or parsed > MAX_XML:
        found = f"{len(parts)} parts of {declared:,} bytes, {parsed:,} of them XML"
        raise too_large(name, found, f"at most {MAX_PARTS} of {MAX_UNPACKED:,}, {MAX_XML:,} of them XML")
    if len(names) < len(parts):
        raise broken(name, "a package with two parts of one name")
    if any(part.flag_bits & 1 for part in parts):
        raise locked(name)
    if _TYPES not in names:
        raise _not_word(name, "a package without a Word document")


def _is_xml(part: zipfile.ZipInfo) -> bool:
    return part.filename.lower().endswith((".xml", ".rels"))


def _unpacked(package: zipfile.ZipFile, part: zipfile.ZipInfo, *, keep: bool) -> bytes:
    """A part's bytes, if they are to be kept. `BadZipFile` for more or others than it declares."""
    kept = []
    size = 0
    with package.open(part) as file:
        while block := file.read(65536):
            size += len(block)
            if keep:
                kept.append(block)
    if size != part.file_size:
        msg = f"{part.filename} of {size:,} bytes, not {part.file_size:,}"
        raise zipfile.BadZipFile(msg)
    return b"".join(kept)


def _mended(data: bytes) -> bytes:
    """The package without what Word takes and python-docx fails at."""
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        changed = dict(_changed(package))
        if not changed:
            return data
        mended = io.BytesIO()
        with zipfile.ZipFile(mended, "w") as made:
            for name in package.namelist():
                made.writestr(name, changed.get(name) or package.read(name))
    return mended.getvalue()


def _changed(package: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    """The parts that are not as they were, with their names."""
    names = {f"/{name}" for name in package.namelist()}
    for part in filter(_is_xml, package.infolist()):
        content = package.read(part)
        mended = _STRICT.sub(_USUAL, content)
        if part.filename == _TYPES:
            mended = _typed(mended, package)
        elif part.filename.endswith(".rels"):
            mended = _linked(mended, part.filename.rpartition("_rels/")[0], names)
        if mended != content:
            yield part.filename, mended


def _linked(links: bytes, folder: str, names: set[str]) -> bytes:
    """Links without those to parts that there are not."""
    found = parse_xml(links)
    lost = [
        link
        for link in found.iterchildren("{*}Relationship")
        if link.get("TargetMode") != "External"
        and PackURI.from_rel_ref(f"/{folder}", link.get("Target", "")) not in names
    ]
    for link in lost:
        found.remove(link)
    return serialize_part_xml(found) if lost else links


def _typed(types: bytes, package: zipfile.ZipFile) -> bytes:
    """Types of parts where packages within this one are no documents: as such they would be parsed as XML."""
    found = parse_xml(types)
    documents = [entry for entry in found.iterchildren("{*}*") if entry.get("ContentType") == _DOCUMENT.decode()]
    packed = [name for name in package.namelist() if len(documents) > 1 and _begins(package, name) == _ZIP]
    places = {f"/{name}" for name in packed} | {name.rpartition(".")[2] for name in packed}
    within = [entry for entry in documents if entry.get("PartName", entry.get("Extension")) in places]
    for entry in within:
        entry.set("ContentType", "application/zip")
    return serialize_part_xml(found) if within else types


def _begins(package: zipfile.ZipFile, name: str) -> bytes:
    with package.open(name) as part:
        return part.read(len(_ZIP))


def _not_word(name: str, found: str) -> UnreadableDocument:
    return UnreadableDocument(name, found, "a Word document (.docx), an image or a PDF", "save it as one of these", 415)
