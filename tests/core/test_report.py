"""Figures come from raw samples."""

import pytest

from ocr_ops.core.report import Environment, Report, quantile
from ocr_ops.core.verdict import Check, Verdict


@pytest.mark.parametrize(
    ("samples", "q", "expected"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), (list(range(1, 101)), 0.95, 95)],
)
def test_quantile_is_a_sample(samples: list[float], q: float, expected: float | None) -> None:
    """Nearest rank: no figure that nobody measured."""
    assert quantile(samples, q) == expected


def test_report_without_checks_is_invalid() -> None:
    """Nothing asked is nothing proven."""
    report = Report(kind="gate", name="load", subject="sha256:" + "0" * 64, dataset=None, metrics={})
    assert report.verdict is Verdict.INVALID
    check = Check(name="p95_ms", found=1, comparison="<=", limit=2)
    assert report.model_copy(update={"checks": (check,)}).verdict is Verdict.PASS


def test_environment_tells_this_machine() -> None:
    """CPU, cores and the versions that decide speed."""
    here = Environment.here()
    assert here.cores >= 1
    assert "onnxruntime" in here.packages
    assert here.kernel


def test_environments_older_than_a_field_stay_readable() -> None:
    """And keep the digest of what they are part of: what is not known is not written."""
    old = {"cpu": "test", "isa": ["avx2"], "cores": 2, "system": "test", "packages": {}}
    assert Environment.model_validate(old).model_dump(mode="json") == old


def test_a_machine_is_the_same_whatever_ran_the_graphs() -> None:
    """Another CPU or package is another machine, another provider is not."""
    here = Environment.here()
    assert here.model_copy(update={"provider": "cuda"}).same_machine(here)
    assert not here.model_copy(update={"isa": ("elsewhere",)}).same_machine(here)
