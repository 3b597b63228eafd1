"""Detected regions are matched one to one, as ICDAR does."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ocr_ops.bench.accuracy import iou, match_regions, matched
from ocr_ops.core.scores import Match


def box(x: float, y: float, width: float, height: float) -> NDArray[np.float32]:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


def test_iou_of_known_rectangles() -> None:
    """Equal is one, apart is nothing, half over half is a third."""
    assert iou(box(0, 0, 10, 10), box(0, 0, 10, 10)) == pytest.approx(1)
    assert iou(box(0, 0, 10, 10), box(20, 0, 10, 10)) == 0
    assert iou(box(0, 0, 10, 10), box(5, 0, 10, 10)) == pytest.approx(1 / 3)


def test_each_region_is_hit_once() -> None:
    """Two boxes over one line are one hit and one false alarm."""
    line = box(0, 0, 100, 10)
    assert match_regions([line], [line, box(1, 0, 100, 10)]) == Match(hits=1, found=2, expected=1)


def test_the_best_overlap_takes_the_pair() -> None:
    """Greedy by overlap, not by order."""
    near, exact = box(0, 0, 100, 13), box(0, 0, 100, 10)
    match = match_regions([box(0, 0, 100, 10), box(0, 4, 100, 10)], [near, exact])
    assert match.hits == 2


def test_a_hit_names_both_regions() -> None:
    """By their indices; what was not found has none."""
    lines = [box(0, 0, 100, 10), box(0, 30, 100, 10), box(0, 60, 100, 10)]
    assert set(matched(lines, [lines[2], lines[0]])) == {(0, 1), (2, 0)}


def test_what_covers_an_ignored_region_is_forgiven() -> None:
    """Neither a hit nor a false alarm."""
    illegible = box(0, 50, 100, 10)
    line = box(0, 0, 100, 10)
    assert match_regions([line], [line, box(0, 50, 90, 10)], [illegible]) == Match(1, 1, 1)


def test_twisted_labels_still_match() -> None:
    """Corners in a crossed order are taken by their hull."""
    twisted = box(0, 0, 100, 10)[[0, 2, 1, 3]]
    assert match_regions([twisted], [box(0, 0, 100, 10)]).hits == 1


def test_an_empty_page_gives_no_evidence() -> None:
    """Nothing to find and nothing found is no score."""
    assert match_regions([], []).f1 is None
