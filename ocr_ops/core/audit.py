"""Audit: who asked the service for what, when, and what came of it; append-only, hash-chained, a folder of segments.

An entry tells digests and counts: no content of a document, no secret, no address. `audit.jsonl` grows until it is
large, then takes the number of its first entry as its name; the chain goes on across segments, also when another
program moved the file away, and old segments may be archived.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.chain import GENESIS, REMEDY, Sealed, read_entry, read_head, write_head
from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import Value, lock

SEGMENT_BYTES = 64 * 2**20
_TAIL_BYTES = 64 * 1024
"""More than the longest entry."""

Outcome = Literal["done", "refused", "failed", "left"]
"""`left`: the caller went before the answer was whole."""

log = logging.getLogger("bentoml.ocr_ops")


class Event(Value):
    """What happened."""

    time: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    """UTC, ISO 8601."""
    caller: str | None
    """Id of a key, `jwt:` and a subject, or `local`; None: it did not say, or was not who it said."""
    action: Annotated[str, Field(max_length=120)]
    """A method and route, or a command."""
    outcome: Outcome
    status: int | None = None
    """HTTP status."""
    request: Annotated[str, Field(max_length=200)] | None = None
    """Request id."""
    documents: Annotated[tuple[Digest, ...], Field(max_length=64)] = ()
    pages: Annotated[int, Field(ge=0)] = 0
    output: Annotated[str, Field(max_length=40)] | None = None
    subject: Annotated[str, Field(max_length=120)] | None = None
    """What it was done to: a key, a job."""


class Entry(Sealed):
    event: Event


@dataclass(frozen=True, slots=True)
class Sound:
    """What a whole audit log says of itself."""

    entries: int
    first: int
    """Sequence of the oldest entry still there: 1, unless older segments were archived."""
    last: int
    torn: int
    """Bytes a crash left of a last line, which was never acknowledged."""


@dataclass(frozen=True, slots=True)
class AuditLog:
    folder: Path

    @property
    def current(self) -> Path:
        return self.folder / "audit.jsonl"

    @property
    def head(self) -> Path:
        return self.folder / "audit.head"

    @property
    def segments(self) -> list[Path]:
        """Oldest first."""
        return [*sorted(self.folder.glob("audit-*.jsonl")), *([self.current] if self.current.exists() else [])]

    def append(self, events: Sequence[Event], segment_bytes: int = SEGMENT_BYTES) -> None:
        """Adds entries, on the disk when this returns; other processes that do so wait. `OSError` where it cannot."""
        with lock(self.folder / "audit.lock"):
            # In this order: a head that found no room on the disk does not know the last entry, but the segment does.
            number, seal = self._last()
            self._rotate(segment_bytes)
            entries = []
            for event in events:
                entry = Entry(sequence=number + 1, previous=seal, event=event).sealed()
                number, seal = entry.sequence, entry.seal
                entries.append(entry)
            with self.current.open("ab") as file:
                file.write(b"".join(entry.canonical.encode() + b"\n" for entry in entries))
                file.flush()
                os.fsync(file.fileno())
            write_head(self.head, entries[-1])

    def entries(self) -> Iterator[Entry]:
        """Every entry, oldest first, each once it is verified. `BadRecord` names the first line that is not sound."""
        after: tuple[int, str] | None = None
        for segment, file in self._opened():
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                subject = f"{segment} line {number}"
                after = after or _before(line[:-1], subject)
                entry = read_entry(Entry, line[:-1], subject, after)
                after = entry.sequence, entry.seal
                yield entry

    def verify(self) -> Sound:
        """Reads all of it. `BadRecord` names the first line that is not as it was written, or a missing end."""
        head = read_head(self.head)
        count, first, last, known = 0, 0, 0, head is None
        for entry in self.entries():
            count, first, last = count + 1, first or entry.sequence, entry.sequence
            known = known or (head is not None and (entry.sequence, entry.seal) == head)
        if not known and head is not None:
            found = f"entry {last} is the last, or another is entry {head[0]}"
            raise BadRecord(self.folder, found, f"entry {head[0]}, as {self.head.name} remembers it", REMEDY)
        return Sound(count, first, last, _torn(self.current))

    def _opened(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Segments, oldest first, each open while it is read; those that are set aside meanwhile, too."""
        seen: set[Path] = set()
        while left := self._left(seen):
            segment = left[0]
            try:
                file = segment.open("rb")
            except FileNotFoundError:
                if segment != self.current:
                    raise
                continue
            with file:
                if segment == self.current and self._left(seen) != left:
                    continue  # what was opened may follow one that was set aside just now
                yield segment, file
            if segment == self.current:
                return
            seen.add(segment)

    def _left(self, seen: set[Path]) -> list[Path]:
        return [segment for segment in self.segments if segment not in seen]

    def _last(self) -> tuple[int, str]:
        """Sequence and seal of the last entry. What a crash left of a line goes; a broken end is set aside."""
        remembered = read_head(self.head) or (0, GENESIS)
        torn = _torn(self.current)
        if torn:
            log.warning("%s: dropped a half-written last line, %d bytes", self.current, torn)
            os.truncate(self.current, self.current.stat().st_size - torn)
        if not self.current.exists() or not self.current.stat().st_size:
            return remembered
        with self.current.open("rb") as file:
            file.seek(max(0, self.current.stat().st_size - _TAIL_BYTES))
            line = file.read()[:-1].rpartition(b"\n")[2]
        try:
            entry = read_entry(Entry, line, str(self.current), _before(line, str(self.current)))
        except BadRecord as error:
            # The service must go on, and what is broken stay as evidence: `verify` will find it.
            log.error("audit: %s; going on in a new segment", error)  # noqa: TRY400  the line says it all
            self._set_aside(remembered[0] or 1)
            return remembered
        return entry.sequence, entry.seal

    def _rotate(self, segment_bytes: int) -> None:
        if self.current.exists() and self.current.stat().st_size >= segment_bytes:
            with self.current.open("rb") as file:
                line = file.readline()
            try:
                self._set_aside(int(json.loads(line)["sequence"]))
            except (ValueError, KeyError, TypeError):
                self._set_aside((read_head(self.head) or (1, ""))[0])

    def _set_aside(self, number: int) -> None:
        name = self.folder / f"audit-{number:012d}.jsonl"
        while name.exists():  # of a broken one, nobody knows the number
            name = name.with_stem(name.stem + "-")
        self.current.rename(name)


def _before(line: bytes, subject: str) -> tuple[int, str]:
    """What the entry in this line says came before it."""
    try:
        data = json.loads(line)
        return int(data["sequence"]) - 1, str(data["previous"])
    except (ValueError, KeyError, TypeError):
        raise BadRecord(subject, "not JSON, or no entry", "an entry", REMEDY) from None


def _torn(path: Path) -> int:
    """How many bytes stand after the last whole line."""
    if not path.exists():
        return 0
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL_BYTES))
        return len(file.read().rpartition(b"\n")[2])
