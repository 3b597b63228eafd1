"""What a serving search found, as a record: every look, what was measured again, and whether the winner won."""

from datetime import UTC, datetime
from statistics import median
from typing import Self

from pydantic import Field

from ocr_ops.core.bundle import Digest
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment
from ocr_ops.release.space import Choice, Limits, Look, Outcome, Space, front
from ocr_ops.release.trial import Budget, Slo


class Seen(Value):
    """A look, for the file."""

    trial: int
    point: dict[str, Choice]
    outcome: Outcome

    @classmethod
    def of(cls, look: Look) -> Self:
        return cls(trial=look.number, point=dict(look.point), outcome=look.outcome)

    @property
    def look(self) -> Look:
        return Look(self.point, self.outcome, self.trial)


class Findings(Record):
    """All a search has found, and what that holds for."""

    study: str
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: Environment = Field(default_factory=Environment.here)
    releases: dict[str, Digest]
    pages: Digest
    fresh_pages: Digest
    slo: Slo
    budget: Budget
    choices: dict[str, tuple[Choice, ...]]
    trials: dict[str, int]
    """By what became of them."""
    given_up: dict[str, int]
    """Pruned trials by reason."""
    seconds: float
    """What this command took; earlier ones of the same study are not in it."""
    looks: tuple[Seen, ...]
    today: Seen
    winner: Seen
    repeated: dict[str, tuple[float, ...]]
    """Throughput of the finalists and of today's settings measured again, by trial."""
    fresh: tuple[Outcome, ...]
    """The winner on fresh pages, round by round."""
    fresh_today: tuple[Outcome, ...]
    """Today's settings in the same rounds."""
    max_accuracy_drop: float

    @property
    def size(self) -> int:
        return Space(self.choices).size

    @property
    def limits(self) -> Limits:
        """What the search asked of a winner."""
        return Limits(self.today.outcome.accuracy - self.max_accuracy_drop, self.budget.memory_mb)

    @property
    def searched_gain(self) -> float | None:
        """The winner's throughput over today's, in the trials that made it win."""
        return _ratio(self.winner.outcome.throughput, self.today.outcome.throughput)

    @property
    def fresh_gain(self) -> float | None:
        """The same on fresh pages, the median of the rounds."""
        pairs = zip(self.fresh, self.fresh_today, strict=True)
        ratios = [_ratio(own.throughput, other.throughput) for own, other in pairs]
        return median(ratio for ratio in ratios if ratio is not None) if None not in ratios and ratios else None

    @property
    def optimism(self) -> float | None:
        """By what share the search promised more than fresh pages show; below 0 it promised less."""
        searched, fresh = self.searched_gain, self.fresh_gain
        return 1 - fresh / searched if searched and fresh is not None else None

    @property
    def proven(self) -> bool:
        """Whether the winner won on fresh pages, too: no slower, no less accurate, within its memory."""
        if self.winner.point == self.today.point:
            return True
        floor = median(o.accuracy for o in self.fresh_today) - self.max_accuracy_drop
        limits = Limits(floor, self.budget.memory_mb)
        faster = self.fresh_gain is None or self.fresh_gain >= 1  # None: today's settings do not meet the SLO at all
        return faster and bool(self.fresh) and all(limits.met_by(outcome) for outcome in self.fresh)

    @property
    def all(self) -> list[Look]:
        return [seen.look for seen in self.looks]

    @property
    def front(self) -> list[Look]:
        return front(self.all)


def _ratio(own: float, other: float) -> float | None:
    return own / other if other > 0 else None
