"""Real lines to learn from, and what becomes of those that cannot be used: counted, told once, written down."""

import json
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops.core.errors import BadInput
from ocr_ops.core.spec import InputSpec
from ocr_ops.data.lines import LabelledLine, held_out, read_lines

Gray = NDArray[np.uint8]

QUARANTINE = "quarantine.jsonl"
HIGHEST = 64
"""Pixels; higher crops are brought down to it as they are read: networks see half of it."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A line and its text; `folded` when the text is upper-cased whatever the image shows."""

    image: Gray
    text: str
    folded: bool


class Quarantine:
    """Rows and pages that cannot be learnt from, each once; also in a file, as soon as the run has a folder."""

    def __init__(self) -> None:
        self.causes: dict[str, str] = {}
        self._path: Path | None = None

    def __len__(self) -> int:
        return len(self.causes)

    def add(self, where: str, cause: str) -> None:
        if where not in self.causes:
            self.causes[where] = cause
            self._write({where: cause})

    def keep_in(self, folder: Path) -> None:
        """Goes on from what the folder's file holds; all that is found from now on is added there."""
        folder.mkdir(parents=True, exist_ok=True)
        known = quarantined(folder)
        self._path = folder / QUARANTINE
        self._write({where: cause for where, cause in self.causes.items() if where not in known})
        self.causes |= known

    def _write(self, causes: dict[str, str]) -> None:
        if self._path and causes:
            rows = (json.dumps({"where": where, "cause": cause}, ensure_ascii=False) for where, cause in causes.items())
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(row + "\n" for row in rows))


def quarantined(folder: Path) -> dict[str, str]:
    """Where and why, of the rows a run has put aside. Processes that draw batches may each have told of the same."""
    path = folder / QUARANTINE
    rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {row["where"]: row["cause"] for row in map(json.loads, rows)}


def read_crops(
    folder: Path,
    charset: str,
    quarantine: Quarantine,
    shape: InputSpec | None = None,
    apart: Collection[str] = (),
) -> tuple[list[Crop], list[Crop]]:
    """Training and held-out crops of labelled lines, decoded into memory; documents in `apart` are in neither.

    A tenth of the documents, by hash, is held out whole, and never none. Rows that cannot be read, labels with
    characters outside `charset`, and texts longer than the network's steps (if `shape` tells them) are put into
    quarantine. Raises `BadInput` when nothing is left to learn from or to hold out.
    """
    lines = read_lines(folder)
    for row in lines.rejected:
        quarantine.add(f"{folder}: {row.where}", row.cause)
    chosen = [line for line in lines.lines if line.document not in apart]
    held = {line.document for line in chosen if held_out(line.document)}
    if not held or len(held) == len({line.document for line in chosen}):
        held = {line.document for line in chosen[-1:]}
    parts: tuple[list[Crop], list[Crop]] = ([], [])
    foreign: Counter[str] = Counter()
    before = len(quarantine)
    for line in tqdm(chosen, f"reading {folder.name}", unit=" lines", disable=None, leave=False):
        outside = set(line.text) - set(charset)
        if outside:
            foreign.update(outside)
            quarantine.add(f"{folder}: {line.where}", f"characters outside the charset: {''.join(sorted(outside))}")
            continue
        image = _decoded(line, quarantine, folder)
        if image is None:
            continue
        if shape and not feasible(line.text, steps_of(image, shape)):
            found = f"{len(line.text)} characters in {image.shape[1]} x {image.shape[0]} pixels"
            quarantine.add(f"{folder}: {line.where}", f"{found}: more than the network has steps")
            continue
        parts[line.document in held].append(Crop(image, line.text, lines.fold))
    _tell(folder, len(lines.lines) + len(lines.rejected), len(quarantine) - before + len(lines.rejected), foreign)
    if not all(parts):
        found = f"{len(parts[0])} crops to train on, {len(parts[1])} held out"
        if quarantine.causes:
            where, cause = next(iter(quarantine.causes.items()))
            found += f"; {len(quarantine)} cannot be used, the first {where}: {cause}"
        raise BadInput(folder, found, "some of each", "mend the labels, add lines, or extend the charset with --from")
    return parts


def unseen_crops(folder: Path, charset: str, quarantine: Quarantine, apart: Collection[str]) -> list[tuple[str, Crop]]:
    """The lines of the documents in `apart`, each with its document. Raises `BadInput` when none can be used."""
    lines = read_lines(folder)
    found = []
    for line in lines.lines:
        if line.document in apart and set(line.text) <= set(charset):
            image = _decoded(line, quarantine, folder)
            if image is not None:
                found.append((line.document, Crop(image, line.text, lines.fold)))
    if not found:
        raise BadInput(folder, "no usable line in the documents set apart", "some to judge by", "mend the labels")
    return found


def _decoded(line: LabelledLine, quarantine: Quarantine, folder: Path) -> Gray | None:
    try:
        image = line.image()
    except BadInput as error:
        quarantine.add(f"{folder}: {line.where}", f"{error.subject}: {error.found}")
        return None
    height, width = image.shape
    if height <= HIGHEST:
        return image
    size = (max(1, round(width * HIGHEST / height)), HIGHEST)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _tell(folder: Path, rows: int, left_out: int, foreign: Counter[str]) -> None:
    if left_out:
        chars = ", ".join(f"{char!r} in {count}" for char, count in foreign.most_common(8))
        more = f" (outside the charset: {chars}{', ...' if len(foreign) > 8 else ''})" if foreign else ""
        tqdm.write(f"{folder}: {left_out} of {rows} rows cannot be used{more}; see {QUARANTINE}", file=sys.stderr)


def steps_of(image: Gray, shape: InputSpec) -> int:
    """Time steps of a crop, uint8 (h, w), once it has the network's height."""
    height, width = (int(side) for side in image.shape)
    return max(1, round(width * shape.height / height / shape.stride))


def feasible(text: str, steps: int) -> bool:
    """Whether CTC can write `text` in `steps`: equal neighbours need a blank between them."""
    return len(text) + sum(a == b for a, b in pairwise(text)) <= steps
