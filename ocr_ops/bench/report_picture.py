"""The report's drawings as SVG whose colours and letters are the page's: they follow light, dark and print.

Each is drawn for a given width, so that letters stay as large on a phone as on a screen.
"""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, floor, hypot, log10
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from ocr_ops.bench.figures import milliseconds, share

TICKS = 120
"""Samples of a row that are drawn at most; of more, as many of their quantiles."""
LABELS = 10
"""Dots that are named, if there is room; of the others the table tells."""
_LETTER = 12.0
_LINE = 15.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 16.0, 24.0, 46.0
_WAYS = (
    *((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (-1, -1), (1, 1), (-1, 1)),
    *((1, -0.5), (-1, -0.5), (1, 0.5), (-1, 0.5), (0.5, -1), (-0.5, -1), (0.5, 1), (-0.5, 1)),
)

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Dot:
    """A cell in the picture of accuracy against cost. `tone` is the CSS class that colours it."""

    label: str
    tone: str
    cost_ms: float
    accuracy: float
    peer: bool
    front: bool
    note: str = ""
    """`champion`, or nothing."""


@dataclass(frozen=True, slots=True)
class Strip:
    """What one cell's items took, milliseconds."""

    label: str
    tone: str
    figures: str
    """Said at its right."""
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From a value to a place along an axis; evenly by powers where `log`."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, here = (log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.stop - self.start) * (here - low) / (high - low)


def pareto(dots: Sequence[Dot], measure: str, unit: str, width: float) -> str:
    """Accuracy up, cheap to the left, the front drawn. The first `LABELS` dots are named; give them by importance."""
    height = max(340, 0.3 * width + 150)
    svg = _svg("pareto", width, height, f"{measure} against CPU time of a {unit}: {_told(dots)}")
    x = _costs([dot.cost_ms for dot in dots], _LEFT, width - _RIGHT, 1.6)
    right = [dot.accuracy for dot in dots]
    room = max((max(right) - min(right)) * 0.2, 0.005)
    y = _Scale(min(right) - room, max(right) + 1.6 * room, height - _BOTTOM, _TOP, log=False)
    for cost in _ticks(x, 70):
        _line(svg, (x(cost), _TOP), (x(cost), height - _BOTTOM), "grid")
        _tick(svg, (x(cost), height - _BOTTOM + 18), milliseconds(cost), width)
    step = _step(y.high - y.low)
    places = max(0, -floor(log10(step * 100)))
    for number in range(ceil(y.low / step), floor(min(y.high, 1) / step) + 1):
        _line(svg, (_LEFT, y(number * step)), (width - _RIGHT, y(number * step)), "grid")
        _text(svg, (_LEFT - 8, y(number * step) + 4), f"{number * step:.{places}%}", "tick", "end")
    _text(svg, (width - _RIGHT, height - 8), f"\N{LEFTWARDS ARROW} cheaper: CPU of a {unit}, log scale", "axis", "end")
    _text(svg, (_LEFT - 44, 12), f"\N{UPWARDS ARROW} {measure}", "axis")
    front = sorted((dot for dot in dots if dot.front), key=lambda dot: dot.cost_ms)
    walls = list(_front(svg, [(x(dot.cost_ms), y(dot.accuracy)) for dot in front], width - _RIGHT, y.start))
    spots = [(dot, (x(dot.cost_ms), y(dot.accuracy))) for dot in dots]
    for dot, (across, down) in reversed(spots):
        group = SubElement(svg, "g", {"class": f"dot {dot.tone}"})
        SubElement(group, "title").text = f"{dot.label}: {share(dot.accuracy)}, {milliseconds(dot.cost_ms)}"
        if dot.note:
            SubElement(group, "circle", {"cx": _n(across), "cy": _n(down), "r": "12", "class": "ring"})
        if dot.peer:
            corners = ((0, -7.5), (7, 5.5), (-7, 5.5))
            points = " ".join(f"{_n(across + a)},{_n(down + b)}" for a, b in corners)
            SubElement(group, "polygon", {"points": points})
        else:
            SubElement(group, "circle", {"cx": _n(across), "cy": _n(down), "r": "6.5"})
    field = (_LEFT + 2, _TOP - 6, width - 4, height - _BOTTOM - 2)
    _names(svg, spots, walls, field)
    return _done(svg)


def latencies(strips: Sequence[Strip], unit: str, width: float) -> str:
    """A row a cell, on one log axis: every item a tick, half of them in the box, nine of ten on the line."""
    known = [strip for strip in strips if strip.samples]
    # Where a name and its figures do not fit beside each other, these stand below it.
    tight = any(_width(strip.label) + _width(strip.figures) > width - 36 for strip in known)
    pitch, top = 70.0 if tight else 54.0, 6.0
    height = top + pitch * len(known) + 44
    svg = _svg("latencies", width, height, f"Time of a {unit} by cell, log scale")
    if not known:
        return ""
    x = _costs([value for strip in known for value in strip.samples], 12, width - 12, 1.15)
    for tick in _ticks(x, 70):
        _line(svg, (x(tick), top + 8), (x(tick), height - 40), "grid")
        _tick(svg, (x(tick), height - 24), milliseconds(tick), width)
    _text(svg, (width - 12, height - 5), f"time of a {unit}, log scale", "axis", "end")
    for row, strip in enumerate(known):
        base = top + row * pitch
        values = np.quantile(strip.samples, np.linspace(0, 1, min(TICKS, len(strip.samples))))
        low, q1, middle, q3, high = (x(float(v)) for v in np.quantile(strip.samples, (0.05, 0.25, 0.5, 0.75, 0.95)))
        group = SubElement(svg, "g", {"class": strip.tone})
        _text(group, (12, base + 14), _cut(strip.label, int((width - 24) / _width("n"))), "name")
        if tight:
            base += _LINE
            _text(group, (12, base + 14), strip.figures, "tick")
        else:
            _text(group, (width - 12, base + 14), strip.figures, "tick", "end")
        for value in values:
            _line(group, (x(float(value)), base + 24), (x(float(value)), base + 44), "rug")
        _line(group, (low, base + 34), (high, base + 34), "whisker")
        box = {"x": _n(q1), "y": _n(base + 27), "width": _n(max(q3 - q1, 1)), "height": "14", "rx": "3", "class": "box"}
        SubElement(group, "rect", box)
        _line(group, (middle, base + 25), (middle, base + 43), "median")
    return _done(svg)


def _front(svg: Element, corners: Sequence[Point], stop: float, base: float) -> Iterator[Box]:
    """The front as steps, what it dominates shaded. Its stretches, for labels to keep off."""
    if not corners:
        return
    steps = [corners[0]]
    for (_, down), (across, lower) in pairwise(corners):
        steps += [(across, down), (across, lower)]
    steps.append((stop, steps[-1][1]))
    line = " ".join(f"{_n(a)},{_n(b)}" for a, b in steps)
    shade = f"{_n(steps[0][0])},{_n(base)} {line} {_n(stop)},{_n(base)}"
    SubElement(svg, "polygon", {"points": shade, "class": "beaten"})
    SubElement(svg, "polyline", {"points": line, "class": "front"})
    for (a, b), (c, d) in pairwise(steps):
        yield min(a, c) - 2, min(b, d) - 2, max(a, c) + 2, max(b, d) + 2


def _names(svg: Element, dots: Sequence[tuple[Dot, Point]], walls: Sequence[Box], field: Box) -> None:
    """Names of the first dots beside them, with a line where farther off; none where it would cover something."""
    taken = [(a - 9, b - 9, a + 9, b + 9) for _, (a, b) in dots]
    for dot, (across, down) in dots[:LABELS]:
        parts = dot.label.replace(" + ", " +\n").split("\n")
        lines = [line for part in parts for line in textwrap.wrap(part, 24, break_on_hyphens=False)][:4] or ["?"]
        lines += [dot.note] if dot.note else []
        wide, tall = max(map(_width, lines)), _LINE * len(lines)
        best: tuple[float, Box] | None = None
        for far, way in product((12, 22, 36, 54, 76, 100, 130, 165), _WAYS):
            left = across + way[0] * far - (wide if way[0] < 0 else wide / 2 if not way[0] else 0)
            head = down + way[1] * far - (tall if way[1] < 0 else tall / 2 if not way[1] else 0)
            box = (left, head, left + wide, head + tall)
            if box[0] < field[0] or box[1] < field[1] or box[2] > field[2] or box[3] > field[3]:
                continue
            near = _nearest(box, (across, down))
            if any(_shared(box, other) for other in taken) or _crosses((across, down), near, taken[len(dots) :]):
                continue
            awkward = far + sum(_shared(box, wall) for wall in walls) / 9
            if best is None or awkward < best[0]:
                best = (awkward, box)
        if best is None:
            continue
        box = best[1]
        taken.append(box)
        near = _nearest(box, (across, down))
        if hypot(near[0] - across, near[1] - down) > 16:
            _line(svg, (across, down), near, "lead")
        middle = (box[0] + box[2]) / 2
        anchor, place = ("start", box[0]) if box[0] >= across else ("end", box[2])
        if box[0] < across < box[2]:
            anchor, place = "middle", middle
        for number, line in enumerate(lines):
            kind = "note" if dot.note and number == len(lines) - 1 else "name"
            _text(svg, (place, box[1] + _LINE * (number + 0.8)), line, kind, anchor)


def _nearest(box: Box, spot: Point) -> Point:
    return min(max(spot[0], box[0]), box[2]), min(max(spot[1], box[1]), box[3])


def _crosses(start: Point, stop: Point, boxes: Sequence[Box]) -> bool:
    """Whether a line runs through one of the boxes, as near as a few of its points tell."""
    along = [(start[0] + (stop[0] - start[0]) * t, start[1] + (stop[1] - start[1]) * t) for t in np.linspace(0, 1, 16)]
    return any(left < x < right and top < y < bottom for x, y in along for left, top, right, bottom in boxes)


def _shared(left: Box, right: Box) -> float:
    """Area of what two boxes share."""
    wide, tall = min(left[2], right[2]) - max(left[0], right[0]), min(left[3], right[3]) - max(left[1], right[1])
    return max(wide, 0) * max(tall, 0)


def _costs(values: Sequence[float], start: float, stop: float, room: float) -> _Scale:
    known = [value for value in values if value > 0] or [1.0]
    return _Scale(min(known) / room, max(known) * room, start, stop, log=True)


def _ticks(scale: _Scale, apart: float) -> list[float]:
    """Round values of a log axis, no nearer to each other than `apart` pixels."""
    steps = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(range(10, 100)))
    best: list[float] = []
    for parts in steps:
        powers = range(floor(log10(scale.low)) - 1, ceil(log10(scale.high)) + 1)
        ticks = [part * 10.0**power for power in powers for part in parts]
        ticks = [tick for tick in ticks if scale.low <= tick <= scale.high]
        if len(ticks) > len(best) and all(scale(b) - scale(a) >= apart for a, b in pairwise(ticks)):
            best = ticks
    return best


