"""What a serving search chooses from, what it finds there, and which of it may win."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import UsageError
from ocr_ops.core.record import Value

Choice = str | int | float
Point = Mapping[str, Choice]
"""One choice of every dimension."""


@dataclass(frozen=True, slots=True)
class Space:
    """The dimensions of a search, by name, and each one's choices. Numbers are taken for ordered, words are not."""

    choices: Mapping[str, tuple[Choice, ...]]

    @property
    def size(self) -> int:
        size = 1
        for choices in self.choices.values():
            size *= len(choices)
        return size

    def points(self) -> Iterator[Point]:
        """Every point, in a fixed order."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))

    def require(self, point: Point) -> None:
        """`UsageError` when `point` is none of this space's."""
        for name, choices in self.choices.items():
            if point.get(name) not in choices:
                found, expected = f"{point.get(name)!r}", f"one of {choices}"
                raise UsageError(name, found, expected, "put the value among its choices")

    @property
    def columns(self) -> tuple["Column", ...]:
        """The dimensions as numbers: one column each, or one for each part in which the words of one differ."""
        return tuple(column for name, choices in self.choices.items() for column in _columns(name, choices))

    def places(self, points: Iterable[Point]) -> NDArray[np.float64]:
        """Points as numbers, float64 (N, columns)."""
        columns = self.columns
        rows = [[column.numbers[point[column.name]] for column in columns] for point in points]
        return np.array(rows, np.float64).reshape(-1, len(columns))


@dataclass(frozen=True, slots=True)
class Column:
    """A dimension, or a part of it, as numbers."""

    name: str
    """Of the dimension."""
    numbers: Mapping[Choice, float]
    """Of each choice: its rank from 0 to 1, or just what tells it from others."""
    ordered: bool


def _columns(name: str, choices: Sequence[Choice]) -> Iterator[Column]:
    if not any(isinstance(choice, str) for choice in choices):
        last = max(len(choices) - 1, 1)
        yield Column(name, {choice: i / last for i, choice in enumerate(choices)}, ordered=True)
        return
    parts = [str(choice).split() for choice in choices]
    # "fp32 int8" has something of "int8 int8": what is known of the one tells of the other.
    columns = list(zip(*parts, strict=True)) if len(set(map(len, parts))) == 1 else [choices]
    for column in columns:
        kinds = list(dict.fromkeys(column))
        if len(kinds) > 1 or len(columns) == 1:
            numbers = {choice: float(kinds.index(part)) for choice, part in zip(choices, column, strict=True)}
            yield Column(name, numbers, ordered=False)


class Outcome(Value):
    """What was measured at one point."""

    accuracy: float
    """Word F1 of the pages."""
    throughput: float
    """Pages a second with the SLO met; 0 where it never was."""
    memory_mb: float
    """Of the whole service at its peak, proportional set size."""
    figures: dict[str, float] = {}
    """What else was seen there, for people."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a winner must meet besides the SLO, which is in its throughput."""

    min_accuracy: float = 0.0
    max_memory_mb: float | None = None

    def met_by(self, outcome: Outcome) -> bool:
        memory = self.max_memory_mb is None or outcome.memory_mb <= self.max_memory_mb
        return outcome.throughput > 0 and outcome.accuracy >= self.min_accuracy and memory


@dataclass(frozen=True, slots=True)
class Look:
    """A point that was measured."""

    point: Point
    outcome: Outcome
    number: int = -1
    """Of its trial."""

    @property
    def row(self) -> dict[str, Any]:
        measured = self.outcome.model_dump(include={"accuracy", "throughput", "memory_mb"})
        return {"trial": self.number, **measured, **self.point}


def ranked(looks: Iterable[Look], limits: Limits) -> list[Look]:
    """Those that may win, the most throughput first; of equals the one in less memory."""
    eligible = [look for look in looks if limits.met_by(look.outcome)]
    return sorted(eligible, key=lambda look: (-look.outcome.throughput, look.outcome.memory_mb, look.number))


def front(looks: Iterable[Look]) -> list[Look]:
    """Those that no other equals or beats in accuracy, throughput and memory at once (Pareto), fastest first."""
    ordered = sorted(looks, key=lambda look: (-look.outcome.throughput, -look.outcome.accuracy, look.outcome.memory_mb))
    best: list[Look] = []
    for look in ordered:
        own = look.outcome
        if own.throughput > 0 and not any(
            other.outcome.accuracy >= own.accuracy and other.outcome.memory_mb <= own.memory_mb for other in best
        ):
            best.append(look)
    return best


@dataclass(frozen=True, slots=True)
class Goal:
    """What is looked for: the most throughput at the SLO that loses no accuracy beside today's settings."""

    today: Point
    max_accuracy_drop: float = 0.01
    """Absolute."""
    max_memory_mb: float | None = None

    def limits(self, looks: Iterable[Look]) -> Limits:
        """Today's accuracy sets the floor, once it is measured."""
        known = [look.outcome.accuracy for look in looks if look.point == self.today]
        return Limits(known[0] - self.max_accuracy_drop if known else 0.0, self.max_memory_mb)
