"""A serving search as one picture: throughput against accuracy and memory, the winner beside today's settings."""

import io
from typing import Any

from ocr_ops.release.findings import Findings


def draw(found: Findings) -> bytes:
    """The picture, PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (a second)

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    accuracy, memory, history = figure.subplots(1, 3)
    told = f"{len(found.looks)} of {found.size} points measured, {len(found.front)} on the front"
    figure.suptitle(f"{found.study}: {told}")
    _scatter(accuracy, "accuracy", "word F1", found)
    accuracy.axvline(found.limits.min_accuracy, color="0.4", linestyle=":")
    _scatter(memory, "memory_mb", "memory, MB", found)
    _history(history, found)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _scatter(panel: Any, measure: str, label: str, found: Findings) -> None:
    on_front = {look.number for look in found.front}
    # Colours of Okabe and Ito (2008).
    groups = (
        ("measured", "o", "0.7", 20, [look for look in found.all if look.number not in on_front]),
        ("front", "o", "#0072B2", 34, found.front),
        ("today", "s", "#E69F00", 80, [found.today.look]),
        ("winner", "*", "#D55E00", 190, [found.winner.look]),
    )
    for name, marker, colour, size, members in groups:
        if members:
            across = [getattr(look.outcome, measure) for look in members]
            up = [look.outcome.throughput for look in members]
            panel.scatter(across, up, s=size, marker=marker, color=colour, label=name, edgecolor="white", zorder=3)
    panel.set_xlabel(label)
    panel.set_ylabel("pages a second at the SLO")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)


def _history(panel: Any, found: Findings) -> None:
    """Every look; the best that may win as a line, those that may not in grey."""
    best: list[tuple[int, float]] = []
    for may, colour, label in ((True, "#0072B2", "may win"), (False, "0.7", "beyond a limit")):
        members = [look for look in found.all if found.limits.met_by(look.outcome) is may]
        rates = [look.outcome.throughput for look in members]
        panel.scatter([look.number for look in members], rates, s=20, color=colour, zorder=3, label=label)
        if may:
            best = [(look.number, max(rates[: i + 1])) for i, look in enumerate(members)]
    if best:
        panel.step(*zip(*best, strict=True), where="post", color="0.4", label="best so far")
    panel.set_xlabel("trial; those given up early leave gaps")
    panel.set_ylabel("pages a second at the SLO")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
