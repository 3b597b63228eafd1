"""Documents as callers have them: a path, bytes, an open file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ocr_ops.client.answers import Outcome
from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.workspace import legible

UNNAMED = "document"


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes, and what the service is to call them."""

    name: str
    data: bytes


Source = str | os.PathLike[str] | bytes | BinaryIO | Document
"""A str is a path."""


def document(source: Source) -> Document:
    """The bytes of a source. `UnreadableDocument` for a path that is no readable file."""
    if isinstance(source, Document):
        return source
    if isinstance(source, bytes | bytearray | memoryview):
        return Document(UNNAMED, bytes(source))
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            return Document(legible(path.name), path.read_bytes())
        except (OSError, ValueError) as error:
            found = str(getattr(error, "strerror", None) or error).lower()
            raise UnreadableDocument(legible(str(path)), found, "a readable file", "check the path") from None
    name = getattr(source, "name", UNNAMED)
    named = legible(os.path.basename(name)) if isinstance(name, str) else UNNAMED  # noqa: PTH119
    return Document(named, source.read())


def documents(sources: Iterable[Source]) -> tuple[dict[int, Outcome], dict[int, Document]]:
    """Each by its place: what became of the paths that are no readable files, and the documents to send."""
    failed: dict[int, Outcome] = {}
    opened: dict[int, Document] = {}
    for place, source in enumerate(sources):
        try:
            opened[place] = document(source)
        except UnreadableDocument as error:
            failed[place] = Outcome(Path(error.subject).name, error=error)
    return failed, opened
