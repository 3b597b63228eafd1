"""Ledger: who moved the champion from where to where, why, and on which receipts; append-only, hash-chained.

One JSON line an entry, as `core.chain` has them; `ledger.head` trails by at most the entry being written. This is a
record against mistakes and careless hands: keep copies elsewhere.
"""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.chain import GENESIS, REMEDY, Sealed, actor, read_entry, read_head, write_head
from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import Record, lock

_LOG = logging.getLogger(__name__)


class Move(Record):
    """A change of champion. `observe`: the alias had moved already, and the served folder followed it."""

    action: Literal["promote", "rollback", "observe"]
    from_version: int | None
    from_digest: Digest | None
    to_version: int
    to_digest: Digest
    reason: str
    receipts: tuple[Digest, ...]
    actor: str = Field(default_factory=actor)
    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    """UTC, ISO 8601."""


class Entry(Sealed):
    move: Move


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
            after = (number - 1, entries[-1].seal if entries else GENESIS)
            entries.append(read_entry(Entry, line, f"{self.path} line {number}", after))
        if head := read_head(self.head):
            sequence, seal = head
            if not 1 <= sequence <= len(entries):
                found = f"it ends after line {len(entries)}"
                raise BadRecord(self.path, found, f"{sequence} lines, as {self.head.name} remembers", REMEDY)
            if entries[sequence - 1].seal != seal:
                found = f"line {sequence} is another than {self.head.name} remembers"
                raise BadRecord(self.path, found, seal, REMEDY)
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
            write_head(self.head, entry)
            return entry