def _step(span: float) -> float:
    """A round step that takes four to eight of itself to cover a span."""
    power = 10.0 ** floor(log10(span / 4))
    return next(part * power for part in (5, 2, 1) if part * power <= span / 4)


def _told(dots: Sequence[Dot]) -> str:
    return "; ".join(f"{dot.label} {share(dot.accuracy)} at {milliseconds(dot.cost_ms)}" for dot in dots[:LABELS])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _width(text: str) -> float:
    """About how wide a text is set, pixels."""
    return sum(_LETTER * (1.0 if unicodedata.east_asian_width(char) in "WF" else 0.6) for char in text)


def _svg(kind: str, width: float, height: float, label: str) -> Element:
    box = {"viewBox": f"0 0 {_n(width)} {_n(height)}", "class": kind, "role": "img", "aria-label": label}
    return Element("svg", box)


def _line(parent: Element, start: Point, stop: Point, kind: str) -> None:
    ends = {"x1": _n(start[0]), "y1": _n(start[1]), "x2": _n(stop[0]), "y2": _n(stop[1])}
    SubElement(parent, "line", {**ends, "class": kind})


def _text(parent: Element, at: Point, text: str, kind: str, anchor: str = "start") -> None:
    place = {"x": _n(at[0]), "y": _n(at[1])}
    SubElement(parent, "text", {**place, "class": kind, "text-anchor": anchor}).text = text


def _tick(parent: Element, at: Point, text: str, width: float) -> None:
    """Under its line, but never over the edge."""
    half = _width(text) / 2
    _text(parent, (min(max(at[0], half), width - half), at[1]), text, "tick", "middle")


def _done(svg: Element) -> str:
    return tostring(svg, encoding="unicode")


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
