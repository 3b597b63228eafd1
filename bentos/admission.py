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

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place for one document while the block runs. `Overloaded` when there is none."""
        if self.inside >= self.limit:
            raise Overloaded("service", f"{self.inside} documents in flight", "fewer", "try again soon")
        self.inside += 1
        try:
            with telemetry.document_in_flight():
                yield
        finally:
            self.inside -= 1
