"""Verdicts: the worst wins, only PASS opens a door, and nothing measured is never a pass."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from ocr_ops.core.errors import ExitCode, GateFailed, NotProven
from ocr_ops.core.record import Value
from ocr_ops.core.spec import later


class Verdict(StrEnum):
    """In rising severity: a measured failure outranks missing evidence."""

    PASS = "PASS"  # noqa: S105 - a verdict
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"
    FAIL = "FAIL"

    @property
    def exit_code(self) -> ExitCode:
        if self is Verdict.PASS:
            return ExitCode.PASS
        return ExitCode.GATE_FAILED if self is Verdict.FAIL else ExitCode.NOT_PROVEN


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe verdict; of none at all, INVALID."""
    order = list(Verdict)
    return max(verdicts, key=order.index, default=Verdict.INVALID)


class Check(Value):
    """One figure held against one limit. `found` is None when it was never measured."""

    name: str
    found: float | None
    """Of a figure with an interval, the end of it that is worse."""
    comparison: Literal["<=", ">="]
    limit: float
    figure: float | None = later(None)
    """What was measured, where `found` is an end of its interval."""
    best: float | None = later(None)
    """The interval's better end: as long as that one would pass, nothing is proven either way."""

    @property
    def verdict(self) -> Verdict:
        if self.found is None:
            return Verdict.INVALID
        if self._meets(self.found):
            return Verdict.PASS
        return Verdict.FAIL if self.best is None or not self._meets(self.best) else Verdict.INCONCLUSIVE

    def _meets(self, value: float) -> bool:
        return value <= self.limit if self.comparison == "<=" else value >= self.limit

    def __str__(self) -> str:
        found = "not measured" if self.found is None else f"{self.found:.4g}"
        if self.figure is not None:
            found = f"{self.figure:.4g}, at worst {found},"
        return f"{self.name} {found} {self.comparison} {self.limit:.4g}: {self.verdict}"


def require_pass(subject: object, checks: Iterable[Check]) -> None:
    """Raises `GateFailed` or `NotProven`, naming each check that did not pass."""
    checks = tuple(checks)
    verdict = worst(check.verdict for check in checks)
    if verdict is Verdict.PASS:
        return
    bad = ", ".join(str(check) for check in checks if check.verdict is not Verdict.PASS) or "no checks at all"
    error = GateFailed if verdict is Verdict.FAIL else NotProven
    raise error(subject, bad, "every check to pass", "mend the cause, or change the policy and say why")
