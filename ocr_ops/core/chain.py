"""Chain: sealed records, one JSON line each, of which each names the seal before it.

An altered, removed, inserted or reordered line is found and named. A chain cannot tell by itself that its end was cut
off: a head beside it remembers the last seal. Someone who rewrites all of it from the start leaves no trace, so keep
copies elsewhere.
"""

import getpass
import json
import os
import socket
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import Record, digest_bytes, write_atomic

GENESIS = digest_bytes(b"")
"""What the first entry names as its predecessor."""
REMEDY = "restore the file from a copy, and find out who changed it"


class Sealed(Record):
    """An entry of a chain."""

    sequence: Annotated[int, Field(ge=1)]
    previous: Digest
    seal: Digest = GENESIS

    @property
    def computed_seal(self) -> str:
        """Digest of the entry without its seal."""
        return self.model_copy(update={"seal": GENESIS}).digest

    def sealed(self) -> Self:
        return self.model_copy(update={"seal": self.computed_seal})


S = TypeVar("S", bound=Sealed)


def read_entry(kind: type[S], line: bytes, subject: str, after: tuple[int, str]) -> S:
    """The entry in a line; `after`: sequence and seal of the one before. `BadRecord` when it is not as was written."""
    try:
        entry = kind.parse(json.loads(line), subject)
    except ValueError:  # not JSON, or not UTF-8
        raise BadRecord(subject, "not JSON", "an entry", REMEDY) from None
    if entry.computed_seal != entry.seal or entry.canonical.encode() != line:
        raise BadRecord(subject, "altered since it was sealed", entry.seal, REMEDY)
    number, previous = after[0] + 1, after[1]
    if entry.sequence != number or entry.previous != previous:
        found = f"entry {entry.sequence}, which does not follow the line before"
        raise BadRecord(subject, found, f"entry {number}; a line was removed, added or moved", REMEDY)
    return entry


def read_head(path: Path) -> tuple[int, str] | None:
    """Sequence and seal of the last entry, as the head has them; None without one, sequence 0 for a broken one."""
    if not path.exists():
        return None
    sequence, _, seal = path.read_text(encoding="ascii", errors="replace").strip().partition(" ")
    return (int(sequence) if sequence.isascii() and sequence.isdigit() else 0), seal


def write_head(path: Path, entry: Sealed) -> None:
    write_atomic(path, f"{entry.sequence} {entry.seal}\n".encode())


def actor() -> str:
    """Who runs this process: user@machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
