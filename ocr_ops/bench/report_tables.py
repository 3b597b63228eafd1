"""The tables of a report: every cell, the leader beside the others, slices, layers, facts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ocr_ops.bench import standing
from ocr_ops.bench.figures import metric, points, share, sure, times
from ocr_ops.bench.run import Result
from ocr_ops.bench.standing import Board
from ocr_ops.bench.stats import Interval

LAYERS, SLICED = 30, 8
"""Shown at most: layers, and columns of slices."""
SPREAD = 0.05
"""Of accuracy, from the palest slice to the darkest at least: little differences stay pale."""


def row(
    board: Board, result: Result, columns: Sequence[str], names: Mapping[str, str], tones: Mapping[str, str]
) -> dict[str, Any]:
    """A line of the table of all cells."""
    cells = []
    for column in columns:
        heading, written, way = metric(column)
        known = [other.metrics[column] for other in board.results if column in other.metrics]
        value = result.metrics.get(column)
        best = way != 0 and len(known) > 1 and value == (max(known) if way > 0 else min(known))
        cells.append({"heading": heading, "text": "-" if value is None else written(value), "best": best})
    badges = [
        ("leads", result is board.leader),
        ("champion", result is board.champion),
        ("front", result in board.front),
        ("never steady", "cpu_ms" in result.metrics and "warm_up" not in result.metrics),
    ]
    judged = standing.verdict([result])
    return {
        "name": names[result.cell.name],
        "tone": tones[result.cell.name],
        "cell": result.cell,
        "badges": [text for text, holds in badges if holds],
        "cells": cells,
        "verdict": str(judged) if judged else "",
    }


def rivals(board: Board, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The leader beside each other cell: figures, their intervals, and where those lie on an axis of their column."""
    sides = [(rival.cpu, rival.wall, rival.gain) for rival in board.rivals]
    spans = [_span([side[column] for side in sides], ratio=column < 2) for column in range(3)]
    return [
        {
            "name": names[rival.result.cell.name],
            "champion": rival.result is board.champion,
            "measured": [
                (heading, _place(side[column], spans[column], ratio=column < 2))
                for column, heading in enumerate(("CPU", "time", "accuracy, points"))
            ],
            "pairs": next((one.count for one in reversed(side) if one), 0),
        }
        for rival, side in zip(board.rivals, sides, strict=True)
    ]


def _span(found: Sequence[Interval | None], *, ratio: bool) -> float:
    """How far from no difference an axis goes."""
    edges = [edge for one in found if one for edge in (one.low, one.high)]
    return max((abs(math.log(edge) if ratio else edge) for edge in edges), default=0) * 1.1 or 1.0


def _place(interval: Interval | None, span: float, *, ratio: bool) -> dict[str, Any] | None:
    """An interval in percent of an axis whose middle means no difference."""
    if interval is None:
        return None
    edges = interval.low, interval.value, interval.high
    low, value, high = (50 + 48 * (math.log(edge) if ratio else edge) / span for edge in edges)
    written, unit = (times, " \N{MULTIPLICATION SIGN}") if ratio else (points, "")
    good = (value < 50) if ratio else (value > 50)
    return {
        "text": (f"{written(interval.value)}{unit}", f"{written(interval.low)} to {written(interval.high)}"),
        "low": low,
        "value": value,
        "wide": high - low,
        "tone": ("good" if good else "bad") if sure(interval, 1 if ratio else 0) else "even",
    }


def slices(board: Board, results: Sequence[Result], names: Mapping[str, str]) -> dict[str, Any]:
    """Accuracy by slice as rows of (slice, items, cells); the darker, the lower."""
    shown = [result for result in results if result.slices][:SLICED]
    titles = dict.fromkeys(name for result in shown for name in result.slices)
    table = {
        name: [standing.accuracy(board.measure, result.slices.get(name, {})) for result in shown] for name in titles
    }
    known = [value for row in table.values() for value in row if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    rows = []
    for name, values in sorted(table.items(), key=lambda entry: entry[0].partition(": ")[0]):
        count = max(result.slices.get(name, {}).get("items", 0.0) for result in shown)
        heats = [None if v is None else (share(v), round((high - v) / max(high - low, SPREAD), 2)) for v in values]
        rows.append({"name": name, "items": int(count), "cells": heats})
    return {"heads": [names[result.cell.name] for result in shown], "rows": rows}


def worse(board: Board, most: int = 6) -> list[str]:
    """Slices the leader reads worse than the first of its rivals, the worst first."""
    if board.leader is None or not board.rivals:
        return []
    rival, lost = board.rivals[0].result, []
    for name, metrics in board.leader.slices.items():
        own, other = (standing.accuracy(board.measure, m) for m in (metrics, rival.slices.get(name, {})))
        if own is not None and other is not None and own < other:
            count = int(metrics.get("items", 0))
            told = f"{name}, {count} items: {share(own)} beside {share(other)} ({points(own - other)} points)"
            lost.append((own - other, told))
    return [text for _, text in sorted(lost)[:most]]


def layers(sensitivity: Sequence[tuple[str, float]]) -> list[tuple[str, str, float]]:
    """Name, loss, and its share of the largest, percent; the largest first."""
    most = max((abs(loss) for _, loss in sensitivity), default=0) or 1.0
    worst = sorted(sensitivity, key=lambda entry: -entry[1])[:LAYERS]
    return [(name, f"{loss:.3g}", 100 * max(loss, 0) / most) for name, loss in worst]


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {found}" for name, found in value.items())
        return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)

    return [(name.replace("_", " "), told) for name, value in values.items() if (told := text(value))]
