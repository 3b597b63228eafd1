"""Releases and peers read the same pages in turn, and only what was measured is told."""

import sys
from pathlib import Path

import cv2
import pytest

from ocr_ops.bench.compare import compare
from ocr_ops.bench.peers import opened
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from tests.tiny import draw

PAGES = (("abc cab", "cc"), ("bbb a",), ())
SAYS = "print('abc cc')"


@pytest.fixture
def pages(tmp_path: Path) -> PageSet:
    """Three words, two words, none."""
    labelled = []
    for number, lines in enumerate(PAGES):
        write_atomic(tmp_path / f"{number}.png", cv2.imencode(".png", draw(lines))[1].tobytes())
        regions = tuple(Region(polygon=((0, 0), (9, 0), (9, 9), (0, 9)), text=text) for text in lines)
        labelled.append(LabelledPage(image=f"{number}.png", regions=regions))
    return write_index(tmp_path, tuple(labelled))


@pytest.fixture
def peer(tmp_path: Path) -> str:
    """A peer that always says `abc cc`."""
    (tmp_path / "peer.py").write_text(SAYS)
    return f"cmd:{sys.executable} {tmp_path / 'peer.py'} {{image}}"


def test_all_read_all_and_are_scored_alike(tiny_release: Release, pages: PageSet, peer: str) -> None:
    """Words over all pages, pages on average, and CPU against the peer's; the policy binds releases, not peers."""
    with opened([tiny_release], [peer]) as systems:
        name = systems.peers[0].name
        found = compare(systems, pages, Policy(max_cpu_ratio={name: 1e6, "rapidocr": 0.2}))
    ours, theirs = found.scores
    assert ours.metrics["word_f1"] == ours.metrics["macro_f1"] == 1
    assert theirs.metrics["word_f1"] == pytest.approx(2 * 2 / (5 + 6))  # 2 right of 6 said, 5 expected
    assert theirs.metrics["macro_f1"] == pytest.approx((4 / 5 + 0 + 0) / 3)
    assert ours.metrics[f"cpu_ratio.{name}"] == pytest.approx(ours.metrics["cpu_s"] / theirs.metrics["cpu_s"])
    assert theirs.metrics[f"cpu_ratio.{name}"] == 1
    assert [len(values) for values in ours.samples.values()] == [3] * 5
    assert type(found).parse_json(found.canonical, "itself") == found

    assert [check.verdict for check in ours.checks] == ["PASS", "PASS", "INVALID"]  # RapidOCR was not there
    assert [row["verdict"] for row in found.rows] == ["INVALID", None]
    assert found.rows[0].keys() == found.rows[1].keys()
