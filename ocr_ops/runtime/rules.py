"""Rules: the printed lines that part a page into cells, found in its pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FAINTEST = 24
"""Grey levels by which a rule is darker than what is around it."""
LONG, TALL = 3.0, 1.4
"""Least length of rules across and down the page, in heights of its lines: no letter is as high."""
TOUCH = 0.4
"""Heights within which rules meet, or are one."""
COVERED = 0.6
"""Share of a cell's side that a rule must run along to close it."""
MOST_RULES = 400
"""Of either kind: what has more is a picture, not a table."""
MOST_CELLS = 4000
"""Of one grid."""
LEAST_ACROSS, LEAST_DOWN = 3, 2
"""Rules of a grid: its rows lie between three, its columns may be open at the sides."""
WITHIN, CORE = 0.5, 0.2
"""Share of its length from which on a rule that runs through text is letters close to each other; and how far into
text, in heights of it, rules may stand.
"""
GRAIN = 8.0
"""Pixels of the height of lines at which rules are looked for: finer pages are made coarser."""


@dataclass(frozen=True, slots=True)
class Box:
    """A cell of a grid: its first row and column, and how many it takes."""

    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Grid:
    """A ruled table, on the page turned level."""

    x: NDArray[np.float64]
    """(C + 1,): where its columns begin and end, pixels."""
    y: NDArray[np.float64]
    """(R + 1,): the same of its rows."""
    boxes: tuple[Box, ...]
    """Row by row."""


def grids(page: NDArray[np.uint8], turn: NDArray[np.float64], line: float, texts: NDArray[np.float64]) -> list[Grid]:
    """The ruled grids of two rows and two columns or more on a page, uint8 (H, W) or (H, W, 3).

    `points @ turn`, (2, 2), is on the page turned level; `line` is the height of the page's lines, pixels; `texts`,
    (N, 4), are left, right, top and bottom of its words, level.
    """
    across, down = _rules(page, turn, line)
    inset = CORE * (texts[:, 3:] - texts[:, 2:3]) * [1, -1]
    across = across[~_letters(across, texts[:, :2], texts[:, 2:] + inset)]
    down = down[~_letters(down, texts[:, 2:], texts[:, :2] + inset)]
    if min(len(across), len(down)) < 2:
        return []
    near = TOUCH * line
    # Rules that meet: (A, D).
    meet = (
        (down[:, 0] > across[:, 1, None] - near)
        & (down[:, 0] < across[:, 2, None] + near)
        & (across[:, 0, None] > down[:, 1] - near)
        & (across[:, 0, None] < down[:, 2] + near)
    )
    found = []
    for members in _groups(meet, LEAST_ACROSS + LEAST_DOWN):
        rows, columns = members[members < len(across)], members[members >= len(across)] - len(across)
        grid = _grid(across[rows], down[columns], near)
        if grid:
            found.append(grid)
    return found


