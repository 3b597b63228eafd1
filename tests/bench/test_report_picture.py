"""Drawings stay legible: names cover neither each other nor a dot, ticks are round, and figures are short."""

from itertools import combinations
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr_ops.bench.figures import milliseconds
from ocr_ops.bench.report_picture import LABELS, Dot, Strip, _ticks, latencies, pareto
from ocr_ops.bench.report_picture import _Scale as Scale
from ocr_ops.bench.report_picture import _width as width

Box = tuple[float, float, float, float]


def dot(label: str, cost: float, accuracy: float, **more: object) -> Dot:
    known: dict[str, object] = {"tone": "own0", "peer": False, "front": False, **more}
    return Dot(label=label, cost_ms=cost, accuracy=accuracy, **known)  # type: ignore[arg-type]


def drawn(svg: str) -> Element:
    return fromstring(svg)  # noqa: S314 - our own


def names(svg: Element) -> list[Box]:
    """Where names lie, as near as letters of one width tell."""
    found = []
    for text in svg.iter("text"):
        if text.get("class") not in {"name", "note"}:
            continue
        x, y, wide = float(text.get("x", 0)), float(text.get("y", 0)), width(text.text or "")
        left = x - {"start": 0, "middle": wide / 2, "end": wide}[text.get("text-anchor", "start")]
        found.append((left, y - 10, left + wide, y + 3))
    return found


def apart(left: Box, right: Box) -> bool:
    return left[2] <= right[0] or right[2] <= left[0] or left[3] <= right[1] or right[3] <= left[1]


CROWD = [
    dot("detection-small int8 + recognition-small int8", 344, 0.879, note="champion", front=True),
    dot("detection-small fp32 + recognition-small fp32", 520, 0.880, front=True),
    dot("detection-tiny int8 + recognition-tiny int8", 190, 0.874, front=True),
    dot("detection-tiny fp32 + recognition-tiny fp32", 300, 0.875, front=True),
    dot("rapidocr", 3726, 0.871, peer=True),
    dot("tesseract", 877, 0.714, peer=True),
]


@pytest.mark.parametrize("wide", [860, 380])
def test_names_cover_neither_each_other_nor_a_dot(wide: float) -> None:
    svg = drawn(pareto(CROWD, "word F1", "page", wide))
    boxes = names(svg)
    told = " ".join(text.text or "" for text in svg.iter("text"))
    assert "champion" in told
    assert told.count("detection-") == (4 if wide > 500 else 2)  # on a phone the others have no room
    assert all(apart(left, right) for left, right in combinations(boxes, 2))
    for circle in svg.iter("circle"):
        x, y = float(circle.get("cx", 0)), float(circle.get("cy", 0))
        assert all(apart((x - 6, y - 6, x + 6, y + 6), box) for box in boxes)
    assert all(box[0] >= 0 and box[2] <= wide for box in boxes)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(1e-3, 1e6), st.floats(0, 1), st.text(max_size=60)), min_size=1, max_size=30),
    st.sampled_from([860, 380]),
)
def test_any_cells_can_be_drawn(cells: list[tuple[float, float, str]], wide: float) -> None:
    """One cell, thirty, all alike, far apart, of any name."""
    dots = [dot("".join(c for c in label if c.isprintable()), cost, right) for cost, right, label in cells]
    svg = drawn(pareto(dots, "word F1", "page", wide))
    assert len(list(svg.iter("circle"))) == len(dots)
    assert len([text for text in svg.iter("text") if text.get("class") == "name"]) <= LABELS * 4


def test_the_front_is_drawn_through_its_cells() -> None:
    svg = drawn(pareto(CROWD, "word F1", "page", 860))
    (line,) = svg.iter("polyline")
    assert len(line.get("points", "").split()) == 4 + 3 + 1  # a corner a cell, one between each two, and the margin


def test_a_row_a_cell_that_has_samples_and_no_more_ticks_than_can_be_told_apart() -> None:
    strips = [Strip("a", "own0", "p50 5 ms", tuple(map(float, range(1, 5000)))), Strip("none", "own1", "", ())]
    svg = drawn(latencies(strips, "line", 860))
    assert len([line for line in svg.iter("line") if line.get("class") == "rug"]) == 120
    assert len(list(svg.iter("rect"))) == 1
    assert latencies(strips[1:], "line", 860) == ""


@given(st.floats(1e-2, 1e5), st.floats(1.2, 1e4))
def test_ticks_are_round_and_apart(low: float, span: float) -> None:
    scale = Scale(low, low * span, 0, 800, log=True)
    ticks = _ticks(scale, 70)
    assert ticks == sorted(ticks)
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert all(f"{tick:.1e}" == f"{tick:.1e}" and float(f"{tick:.1e}") == pytest.approx(tick) for tick in ticks)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.084, "0.08 ms"), (3.094, "3.09 ms"), (19.0, "19 ms"), (343.6, "344 ms"), (999.6, "1 s"), (37260, "37.3 s")],
)
def test_times_have_three_digits(value: float, told: str) -> None:
    assert milliseconds(value).replace("\N{NO-BREAK SPACE}", " ") == told
