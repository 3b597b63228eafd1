"""Deadline: by when an answer is of use. It goes with the work over every hop, as the time that remains."""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Self

from ocr_ops.core.errors import TooLate, UsageError

HEADER = "x-ocr-ops-remaining-ms"
"""Milliseconds that remain. Clocks of two machines differ, so no time of day is ever sent."""


@dataclass(frozen=True, slots=True)
class Deadline:
    end: float
    """Of the monotonic clock, which no step of the time of day moves; seconds."""

    @classmethod
    def after(cls, seconds: float) -> Self:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @classmethod
    def from_header(cls, value: str | None, most: float) -> Self:
        """As `HEADER` says, `most` seconds from now at the latest. `UsageError` for no whole number."""
        if value is None:
            return cls.after(most)
        if not (value.isascii() and value.isdigit() and len(value) < 12):
            raise UsageError(HEADER, repr(value[:40]), "milliseconds", "correct the header, or leave it out")
        return cls.after(min(int(value) / 1000, most))

    @property
    def header(self) -> str:
        """What remains now, for the next hop."""
        return str(max(0, math.floor(self.remaining() * 1000)))

    def remaining(self) -> float:
        """Seconds; below zero once it has passed."""
        return self.end - time.monotonic()

    def timeout(self) -> asyncio.Timeout:
        """For `async with`: `TimeoutError` when the block is not done by then."""
        return asyncio.timeout(self.remaining())

    def require(self, subject: object) -> None:
        """`TooLate` once it has passed."""
        if self.remaining() <= 0:
            raise too_late(subject)


def too_late(subject: object) -> TooLate:
    """The deadline passed before `subject` was done."""
    return TooLate(subject, "not done by its deadline", "a quicker answer", "send fewer pages at once, or try again")
