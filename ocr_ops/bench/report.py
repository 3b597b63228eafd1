"""A run of the benchmark for people: one HTML file that needs nothing else, and Markdown for a pull request."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from ocr_ops.bench import marks, report_picture, report_tables, standing
from ocr_ops.bench.figures import (
    MEASURES,
    READS,
    beside,
    better,
    cheaper,
    metric,
    milliseconds,
    place,
    points,
    share,
)
from ocr_ops.bench.report_items import Picture, worst_items
from ocr_ops.bench.report_picture import Dot, Strip
from ocr_ops.bench.run import Result, Run
from ocr_ops.bench.standing import Board
from ocr_ops.core.verdict import Verdict

CHECKED, STRIPS, SHADES = 12, 16, 6
"""Shown at most: cells with their checks, rows of times; colours there are."""
_UNTOLD = {"pages", "lines", "warm_up"}
"""Metrics that the table leaves to the record."""
_WIDTHS = 860, 380
"""Pixels: drawings for a screen or paper, and for a phone."""


def page(run: Run, picture: Picture, sensitivity: Sequence[tuple[str, float]] = (), champion: str | None = None) -> str:
    """The report as HTML without script or anything to load.

    `picture` gives the image of an item by its number, uint8 (h, w) or (h, w, 3) RGB, or None. `sensitivity`: layers
    and what quantizing each alone costs. `champion`: the digest, version or name of the cell that serves.
    """
    found = standing.boards(run, champion)
    return _TEMPLATES.get_template("report.html").render(
        run=run,
        **_heading(run),
        boards=[_board(run, board, picture) for board in found],
        layers=report_tables.layers(sensitivity),
        quiet_layers=max(0, len(sensitivity) - report_tables.LAYERS),
        environment=report_tables.facts(run.environment.model_dump()),
    )


def markdown(run: Run, sensitivity: Sequence[tuple[str, float]] = (), champion: str | None = None) -> str:
    """The report in short, for a pull request."""
    found = standing.boards(run, champion)
    return _TEMPLATES.get_template("report.md").render(
        run=run,
        **_heading(run),
        boards=[_board(run, board, lambda _: None) | {"worse": report_tables.worse(board)} for board in found],
        layers=report_tables.layers(sensitivity)[:5],
        environment=report_tables.facts(run.environment.model_dump()),
    )


def lead(run: Run, board: Board) -> list[str]:
    """What a manager should know, a sentence each: the leader, then how it stands against up to three others."""
    best = board.leader
    if best is None:
        return ["Only peers were measured here."]
    right, dear = standing.accuracy(board.measure, best.metrics), best.metrics.get("cpu_ms")
    reads = READS[board.measure].format(share(right)) if right is not None else "was not scored"
    price = f", for {milliseconds(dear)} of CPU a {run.unit}" if dear is not None else ""
    names = standing.labels(board.results)
    told = [f"{names[best.cell.name]} {reads}{price}."]
    for rival in board.rivals[:3]:
        parts = [cheaper(rival.cpu)] if rival.cpu else []
        parts += [better(rival.gain)] if rival.gain else []
        if parts:
            champion = "the champion, " if rival.result is board.champion else ""
            told.append(f"Against {champion}{names[rival.result.cell.name]}: {'; '.join(parts)}.")
    return told


def _heading(run: Run) -> dict[str, Any]:
    ours = [result for result in run.results if result.cell.kind != "peer"]
    judged = standing.verdict(ours)
    passed = sum(standing.verdict([result]) is Verdict.PASS for result in ours)
    checks = [check for result in ours for check in result.checks]
    missed = [check for check in checks if check.verdict is not Verdict.PASS]
    if judged is None:
        told = "Measured only: nothing was asked of any cell."
    elif not missed:
        told = f"{len(checks)} of {len(checks)} checks are met."
    else:
        told = f"{passed} of {len(ours)} cells pass; {len(missed)} of {len(checks)} checks are not met."
    return {"verdict": str(judged) if judged else "NOT JUDGED", "judgement": told, "missed": missed}


def _board(run: Run, board: Board, picture: Picture) -> dict[str, Any]:
    names, tones = standing.labels(board.results), dict(_tones(board.results))
    first = [board.leader, *(rival.result for rival in board.rivals)] if board.leader else list(board.results)
    telling = (board.leader, board.champion)
    by_weight = sorted(first, key=lambda r: (r not in telling, r.cell.kind != "peer", r not in board.front))
    dots = [
        Dot(
            label=names[result.cell.name],
            tone=tones[result.cell.name],
            cost_ms=result.metrics["cpu_ms"],
            accuracy=right,
            peer=result.cell.kind == "peer",
            front=result in board.front,
            note="champion" if result is board.champion else "",
        )
        for result in by_weight
        if "cpu_ms" in result.metrics and (right := standing.accuracy(board.measure, result.metrics)) is not None
    ]
    strips = [
        Strip(
            label=names[result.cell.name],
            tone=tones[result.cell.name],
            figures=" \N{MIDDLE DOT} ".join(
                f"{name} {milliseconds(result.metrics[f'{name}_ms'])}"
                for name in ("p50", "p95")
                if f"{name}_ms" in result.metrics
            ),
            samples=result.samples.get("wall_ms", ()),
        )
        for result in first[:STRIPS]
    ]
    front = [report_picture.pareto(dots, MEASURES[board.measure], run.unit, width) for width in _WIDTHS if dots]
    spread = [report_picture.latencies(strips, run.unit, width) for width in _WIDTHS]
    columns = sorted({name for result in board.results for name in result.metrics} - _UNTOLD, key=place)
    return {
        "measure": MEASURES[board.measure],
        "lead": lead(run, board),
        "tiles": _tiles(run, board),
        "checks": _checks(first, names),
        "pareto": [Markup(svg) for svg in front],  # noqa: S704 - built as XML, which escapes
        "latencies": [Markup(svg) for svg in spread if svg],  # noqa: S704
        "columns": [metric(name)[0] for name in columns],
        "rows": [report_tables.row(board, result, columns, names, tones) for result in board.results],
        "unsteady": any("warm_up" not in result.metrics for result in board.results),
        "rivals": report_tables.rivals(board, names),
        "slices": report_tables.slices(board, standing.distinct(first), names),
        **worst_items(run, board, picture, {name: (label, tones[name]) for name, label in names.items()}),
        "leader": names[board.leader.cell.name] if board.leader else "",
        "verdict": str(standing.verdict([board.leader]) or "") if board.leader else "",
    }


def _tiles(run: Run, board: Board) -> list[tuple[str, str, str]]:
    """The leader's figures in large: heading, figure, what it is beside the first rival."""
    best = board.leader
    if best is None:
        return []
    names = standing.labels(board.results)
    rival = board.rivals[0] if board.rivals else None
    other = names[rival.result.cell.name] if rival else ""
    right = standing.accuracy(board.measure, best.metrics)
    tiles = []
    if right is not None:
        told = f"{points(rival.gain.value)} points beside {other}" if rival and rival.gain else ""
        tiles.append((MEASURES[board.measure], share(right), told))
    late = "p95" if "p95_ms" in best.metrics else "p50"
    for name, heading in (("cpu_ms", f"CPU a {run.unit}"), (f"{late}_ms", f"time of a {run.unit}, {late}")):
        ratio = None if rival is None else rival.cpu if name == "cpu_ms" else rival.wall
        told = f"{beside(ratio)} {other}{'' if name == 'cpu_ms' else ', median'}" if ratio else ""
        if name in best.metrics:
            tiles.append((heading, milliseconds(best.metrics[name]), told))
    for name in ("peak_mb", "size_mb", "items_per_s"):
        if name in best.metrics and len(tiles) < 4:
            theirs = rival.result.metrics.get(name) if rival else None
            heading, written, _ = metric(name)
            told = f"{other}: {written(theirs)}" if theirs is not None else ""
            tiles.append((heading, written(best.metrics[name]), told))
    return tiles


def _checks(results: Sequence[Result], names: Mapping[str, str]) -> dict[str, Any]:
    """What was asked of each of ours; of many, only of those that failed."""
    judged = [result for result in results if result.checks]
    shown = judged if len(judged) <= CHECKED else [result for result in judged if standing.failed(result)]
    rows = [
        (
            names[result.cell.name],
            [(check.name.replace(f" of {result.cell.name}", ""), check) for check in result.checks],
        )
        for result in shown
    ]
    return {"rows": rows, "others": len(judged) - len(shown)}


def _tones(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """A colour a subject, peers in colours of their own."""
    seen: dict[str, dict[object, int]] = {"own": {}, "peer": {}}
    for result in results:
        side = "peer" if result.cell.kind == "peer" else "own"
        number = seen[side].setdefault(result.cell.subject or result.cell.name, len(seen[side]))
        yield result.cell.name, f"{side}{number % (4 if side == 'peer' else SHADES)}"


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"visible": marks.visible, "inert": marks.inert}
