"""The items a report shows: read worst, or not alike by our cells; with picture and what is wrong marked."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.bench import marks, standing
from ocr_ops.bench.run import Result, Run
from ocr_ops.bench.standing import Board
from ocr_ops.core.scores import normalise

Faces = Mapping[str, tuple[str, str]]
"""By a cell's name: what it is called, and the CSS class that colours it."""
Picture = Callable[[int], NDArray[np.uint8] | None]

WORST, PARTED = 8, 4
"""Lines shown at most: those the leader reads worst, and those our cells disagree on. Of pages, half."""
READERS = 8
_LINE_ROOM, _PAGE_ROOM = (860, 56), (260, 360)
"""Pixels (width, height) a picture is shrunk into."""


def worst_items(run: Run, board: Board, picture: Picture, faces: Faces) -> dict[str, Any]:
    """The items the leader reads worst, then those our cells disagree on."""
    wrong = standing.errors(board.leader) if board.leader and board.leader.readings else None
    if wrong is None or board.leader is None or len(wrong) != len(run.items):
        return {"worst": [], "parted": [], "wrong": 0}
    read = [r for r in standing.distinct([board.leader, *(rival.result for rival in board.rivals)]) if r.readings]
    ours = [each for r in read if r.cell.kind != "peer" and (each := standing.errors(r)) is not None]
    apart = np.max(ours, axis=0) - np.min(ours, axis=0)
    half = 1 if run.unit == "line" else 2
    worst = [int(i) for i in np.argsort(-wrong, kind="stable")[: WORST // half] if wrong[i]]
    parted = [int(i) for i in np.argsort(-apart, kind="stable") if apart[i] and i not in worst][: PARTED // half]

    def shown(number: int) -> dict[str, Any]:
        return _item(run, number, read[:READERS], picture, faces)

    return {"worst": list(map(shown, worst)), "parted": list(map(shown, parted)), "wrong": int((wrong > 0).sum())}


def _item(
    run: Run,
    number: int,
    results: Sequence[Result],
    picture: Picture,
    faces: Faces,
) -> dict[str, Any]:
    """An item with what it says and what each read; those who read alike share a row."""
    alike: dict[str, list[Result]] = {}
    for result in results:
        alike.setdefault(normalise(result.readings[number], fold=run.fold), []).append(result)
    readers = [
        {
            "names": [faces[result.cell.name] for result in group],
            "errors": int(found[number]) if (found := standing.errors(group[0])) is not None else None,
        }
        for group in alike.values()
    ]
    texts = [group[0].readings[number] for group in alike.values()]
    expected = run.expected[number]
    item = {"name": run.items[number], "text": expected, "picture": thumbnail(picture(number), run.unit)}
    if run.unit == "line":
        wanted, *read = marks.marked(expected, texts, fold=run.fold)
        return item | {"expected": wanted, "readers": readers, "read": read}
    return item | {"readers": readers, "read": [marks.strays(expected, text, fold=run.fold) for text in texts]}


def thumbnail(image: NDArray[np.uint8] | None, unit: str) -> str:
    """An image, uint8 (h, w) or (h, w, 3) RGB, small and as a data URI; empty of none."""
    if image is None or not image.size:
        return ""
    wide, tall = _LINE_ROOM if unit == "line" else _PAGE_ROOM
    shrink = min(1.0, wide / image.shape[1], tall / image.shape[0])
    size = max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    made = cv2.imencode(".webp", small[..., ::-1] if small.ndim == 3 else small, [cv2.IMWRITE_WEBP_QUALITY, 60])[1]
    return f"data:image/webp;base64,{base64.b64encode(made.tobytes()).decode()}"
