"""Retry: how often a call is tried again, and after how long a wait."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """Waits grow twofold and are drawn by lot, so that callers who failed together do not come back together."""

    attempts: int = 10
    """With the first one. 1: never again."""
    first: float = 0.25
    """Seconds: the longest wait after the first attempt."""
    most: float = 10.0
    """Seconds: the longest wait after any, besides what the service asks for."""

    def delay(self, failed: int, told: float | None, luck: float) -> float:
        """Seconds to wait after `failed` attempts. `told` is what the service asks for; `luck` is from 0 to 1."""
        drawn = luck * min(self.most, self.first * 2.0 ** (failed - 1))
        return drawn if told is None else told + drawn
