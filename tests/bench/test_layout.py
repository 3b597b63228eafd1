"""Reading order and tables: how they are scored, and what the layout must reach on pages whose truth is drawn."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ocr_ops.bench.layout import Order, match_tables, order_of, segments_of
from ocr_ops.core.reading import Line, Page, Polygon, Word
from ocr_ops.data.render_articles import ARTICLES
from ocr_ops.data.render_layouts import ledger, receipt
from tests.benchmarks.layout import measured, rendered


def box(x: float, y: float) -> NDArray[np.float32]:
    return np.array([[x, y], [x + 40, y], [x + 40, y + 10], [x, y + 10]], np.float32)


def page(places: list[tuple[float, float]]) -> Page:
    """A page of words, a line each, in this order."""
    polygons: list[Polygon] = [tuple(map(tuple, box(x, y).tolist())) for x, y in places]
    words = [Word(text="a", confidence=1, polygon=polygon) for polygon in polygons]
    return Page(
        width=200,
        height=200,
        lines=tuple(Line(text="a", confidence=1, polygon=word.polygon, words=(word,)) for word in words),
    )


PLACES = [(0.0, 0.0), (0.0, 20.0), (100.0, 0.0), (100.0, 20.0)]
SEGMENTS = [box(x, y) for x, y in PLACES]


def test_order_counts_swapped_pairs_and_broken_steps() -> None:
    """Two columns, read as they should be, across, and backwards."""
    assert order_of(page(PLACES), SEGMENTS) == Order(swapped=0, pairs=6, broken=0, steps=3)
    across = [PLACES[i] for i in (0, 2, 1, 3)]
    assert order_of(page(across), SEGMENTS) == Order(swapped=1, pairs=6, broken=3, steps=3)
    backwards = order_of(page(PLACES[::-1]), SEGMENTS)
    assert (backwards.error, backwards.breaks) == (1.0, 1.0)
    assert (backwards + order_of(page(PLACES), SEGMENTS)).error == 0.5


def test_what_was_not_read_or_is_not_labelled_does_not_count() -> None:
    found = page([PLACES[0], (50.0, 100.0), PLACES[3]])
    assert segments_of([line.polygon for line in found.lines], SEGMENTS) == [0, -1, 3]
    assert order_of(found, SEGMENTS) == Order(swapped=0, pairs=1, broken=0, steps=1)
    assert order_of(page([]), SEGMENTS).error is None


def test_tables_are_matched_by_their_neighbours() -> None:
    """A shifted table is as good; a cell that was joined with the next one costs its neighbours."""
    whole = {(i, j): frozenset({2 * i + j}) for i in range(2) for j in range(2)}
    shifted = {(i + 3, j + 1): held for (i, j), held in whole.items()}
    assert match_tables([whole], [shifted]).f1 == 1.0
    joined = {(0, 0): frozenset({0, 1}), (1, 0): frozenset({2}), (1, 1): frozenset({3})}
    found = match_tables([whole], [joined])
    assert (found.hits, found.found, found.expected) == (1, 2, 4)


def test_columns_are_read_in_order() -> None:
    """Journals, newspapers and reports of two to four columns: of a hundred steps to the next line, hardly one fails.

    Read as rows across the page, nearly every step fails.
    """
    before, after = measured(list(rendered(ARTICLES, 8)))
    assert after.order.steps > 500
    assert before.order.breaks is not None
    assert after.order.breaks is not None
    assert before.order.breaks > 0.7
    assert after.order.breaks < 0.04
    assert (after.order.error or 0) < 0.03


def test_tables_come_out_as_cells() -> None:
    """Ruled and aligned ones, with cells missing here and there."""
    _, after = measured(list(rendered(((ledger, 1.0),), 6)))
    assert after.tables.expected > 300
    assert (after.tables.f1 or 0) > 0.7


def test_receipts_keep_their_rows() -> None:
    """Nothing of them is taken for columns."""
    before, after = measured(list(rendered(((receipt, 1.0),), 8, 1000)))
    assert after.order.breaks == pytest.approx(before.order.breaks, abs=0.01)