def _rules(
    page: NDArray[np.uint8], turn: NDArray[np.float64], line: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rules on the level page, (A, 3) across: y, first x, last x; and (D, 3) down: x, first y, last y."""
    grey = page if page.ndim == 2 else cv2.extractChannel(page, 1)
    step = max(int(line / GRAIN), 1)
    if step > 1:  # the darkest of each block: thin rules stay
        grey = cv2.erode(grey, np.ones((step, step), np.uint8), anchor=(0, 0))[::step, ::step]
    origin = np.zeros(2)
    if abs(turn[1, 0]) > 1e-3:
        height, width = grey.shape
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ turn
        origin = corners.min(axis=0)
        size = np.ceil(corners.max(axis=0) - origin).astype(int).tolist()
        move = np.hstack([turn.T, -origin[:, None]])
        grey = cv2.warpAffine(grey, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    around = 2 * int(line / step) + 1
    ink = cv2.compare(cv2.subtract(cv2.blur(grey, (around, around)), np.asarray(grey, np.uint8)), FAINTEST, cv2.CMP_GT)
    none, found = np.zeros((0, 3)), []
    for way, share in ((0, LONG), (1, TALL)):
        thick, length = np.ones((3, 1) if way == 0 else (1, 3), np.uint8), max(round(share * line / step), 3)
        kernel = np.ones((1, length) if way == 0 else (length, 1), np.uint8)
        mask = cv2.morphologyEx(cv2.dilate(ink, thick), cv2.MORPH_OPEN, kernel)
        outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        if not 2 <= len(outlines) <= MOST_RULES:
            return none, none
        x, y, width, height = np.array([cv2.boundingRect(outline) for outline in outlines], np.float64).T
        rules = [y + height / 2, x, x + width] if way == 0 else [x + width / 2, y, y + height]
        thin = (height if way == 0 else width) < line / step
        shift = np.array([origin[1], origin[0], origin[0]] if way == 0 else [origin[0], origin[1], origin[1]])
        found.append((np.stack(rules, axis=1)[thin] + shift) * step)
    return found[0], found[1]


def _letters(rules: NDArray[np.float64], along: NDArray[np.float64], through: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rules, (R, 3), are letters of texts: where those begin and end, (N, 2), along the rules and across them."""
    within = (rules[:, :1] > through[:, 0]) & (rules[:, :1] < through[:, 1])
    shared = np.minimum(rules[:, 2:], along[:, 1]) - np.maximum(rules[:, 1:2], along[:, 0])
    covered = np.where(within, np.maximum(shared, 0.0), 0.0).sum(axis=1)
    return np.asarray(covered > WITHIN * (rules[:, 2] - rules[:, 1]))


def _groups(meet: NDArray[np.bool_], least: int) -> list[NDArray[np.intp]]:
    """Rules that hang together by meeting (A, D), `least` or more: indices, those down the page counted on from those
    across.
    """
    name = np.arange(sum(meet.shape))
    pairs = np.argwhere(meet) + np.array([0, meet.shape[0]])
    while len(pairs):
        low = np.minimum(name[pairs[:, 0]], name[pairs[:, 1]])
        before = name.copy()
        np.minimum.at(name, pairs[:, 0], low)
        np.minimum.at(name, pairs[:, 1], low)
        if (name == before).all():
            break
    return [np.flatnonzero(name == one) for one in np.flatnonzero(np.bincount(name) >= least)]


def _grid(across: NDArray[np.float64], down: NDArray[np.float64], near: float) -> Grid | None:
    """The grid that rules make which hang together."""
    if len(across) < LEAST_ACROSS or len(down) < LEAST_DOWN:
        return None
    y, row = _places(across[:, 0], near)
    x, column = _places(down[:, 0], near)
    # Tables are often open at their sides.
    ends = _ends(across, row)
    outer = [ends[:1]] * bool(ends[0] < x[0] - 2 * near), [ends[1:]] * bool(ends[1] > x[-1] + 2 * near)
    column += len(outer[0])
    x = np.concatenate([*outer[0], x, *outer[1]])
    rows, columns = len(y) - 1, len(x) - 1
    if rows < 2 or columns < 2 or rows * columns > MOST_CELLS:
        return None
    right = _closed(down, column, x, y)  # (columns + 1, rows)
    below = _closed(across, row, y, x)  # (rows + 1, columns)
    boxes: list[Box] = []
    taken = np.zeros((rows, columns), bool)
    for i, j in np.ndindex(rows, columns):
        if taken[i, j]:
            continue
        wide = high = 1
        while j + wide < columns and not right[j + wide, i] and not taken[i, j + wide]:
            wide += 1
        while i + high < rows and not below[i + high, j : j + wide].any() and not taken[i + high, j : j + wide].any():
            high += 1
        taken[i : i + high, j : j + wide] = True
        boxes.append(Box(i, j, high, wide))
    return Grid(x, y, tuple(boxes))


def _ends(across: NDArray[np.float64], row: NDArray[np.intp]) -> NDArray[np.float64]:
    """Where most of the longer rules (A, 3) begin and end, each of the pieces that lie at one place, (A,): (2,)."""
    first, last = np.full(row.max() + 1, np.inf), np.full(row.max() + 1, -np.inf)
    np.minimum.at(first, row, across[:, 1])
    np.maximum.at(last, row, across[:, 2])
    long = last - first >= (last - first).max() / 2
    return np.asarray(np.median([first[long], last[long]], axis=1))


def _places(values: NDArray[np.float64], near: float) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Rules of one place are one: the places, rising, and which of them each value is."""
    order = np.argsort(values)
    group = np.concatenate([[0], np.cumsum(np.diff(values[order]) > near)])
    places = np.bincount(group, values[order]) / np.bincount(group)
    name = np.empty(len(values), np.intp)
    name[order] = group
    return places, name


def _closed(
    rules: NDArray[np.float64], place: NDArray[np.intp], lines: NDArray[np.float64], steps: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether at each line (L,) there is a rule along each step between `steps` (S + 1,): (L, S)."""
    shared = np.minimum(rules[:, 2, None], steps[1:]) - np.maximum(rules[:, 1, None], steps[:-1])
    covered = np.zeros((len(lines), len(steps) - 1))
    np.add.at(covered, place, np.maximum(shared, 0.0))
    return np.asarray(covered >= COVERED * np.diff(steps))
