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
    asked: bool = False
    """Whether the caller set it, or it is the most that the service gives anyone."""

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
        seconds = int(value) / 1000
        return cls(time.monotonic() + min(seconds, most), asked=seconds <= most)

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
            raise self.too_late(subject)

    def too_late(self, subject: object) -> TooLate:
        """It passed before `subject` was done."""
        if self.asked:
            remedy = f"allow more time in {HEADER}, or send fewer pages at once"
            return TooLate(subject, "not done by the deadline it came with", "more time", remedy)
        remedy = "try again, send fewer pages at once, or submit a job"
        return TooLate(subject, "not done in the time that any request is given", "fewer pages", remedy, 503)
