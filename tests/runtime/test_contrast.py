import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.release import Release
from ocr_ops.runtime.contrast import EMPTY, FAINT, strong
from ocr_ops.runtime.pipeline import Reader
from tests import tiny


@given(st.integers(0, 255), st.integers(0, 255))
def test_only_a_faint_page_is_changed(ink: int, paper: int) -> None:
    page = np.full((40, 60, 3), paper, np.uint8)
    page[8:20, 8:50] = ink
    made = strong(page)
    if EMPTY <= abs(paper - ink) < FAINT:
        assert abs(int(made[0, 0, 0]) - int(made[10, 10, 0])) == 255
        assert (made[0, 0, 0] > made[10, 10, 0]) == (paper > ink)
    else:
        assert made is page


def test_levels_keep_their_order() -> None:
    page = np.tile(np.arange(100, 180, dtype=np.uint8)[:, None, None], (1, 64, 3))
    made = strong(page)[:, 0, 0].astype(int)
    assert (np.diff(made) >= 0).all()
    assert (made[0], made[-1]) == (0, 255)


def test_a_faint_page_is_read(tiny_release: Release) -> None:
    page = tiny.draw(["abc cab", "cc"])
    faint = (200 + (page.astype(np.float32) - 240) * 0.06).round().astype(np.uint8)
    assert Reader(tiny_release).read_page(faint).text == Reader(tiny_release).read_page(page).text
