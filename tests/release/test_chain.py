"""What a receipt rests on: the benchmarks on the very pages that were judged."""

from pathlib import Path

import cv2
import pytest

from ocr_ops.core.policy import Policy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Verdict
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.release.chain import benchmarked_whole, evidence
from tests.tiny import draw


def pages(folder: Path, text: str) -> PageSet:
    """One page that says `abc`, and what its label says."""
    write_atomic(folder / "0.png", cv2.imencode(".png", draw(("abc",)))[1].tobytes())
    region = Region(polygon=((0, 0), (9, 0), (9, 9), (0, 9)), text=text)
    return write_index(folder, (LabelledPage(image="0.png", regions=(region,)),))


def test_a_benchmark_on_other_pages_replaces_no_evidence(tiny_release: Release, tmp_path: Path) -> None:
    """A look at harder pages neither harms a release nor hides what it was judged by."""
    workspace, policy = Workspace(tmp_path / "home"), Policy()
    judged, harder = pages(tmp_path / "judged", "abc"), pages(tmp_path / "harder", "other words")
    first, reused = benchmarked_whole(tiny_release, judged, policy, workspace)
    assert not reused
    other, reused = benchmarked_whole(tiny_release, harder, policy, workspace)
    assert not reused
    assert (first.verdict, other.verdict) == (Verdict.PASS, Verdict.FAIL)

    assert evidence(tiny_release, workspace, judged) == [first]
    assert evidence(tiny_release, workspace, harder) == [other]
    assert benchmarked_whole(tiny_release, judged, policy, workspace) == (first, True)


def test_a_damaged_report_is_no_evidence(tiny_release: Release, tmp_path: Path) -> None:
    """Measured again, not trusted."""
    workspace, judged = Workspace(tmp_path / "home"), pages(tmp_path / "judged", "abc")
    benchmarked_whole(tiny_release, judged, Policy(), workspace)
    (file,) = workspace.reports.iterdir()
    file.write_text(file.read_text()[:-20])
    assert evidence(tiny_release, workspace, judged) == []


@pytest.mark.parametrize("known", [True, False])
def test_without_pages_the_newest_benchmark_counts(tiny_release: Release, tmp_path: Path, *, known: bool) -> None:
    """Or none, when there is none."""
    workspace = Workspace(tmp_path / "home")
    made = [benchmarked_whole(tiny_release, pages(tmp_path / "p", "abc"), Policy(), workspace)[0]] if known else []
    assert evidence(tiny_release, workspace) == made
