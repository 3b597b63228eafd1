"""Ledger: who moved the champion from where to where, why, and on which receipts; append-only, hash-chained.

One JSON line an entry. Each is sealed with its own digest and names the seal before it, so an altered,
removed, inserted or reordered line is found and named. A chain cannot tell by itself that its end was cut
off: `ledger.head` remembers the last seal, and trails by at most the entry being written. This is a record
against mistakes and careless hands; someone who rewrites both files from the start leaves no trace, so keep
copies elsewhere.
"""

import getpass
import json
import logging
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import Record, digest_bytes, lock, write_atomic

GENESIS = digest_bytes(b"")
"""What the first entry names as its predecessor."""

_LOG = logging.getLogger(__name__)


def _actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class Move(Record):
    """A change of champion. `observe`: the alias had moved already, and the served folder followed it."""

    action: Literal["promote", "rollback", "observe"]
    from_version: int | None
    from_digest: Digest | None
    to_version: int
    to_digest: Digest
    reason: str
    receipts: tuple[Digest, ...]
    actor: str = Field(default_factory=_actor)
    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    """UTC, ISO 8601."""


class Entry(Record):
    sequence: Annotated[int, Field(ge=1)]
    previous: Digest
    move: Move
    seal: Digest = GENESIS

    @property
    def computed_seal(self) -> str:
        """Digest of the entry without its seal."""
        return self.model_copy(update={"seal": GENESIS}).digest

    def sealed(self) -> "Entry":
        return self.model_copy(update={"seal": self.computed_seal})


@dataclass(frozen=True, slots=True)
class Chain:
    """A verified ledger. `torn`: what a crash left of a last line, which was never acknowledged."""

    entries: tuple[Entry, ...]
    torn: bytes


@dataclass(frozen=True, slots=True)
class Ledger:
    path: Path

    @property
    def head(self) -> Path:
        return self.path.with_suffix(".head")

    def verify(self) -> Chain:
        """Every entry, oldest first. `BadRecord` names the first line that is not as it was written."""
        *lines, torn = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        entries: list[Entry] = []
        for number, line in enumerate(lines, 1):
            entries.append(self._entry(line, number, entries[-1].seal if entries else GENESIS))
        if self.head.exists():
            sequence, _, seal = self.head.read_text(encoding="ascii", errors="replace").strip().partition(" ")
            if not sequence.isdigit() or not 1 <= int(sequence) <= len(entries):
                found = f"it ends after line {len(entries)}"
                raise BadRecord(self.path, found, f"{sequence} lines, as {self.head.name} remembers", _REMEDY)
            if entries[int(sequence) - 1].seal != seal:
                found = f"line {sequence} is another than {self.head.name} remembers"
                raise BadRecord(self.path, found, seal, _REMEDY)
        return Chain(tuple(entries), torn)

    def append(self, move: Move) -> Entry:
        """Adds one entry, on the disk when this returns. `BadRecord` on a ledger that does not verify."""
        with lock(self.path.with_suffix(".lock")):
            chain = self.verify()
            last = chain.entries[-1] if chain.entries else None
            entry = Entry(sequence=len(chain.entries) + 1, previous=last.seal if last else GENESIS, move=move).sealed()
            with self.path.open("ab") as file:
                if chain.torn:
                    _LOG.warning("%s: dropped a half-written last line, %d bytes", self.path, len(chain.torn))
                    file.truncate(file.tell() - len(chain.torn))
                file.write(entry.canonical.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            write_atomic(self.head, f"{entry.sequence} {entry.seal}\n".encode())
            return entry

    def _entry(self, line: bytes, number: int, previous: str) -> Entry:
        subject = f"{self.path} line {number}"
        try:
            entry = Entry.parse(json.loads(line), subject)
        except ValueError:  # not JSON, or not UTF-8
            raise BadRecord(subject, "not JSON", "a ledger entry", _REMEDY) from None
        if entry.computed_seal != entry.seal or entry.canonical.encode() != line:
            raise BadRecord(subject, "altered since it was sealed", entry.seal, _REMEDY)
        if entry.sequence != number or entry.previous != previous:
            found = f"entry {entry.sequence}, which does not follow the line before"
            raise BadRecord(subject, found, f"entry {number}; a line was removed, added or moved", _REMEDY)
        return entry


_REMEDY = "restore the file from a copy, and find out who changed it"
