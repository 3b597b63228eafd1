"""A study as one picture: the front of accuracy against cost, its history, and which settings mattered."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from ocr_ops.train.study import COST, Candidate, scores


def draw(
    name: str,
    trials: Sequence[FrozenTrial],
    candidates: Sequence[Candidate],
    front: Sequence[Candidate],
    importance: Mapping[str, Mapping[str, float]],
) -> bytes:
    """The picture, PNG. `candidates` are the trials that went all the way, with their costs."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (a second)

    figure = Figure(figsize=(13, 4), layout="constrained")
    chart, history, weights = figure.subplots(1, 3)
    figure.suptitle(f"{name}: {len(trials)} trials, {len(candidates)} complete, {len(front)} on the front")
    _front(chart, trials, candidates, front)
    _history(history, trials)
    _importance(weights, importance)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def _front(
    panel: Any, trials: Sequence[FrozenTrial], candidates: Sequence[Candidate], front: Sequence[Candidate]
) -> None:
    pruned = [(t.user_attrs[COST], max(scores(t))) for t in trials if t.state is TrialState.PRUNED and scores(t)]
    if pruned:
        panel.scatter(*zip(*pruned, strict=True), marker="x", color="0.7", label="given up (best so far)")
    panel.scatter([c.cpu_ms for c in candidates], [c.score for c in candidates], color="tab:blue", label="complete")
    panel.step([c.cpu_ms for c in front], [c.score for c in front], "tab:red", where="post", marker="o", label="front")
    for one in front:
        panel.annotate(
            str(one.number), (one.cpu_ms, one.score), xytext=(4, -10), textcoords="offset points", fontsize=8
        )
    panel.set_xlabel("CPU ms of one crop or page")
    panel.set_ylabel("score")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)


def _history(panel: Any, trials: Sequence[FrozenTrial]) -> None:
    """Each trial's scores, rung by rung, at its number; the best so far as a line."""
    best: list[tuple[int, float]] = []
    for trial in trials:
        rungs = scores(trial)
        shade = "tab:blue" if trial.state is TrialState.COMPLETE else "0.7"
        panel.plot([trial.number] * len(rungs), rungs, color=shade, marker=".", linewidth=1)
        if trial.state is TrialState.COMPLETE:
            best.append((trial.number, max(trial.values[0], best[-1][1] if best else trial.values[0])))
    panel.step(*zip(*best, strict=True), "tab:red", where="post", label="best so far")
    panel.set_xlabel("trial (dots: its evaluations; grey: given up)")
    panel.set_ylabel("score")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)


def _importance(panel: Any, importance: Mapping[str, Mapping[str, float]]) -> None:
    panel.set_title("importance (PED-ANOVA)", fontsize=9)
    if not importance:
        panel.text(0.5, 0.5, "too few trials to tell", ha="center", transform=panel.transAxes)
        return
    names = sorted(next(iter(importance.values())))
    for i, (target, shares) in enumerate(importance.items()):
        places = [j + 0.4 * i for j in range(len(names))]
        panel.barh(places, [shares.get(name, 0.0) for name in names], height=0.38, label=f"for {target}")
    panel.set_yticks([j + 0.2 for j in range(len(names))], names)
    panel.legend(fontsize=8)
    panel.grid(axis="x", alpha=0.3)
