"""Admission: which documents are let in. What comes on top is turned away at once, before it is received."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ocr_ops.core.errors import Overloaded
from ocr_ops.runtime import telemetry


@dataclass(slots=True)
class Admission:
    limit: int
    """Documents at once."""
    inside: int = 0
    closed: bool = False
    """Whether the service is about to end, and lets in no more."""

    def close(self) -> None:
        """Lets in no more documents."""
        self.closed = True

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place for one document while the block runs. `Overloaded` when there is none."""
        if self.closed:
            raise Overloaded("service", "about to end", "one that goes on", "try again at once: another takes over")
        if self.inside >= self.limit:
            raise Overloaded("service", f"{self.inside} documents in flight", "fewer", "try again soon")
        self.inside += 1
        try:
            with telemetry.document_in_flight():
                yield
        finally:
            self.inside -= 1
