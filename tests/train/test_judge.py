from pathlib import Path

import numpy as np
import pytest

from ocr_ops.core.errors import BadInput, GateFailed, NotProven
from ocr_ops.core.verdict import Verdict
from ocr_ops.train.judge import Comparison, Counts, Judgement, compare, set_apart


def errors(rate: float, samples: int = 60, seed: int = 0) -> tuple[list[str], Counts]:
    """Errors of two samples a document, 40 characters each, at about that rate."""
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.binomial(40, rate, samples), np.full(samples, 40)], axis=1)
    return [str(i // 2) for i in range(samples)], counts.astype(np.float64)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0.3, 0.1, Verdict.PASS), (0.1, 0.3, Verdict.FAIL), (0.1, 0.1, Verdict.INCONCLUSIVE)],
)
def test_an_interval_says_whether_it_helped(before: float, after: float, verdict: Verdict) -> None:
    names, first = errors(before, seed=1)
    found = compare(names, first, errors(after, seed=2)[1])
    assert found.verdict is verdict
    assert found.documents == 30
    assert found.low <= found.after - found.before <= found.high
    assert found == compare(names, first, errors(after, seed=2)[1])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(60):
        names, first = errors(0.2, seed=2 * seed)
        found = compare(names, first, errors(0.15, seed=2 * seed + 1)[1], seed)
        covered += found.low <= -0.05 <= found.high
    assert covered >= 51


def test_few_documents_show_nothing_however_clear_they_look() -> None:
    found = compare(["a", "a", "b", "b"], np.array([[9, 10]] * 4, np.float64), np.array([[0, 10]] * 4, np.float64))
    assert found.high < 0
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_fifth_of_the_documents_judges_the_same_each_time() -> None:
    names = [f"document {i}" for i in range(100)]
    apart = set_apart(names)
    assert len(apart) == 20
    assert apart == set_apart(reversed(names))
    assert len(set_apart(names[:16])) == 5
    with pytest.raises(BadInput, match="2 documents"):
        set_apart(["a", "b", "b"])


def test_what_did_not_help_opens_no_door() -> None:
    def judged(low: float, high: float) -> Judgement:
        own = Comparison(documents=9, samples=9, before=0.2, after=0.2 + (low + high) / 2, low=low, high=high)
        return Judgement(
            model="m", source="s", weights="w", figure="CER", own=own, rendered=own, new_characters="", left_out=0
        )

    judged(-0.2, -0.1).require(Path("run"))
    with pytest.raises(GateFailed, match="hurt"):
        judged(0.1, 0.2).require(Path("run"))
    with pytest.raises(NotProven, match="no difference shown"):
        judged(-0.1, 0.2).require(Path("run"))
    assert "20.0 % -> 5.0 % (-15.0 points, 95 %: -20.0 to -10.0" in str(judged(-0.2, -0.1))
