"""What a run shows of itself: its curves, which characters it confuses, and what it reads worst."""

import io
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops.core.scores import edit_distance

Gray = NDArray[np.uint8]
Colour = NDArray[np.uint8]

CONFUSIONS = "confusions.json"
NOTHING = ""
"""Stands for no character: left out by the reader, or made up."""
MATRIX = 24
"""Characters of a confusion matrix: those most often taken for others."""
WORST = 24
"""Samples of a sheet of worst cases."""


def alignment(expected: str, read: str) -> Iterator[tuple[str, str]]:
    """Pairs (expected character, read character) of a cheapest edit; `NOTHING` where one side has none."""
    costs = np.zeros((len(expected) + 1, len(read) + 1), np.int32)
    costs[:, 0], costs[0] = np.arange(len(expected) + 1), np.arange(len(read) + 1)
    for i, a in enumerate(expected, 1):
        for j, b in enumerate(read, 1):
            costs[i, j] = min(costs[i - 1, j] + 1, costs[i, j - 1] + 1, costs[i - 1, j - 1] + (a != b))
    pairs, i, j = [], len(expected), len(read)
    while i or j:
        if i and j and costs[i, j] == costs[i - 1, j - 1] + (expected[i - 1] != read[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((expected[i], read[j]))
        elif i and costs[i, j] == costs[i - 1, j] + 1:
            i -= 1
            pairs.append((expected[i], NOTHING))
        else:
            j -= 1
            pairs.append((NOTHING, read[j]))
    yield from reversed(pairs)


def confusions(texts: Sequence[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """How often each (expected, read) pair of characters came up in (expected, read) texts, right ones included."""
    return Counter(pair for expected, read in texts for pair in alignment(expected, read))


def confusion_rows(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """The wrong pairs, most frequent first: what was expected, what was read, how often, of how many."""
    total: Counter[str] = Counter()
    for (expected, _), count in counts.items():
        total[expected] += count
    wrong = [(pair, count) for pair, count in counts.most_common() if pair[0] != pair[1]]
    return [{"expected": a, "read": b, "count": count, "of": total[a]} for (a, b), count in wrong]


def drawable() -> bool:
    """Whether plots can be drawn here; says so when not. Training does without them."""
    if find_spec("matplotlib"):
        return True
    tqdm.write("no matplotlib here: the run folder gets no plots", file=sys.stderr)
    return False


def confusion_png(counts: Counter[tuple[str, str]]) -> bytes:
    """The matrix of the most confused characters: rows are what was expected, shades shares of the row."""
    wrong: Counter[str] = Counter()
    for (expected, read), count in counts.items():
        if expected != read:
            wrong.update({expected: count, read: count})
    chars = sorted(char for char, _ in wrong.most_common(MATRIX)) or [NOTHING]
    cells = np.array([[counts[a, b] for b in chars] for a in chars], np.float64)
    figure = _figure(8, 8)
    axes = figure.subplots()
    sums = np.array([sum(count for (a, _), count in counts.items() if a == char) for char in chars], np.float64)
    axes.imshow(cells / np.maximum(1, sums)[:, None], cmap="Blues", vmin=0, vmax=1)
    names = [{NOTHING: "none", " ": "space"}.get(char, char) for char in chars]
    axes.set_xticks(range(len(chars)), _plain(names), rotation=90)
    axes.set_yticks(range(len(chars)), _plain(names))
    for (row, column), cell in np.ndenumerate(cells):
        if cell:
            axes.text(column, row, f"{cell:.0f}", ha="center", va="center", fontsize=6)
    axes.set_xlabel("read")
    axes.set_ylabel("expected")
    axes.set_title(f"the {len(chars)} most confused characters; counts on held-out lines", fontsize=9)
    return _png(figure)


def worst_lines(cases: Sequence[tuple[Gray, str, str]]) -> list[int]:
    """Places of the worst of (image, expected, read), by edits a character, then by edits."""
    edits = [edit_distance(expected, read) for _, expected, read in cases]
    key = [(count / max(1, len(case[1])), count) for count, case in zip(edits, cases, strict=True)]
    return sorted((i for i, count in enumerate(edits) if count), key=lambda i: key[i], reverse=True)


def lines_png(cases: Sequence[tuple[Gray, str, str]]) -> bytes:
    """A contact sheet: each line's image, uint8 (h, w), with what was expected and what was read below it."""
    rows = max(1, (len(cases) + 1) // 2)
    figure = _figure(11, 0.9 * rows + 0.2)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    for panel, (image, expected, read) in zip(panels, cases, strict=False):
        panel.imshow(image, cmap="gray", vmin=0, vmax=255)
        shown = _plain([f"expected  {expected[:60]}", f"read      {read[:60]}"])
        panel.set_title("\n".join(shown), fontsize=7, loc="left", family="monospace")
    return _png(figure)


def pages_png(cases: Sequence[tuple[Colour, str]]) -> bytes:
    """A contact sheet of pictures, uint8 (h, w, 3) RGB, each under its title."""
    rows = max(1, (len(cases) + 2) // 3)
    figure = _figure(12, 4.2 * rows)
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for panel in panels:
        panel.axis("off")
    for panel, (image, title) in zip(panels, cases, strict=False):
        panel.imshow(image)
        panel.set_title(title, fontsize=8)
    return _png(figure)


def curves_png(rows: Sequence[Mapping[str, float]]) -> bytes:
    """Loss, learning rate and exam figures over steps, out of a run's metric rows; one panel each."""
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in _COUNTERS]
    figure = _figure(7, 1.6 * max(1, len(names)))
    panels = figure.subplots(max(1, len(names)), 1, squeeze=False, sharex=True)[:, 0]
    for name, panel in zip(names, panels, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        panel.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None, linewidth=1)
        if name == "loss" and min(value for _, value in points) > 0:
            panel.set_yscale("log")
        panel.set_ylabel({"rate": "learning rate"}.get(name, name), fontsize=8)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    return _png(figure)


def of_lines(sets: Sequence[Sequence[tuple[Gray, str, str]]]) -> dict[str, bytes]:
    """Files about held-out lines (image, expected, read): confusions, and the worst cases of each set."""
    counts = confusions([(expected, read) for cases in sets for _, expected, read in cases])
    files = {CONFUSIONS: json.dumps(confusion_rows(counts), ensure_ascii=False, indent=1).encode()}
    if drawable():
        files["confusions.png"] = confusion_png(counts)
        each = WORST // max(1, len(sets))
        files["worst.png"] = lines_png([cases[i] for cases in sets for i in worst_lines(cases)[:each]])
    return files


_COUNTERS = ("step", "seconds", "samples")


def _plain(texts: Sequence[str]) -> list[str]:
    """Texts that matplotlib draws as they stand: a dollar would begin a formula."""
    return [text.replace("$", r"\$") for text in texts]


def _figure(width: float, height: float) -> Any:
    """An empty figure, inches. Drawn without pyplot: no global state, no display."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (a second, and not everywhere there)

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a script its font lacks: a box will do
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
