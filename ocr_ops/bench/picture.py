"""Degradation curves as a picture: a panel a degradation, a line a system; told apart in print and by every eye."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ocr_ops.bench.curves import Curve, Curves
from ocr_ops.core.verdict import Verdict

COLUMNS = 3
_OURS = (("#0072B2", "o", "-"), ("#009E73", "s", "-"), ("#56B4E9", "P", "-"))
_PEERS = (("#D55E00", "^", "--"), ("#555555", "D", ":"), ("#CC79A7", "v", "-."), ("#E69F00", "X", (0, (5, 1, 1, 1))))
"""Colour, marker and dash. Colours of Okabe and Ito (2008), which colour-blind people tell apart."""


def draw(curves: Curves) -> bytes:
    """A PNG. Mild is left and strong is right in every panel; a ring marks a cliff."""
    rows = -(-len(curves.curves) // COLUMNS)
    layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.03)
    figure = Figure(figsize=(3.6 * COLUMNS, 0.8 + 2.7 * rows), layout=layout)
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    for number, panel in enumerate(panels.flat):
        if number < len(curves.curves):
            _panel(panel, curves, curves.curves[number])
            if number % COLUMNS == 0:
                panel.set_ylabel("word F1")
        else:
            panel.set_axis_off()
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _panel(panel: Axes, curves: Curves, curve: Curve) -> None:
    ours = peers = 0
    # Strengths lie evenly: what matters is the next worse step, and scales differ (dpi, sigma, quality).
    places = range(len(curve.strengths))
    for name, f1 in curve.word_f1.items():
        mine = name in curves.releases
        colour, marker, dash = _OURS[ours % len(_OURS)] if mine else _PEERS[peers % len(_PEERS)]
        ours, peers = ours + mine, peers + (not mine)
        panel.plot(
            places,
            f1,
            color=colour,
            marker=marker,
            linestyle=dash,
            linewidth=2.2 if mine else 1.4,
            markersize=6 if mine else 5,
            markeredgecolor="white",
            markeredgewidth=0.8,
            label=name,
            zorder=3 if mine else 2,
            clip_on=False,
        )
    for fall in curves.falls:
        if fall.degradation == curve.degradation and fall.check.verdict is Verdict.FAIL:
            place = curve.strengths.index(fall.strength)
            panel.plot(
                place, curve.word_f1[fall.system][place], "o", ms=15, mfc="none", mec="black", zorder=4, clip_on=False
            )
    panel.set_title(f"{curve.degradation} ({curve.unit})", fontsize=10, loc="left")
    panel.set_xticks(places, [f"{strength:g}" for strength in curve.strengths])
    panel.set_ylim(0, 1)
    panel.set_yticks([0, 0.25, 0.5, 0.75, 1])
    panel.grid(axis="y", color="#dddddd", linewidth=0.8)
    panel.tick_params(length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
