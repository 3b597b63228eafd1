"""What is found out about a bundle is kept, and what was made of it is not made again."""

from pathlib import Path

import pytest

from ocr_ops.core.bundle import ModelBundle, Quantization
from ocr_ops.core.errors import BadInput
from ocr_ops.core.policy import Policy
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.core.verdict import Verdict
from ocr_ops.core.workspace import Workspace
from ocr_ops.optimize.quantize import DYNAMIC
from ocr_ops.release.chain import quantized
from ocr_ops.release.refine import best, compared, divided, proven, sensed
from tests.optimize.readers import bars, layered, leaking

POLICY = Policy(max_flip_share=0.3)
"""So few lines prove no less."""


def test_a_variant_is_reused_for_the_same_recipe_alone(tmp_path: Path) -> None:
    """And each recipe has a folder of its own."""
    workspace, pages = Workspace(tmp_path / "home"), bars(tmp_path / "bars", 1)
    parent = layered(tmp_path / "parent")
    first, reused = quantized(parent, pages, workspace)
    assert (first.path.name, reused) == ("recognition-bars-int8", False)
    assert quantized(parent, pages, workspace) == (first, True)
    mixed, reused = quantized(parent, pages, workspace, Quantization(kept=("wide",)))
    assert (mixed.path.name, reused) == ("recognition-bars-int8-mixed", False)
    assert quantized(parent, pages, workspace, Quantization(kept=("wide", "narrow")))[1] is False
    dynamic, _ = quantized(parent, pages, workspace, DYNAMIC)
    assert (dynamic.path.name, dynamic.manifest.dataset) == ("recognition-bars-int8-dynamic", None)
    assert quantized(parent, pages, workspace) == (first, True)


def test_sensitivity_is_measured_once(tmp_path: Path) -> None:
    """For one bundle, one dataset and one budget."""
    workspace, pages = Workspace(tmp_path / "home"), bars(tmp_path / "bars", 1)
    parent = layered(tmp_path / "parent")
    found, reused = sensed(parent, pages, workspace)
    assert not reused
    assert sensed(parent, pages, workspace) == (found, True)
    assert sensed(parent, pages, workspace, budget=1.0)[1] is False


def test_the_best_calibration_is_the_most_accurate_of_those_that_cost_the_same(
    tiny_release: Release, tmp_path: Path
) -> None:
    """Judged on pages that calibrate nothing."""
    workspace = Workspace(tmp_path / "home")
    calibrating, judging = bars(tmp_path / "bars", 1), bars(tmp_path / "more", 1)
    with pytest.raises(BadInput, match="1 pages that calibrate as well"):
        compared(tiny_release.recognition, calibrating, judging, POLICY, workspace)

    def report(accuracy: float | None, speedup: float) -> Report:
        metrics = {"speedup": speedup} | ({} if accuracy is None else {"accuracy": accuracy})
        return Report(kind="bench", name="it", subject="sha256:" + "0" * 64, dataset=None, metrics=metrics)

    variants = [tiny_release.recognition, tiny_release.detection]
    assert best(variants, [report(0.9, 2.0), report(0.9, 2.0)]) == variants[0]
    assert best(variants, [report(0.8, 2.0), report(0.9, 1.98)]) == variants[1]
    assert best(variants, [report(0.8, 2.0), report(0.9, 1.5)]) == variants[0]
    with pytest.raises(BadInput, match="no page that says"):
        best(variants, [report(None, 2.0), report(None, 2.0)])


def test_one_dataset_is_divided_into_calibrating_and_judging(tmp_path: Path) -> None:
    """No page does both."""
    pages = bars(tmp_path / "bars", 6)
    calibrating, judging = divided(pages)
    assert (len(calibrating.pages), len(judging.pages)) == (2, 4)
    with pytest.raises(BadInput, match="one page"):
        divided(pages.head(1))


def test_buckets_are_written_when_they_are_proven(tiny_release: Release, tmp_path: Path) -> None:
    """The bundle that stands afterwards is the one the record speaks of; what fails is left alone."""
    workspace, pages = Workspace(tmp_path / "home"), bars(tmp_path / "bars")
    bundle = tiny_release.recognition.copy(tmp_path / "sound")
    made, found = proven(bundle, pages, POLICY, workspace)
    assert found.verdict is Verdict.PASS
    assert found.subject == made.digest == ModelBundle.open(bundle.path).digest
    assert made.manifest.buckets == found.buckets
    leaky = leaking(tmp_path / "leak", "batch")
    made, found = proven(leaky, pages, POLICY, workspace)
    assert (found.verdict, made) == (Verdict.FAIL, leaky)
    assert len(list(workspace.reports.glob("invariance-*.json"))) == 2
