import cv2
import numpy as np
import pytest

from ocr_ops.data.render_pages import PageRenderer, RenderedPage, crop_ink, page_digest
from ocr_ops.data.render_text import CHARSET


@pytest.fixture(scope="module")
def pages() -> list[RenderedPage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCR_OPS_FONTS", "/usr/share/fonts/truetype/dejavu:/usr/share/fonts/truetype/liberation2")
        renderer = PageRenderer(CHARSET)
        return [renderer.page(np.random.default_rng(seed), side=500) for seed in range(40)]


def test_polygons_lie_on_the_page_clockwise_from_the_top_left(pages: list[RenderedPage]) -> None:
    for page in pages:
        height, width = page.image.shape
        for segment in page.segments:
            x, y = segment.polygon.T
            assert segment.polygon.dtype == np.float32
            assert -8 <= x.min() < x.max() <= width + 8
            assert -8 <= y.min() < y.max() <= height + 8
            assert x[0] == x[3] < x[1] == x[2]
            assert y[0] == y[1] < y[2] == y[3]


def test_something_is_printed_in_every_segment(pages: list[RenderedPage]) -> None:
    for page in pages:
        for segment in page.segments:
            x0, y0 = np.maximum(segment.polygon[0].astype(int), 0)
            x1, y1 = segment.polygon[2].astype(int)
            assert page.image[y0 : y1 + 1, x0 : x1 + 1].std() > 0, segment.text


def test_segments_do_not_lie_on_each_other(pages: list[RenderedPage]) -> None:
    for page in pages:
        covered = np.zeros(page.image.shape, np.uint8)
        total = 0.0
        for segment in page.segments:
            cv2.fillPoly(covered, [segment.polygon.astype(np.int32)], (1,))
            total += cv2.contourArea(segment.polygon)
        assert total <= 1.35 * max(1, int(covered.sum()))


def test_some_pages_have_no_text_and_most_have_plenty(pages: list[RenderedPage]) -> None:
    counts = [len(page.segments) for page in pages]
    assert 0 in counts
    assert np.median(counts) > 10


def test_pages_are_a_pure_function_of_the_seed() -> None:
    one, other = PageRenderer(CHARSET), PageRenderer(CHARSET)
    assert page_digest(one, 5) == page_digest(other, 5)
    assert page_digest(one, 5) != page_digest(one, 6)


def test_the_ink_of_a_pasted_crop_leaves_its_paper_behind() -> None:
    crop = np.full((40, 120), 180, np.uint8)
    cv2.putText(crop, "TOTAL", (8, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (40,), 2)
    ink = crop_ink(crop)
    edges = np.concatenate((ink[0], ink[-1], ink[:, 0], ink[:, -1]))
    assert edges.max() < 30
    assert ink.max() > 120


def test_pasted_crops_have_boxes_and_no_text() -> None:
    crop = np.full((40, 90), 230, np.uint8)
    cv2.putText(crop, "12.50", (4, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (30,), 2)
    renderer = PageRenderer(CHARSET, crops=[crop], paste_share=1.0)
    segments = [s for seed in range(12) for s in renderer.page(np.random.default_rng(seed), 500).segments]
    assert any(segment.text == "" for segment in segments)
    assert any(segment.text for segment in segments)
