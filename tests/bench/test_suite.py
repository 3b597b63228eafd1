"""Variants are compared fairly, and only evidence passes."""

from pathlib import Path

import cv2
import pytest

from ocr_ops.bench.suite import bench_lines, bench_release, bench_variants, choose
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, GateFailed
from ocr_ops.core.policy import Policy, VariantPolicy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Verdict
from ocr_ops.data.lines import read_lines
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import LINE, build_bundle, draw

LINES = ("abc cab", "cc ab a", "bbb")
LENIENT = VariantPolicy(min_speedup=1e-6)


@pytest.fixture
def pages(tiny_release: Release, tmp_path: Path) -> PageSet:
    image = draw(LINES)
    reader = Reader(tiny_release)
    labelled = []
    for name in ("0.png", "1.png", "2.png"):
        write_atomic(tmp_path / "pages" / name, cv2.imencode(".png", image)[1].tobytes())
        lines = reader.read_page(image).lines
        regions = tuple(Region(polygon=line.polygon, text=line.text) for line in lines)
        labelled.append(LabelledPage(image=name, regions=regions))
    return write_index(tmp_path / "pages", tuple(labelled))


def other(bundle: ModelBundle, folder: Path) -> ModelBundle:
    """The same graph under another digest."""
    return build_bundle(folder, bundle.manifest.task, model="other")


@pytest.mark.parametrize("task", ["detection", "recognition"])
def test_every_variant_gets_every_page(tiny_release: Release, pages: PageSet, tmp_path: Path, task: str) -> None:
    """A sample a page for each, and full marks for what reads all."""
    parent: ModelBundle = getattr(tiny_release, task)
    reports = bench_variants([parent, other(parent, tmp_path / "other")], pages, LENIENT)
    for report, bundle in zip(reports, [parent, None], strict=True):
        assert len(report.samples["cpu_ms"]) == len(report.samples["wall_ms"]) == 3
        assert report.metrics["accuracy"] == pytest.approx(1)
        assert report.dataset == pages.digest
        assert report.verdict is Verdict.PASS
        assert bundle is None or report.subject == bundle.digest
    assert reports[0].metrics["speedup"] == pytest.approx(1)


def test_a_slow_or_worse_variant_is_refused(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """The policy decides, and the parent is what is left."""
    bundles = [tiny_release.recognition, other(tiny_release.recognition, tmp_path / "other")]
    reports = bench_variants(bundles, pages, VariantPolicy(min_speedup=1e6))
    assert reports[1].verdict is Verdict.FAIL
    assert choose(bundles, reports)[0] is bundles[0]


def test_no_variant_that_passes_is_a_failed_gate(tiny_release: Release, pages: PageSet) -> None:
    """There is nothing to fall back to."""
    report = bench_variants([tiny_release.recognition], pages, LENIENT)[0]
    failing = report.model_copy(
        update={"checks": tuple(check.model_copy(update={"found": 0.0}) for check in report.checks)}
    )
    with pytest.raises(GateFailed, match="accuracy 0"):
        choose([tiny_release.recognition], [failing])


def test_variants_of_two_tasks_are_not_compared(tiny_release: Release, pages: PageSet) -> None:
    """Nor is nothing with nothing."""
    with pytest.raises(BadInput, match="detection"):
        bench_variants([tiny_release.detection, tiny_release.recognition], pages, LENIENT)
    with pytest.raises(BadInput, match="no task"):
        bench_variants([], pages, LENIENT)


def test_release_is_read_end_to_end(tiny_release: Release, pages: PageSet) -> None:
    """Word F1 over all pages decides."""
    report = bench_release(tiny_release, pages, Policy())
    assert report.metrics["word_f1"] == pytest.approx(1)
    assert report.metrics["pages"] == 3
    assert report.verdict is Verdict.PASS


def test_pages_without_words_prove_nothing(tiny_release: Release, pages: PageSet) -> None:
    """An unlabelled blank sheet is no evidence of reading."""
    image = draw(())
    write_atomic(pages.folder / "blank.png", cv2.imencode(".png", image)[1].tobytes())
    blank = write_index(pages.folder, (LabelledPage(image="blank.png", regions=()),))
    report = bench_release(tiny_release, blank, Policy())
    assert "word_f1" not in report.metrics
    assert report.verdict is Verdict.INVALID


def test_lines_are_read_one_by_one(tiny_release: Release, tmp_path: Path) -> None:
    """Edits over characters, exact lines, and a crop that does not decode is counted."""
    texts = {"0.png": "abc", "1.png": "cab"}
    for name, text in texts.items():
        crop = draw((text,))[32 : 32 + LINE, 28:128]
        write_atomic(tmp_path / name, cv2.imencode(".png", crop)[1].tobytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "labels.tsv").write_text("0.png\tabc\n1.png\tcac\nbroken.png\tabc\n")
    (report,) = bench_lines([tiny_release.recognition], read_lines(tmp_path))
    assert report.metrics["cer"] == pytest.approx(1 / 6)
    assert report.metrics["exact"] == pytest.approx(1 / 2)
    assert (report.metrics["lines"], report.metrics["unreadable"]) == (2, 1)
    assert report.kind == "lines"
    assert report.verdict is Verdict.FAIL  # 0.83 against a floor of 0.9
    with pytest.raises(BadInput, match="a detection bundle"):
        bench_lines([tiny_release.detection], read_lines(tmp_path))
