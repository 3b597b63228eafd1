"""Usage: what a request comes to, told by the operation as it goes; limits charge it and the audit log keeps it."""

from dataclasses import dataclass, field
from typing import Protocol


class Allowance(Protocol):
    """Where pages are charged."""

    async def cover(self, pages: int) -> None:
        """Sees that so many pages are paid for. `Refusal` when the caller's quota does not hold them."""

    async def settle(self, pages: int) -> None:
        """Charges so many, and gives back what was charged for more."""


@dataclass(slots=True)
class Usage:
    """Digests and counts, never text."""

    documents: list[str] = field(default_factory=list)
    """Digests."""
    output: str | None = None
    subject: str | None = None
    """What else it was about: a job."""
    pages: int = 0
    allowance: Allowance | None = None

    async def read(self, pages: int = 1) -> None:
        """So many pages more were read. `Refusal` when the caller's quota is used up: nothing more is to be read."""
        self.pages += pages
        if self.allowance is not None:
            await self.allowance.cover(self.pages)
