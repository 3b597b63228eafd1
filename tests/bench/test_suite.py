"""A release is read end to end, and only evidence passes."""

from pathlib import Path

import cv2
import pytest

from ocr_ops.bench.suite import bench_release
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Verdict
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import draw

LINES = ("abc cab", "cc ab a", "bbb")


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
