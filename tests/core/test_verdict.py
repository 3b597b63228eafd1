"""Only PASS opens a door, and absence never passes."""

import pytest

from ocr_ops.core.errors import ExitCode, GateFailed, NotProven
from ocr_ops.core.verdict import Check, Verdict, require_pass, worst


def test_worst_of_nothing_is_invalid() -> None:
    """No verdict at all is no pass."""
    assert worst([]) is Verdict.INVALID


def test_a_measured_failure_outranks_missing_evidence() -> None:
    """FAIL is the worst there is."""
    assert worst([Verdict.PASS, Verdict.INVALID, Verdict.FAIL]) is Verdict.FAIL
    assert worst([Verdict.PASS, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("found", "comparison", "verdict"),
    [
        (1.0, "<=", Verdict.PASS),
        (1.1, "<=", Verdict.FAIL),
        (0.9, ">=", Verdict.FAIL),
        (None, ">=", Verdict.INVALID),
    ],
)
def test_check(found: float | None, comparison: str, verdict: Verdict) -> None:
    """A check passes at its limit; an unmeasured one is invalid."""
    check = Check.model_validate({"name": "f", "found": found, "comparison": comparison, "limit": 1.0})
    assert check.verdict is verdict


@pytest.mark.parametrize(
    ("found", "best", "verdict"),
    [(0.9, 0.5, Verdict.PASS), (1.1, 0.5, Verdict.INCONCLUSIVE), (1.1, 1.05, Verdict.FAIL)],
)
def test_the_worse_end_of_an_interval_decides(found: float, best: float, verdict: Verdict) -> None:
    """Where only the better end passes, nothing is proven either way; the line names figure, bound and limit."""
    check = Check(name="loss", found=found, comparison="<=", limit=1.0, figure=0.8, best=best)
    assert check.verdict is verdict
    assert str(check) == f"loss 0.8, at worst {found}, <= 1: {verdict}"


def test_a_check_without_an_interval_is_written_as_ever() -> None:
    """Digests of reports that came before intervals stand."""
    assert set(Check(name="f1", found=0.9, comparison=">=", limit=0.5).model_dump(mode="json")) == {
        *("name", "found", "comparison", "limit")
    }


def test_require_pass_names_what_did_not() -> None:
    """The error carries the failing check and the right exit code."""
    good = Check(name="f1", found=0.9, comparison=">=", limit=0.5)
    slow = Check(name="p95_ms", found=900, comparison="<=", limit=500)
    unknown = Check(name="p99_ms", found=None, comparison="<=", limit=500)
    require_pass("ocr", [good])
    with pytest.raises(GateFailed, match="p95_ms 900") as failed:
        require_pass("ocr", [good, slow, unknown])
    assert failed.value.exit_code is ExitCode.GATE_FAILED
    with pytest.raises(NotProven, match="p99_ms not measured"):
        require_pass("ocr", [good, unknown])
    with pytest.raises(NotProven, match="no checks at all"):
        require_pass("ocr", [])
