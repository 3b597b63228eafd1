"""Greedy CTC decoding: the most probable class of each time step, runs merged, blanks dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.spec import TextSpec

PLAIN = TextSpec()


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text read from one crop, and for each of its characters how sure and where."""

    text: str
    confidences: tuple[float, ...]
    """A character each, 0 to 1: the probability at its peak."""
    spans: tuple[tuple[float, float], ...]
    """A character each: start and end as shares of the crop's width."""

    @property
    def confidence(self) -> float:
        """Mean over the characters that are not spaces; 0 of none."""
        marks = self.confidences
        if " " in self.text:
            marks = tuple(compress(marks, map(" ".__ne__, self.text)))
        return sum(marks) / len(marks) if marks else 0.0

    @property
    def words(self) -> tuple[Self, ...]:
        """The parts between spaces."""
        words, start = [], 0
        for word in self.text.split(" "):
            part = slice(start, start + len(word))
            start += len(word) + 1
            if word:
                words.append(type(self)(word, self.confidences[part], self.spans[part]))
        return tuple(words)


@dataclass(frozen=True, slots=True)
class Steps:
    """What each time step of one crop says."""

    labels: NDArray[np.intp]
    """(T,): the most probable class."""
    certainty: NDArray[np.float32]
    """(T,): its probability; 0 of blanks, which need none."""
    size: float
    """Steps that the crop takes: fewer than T where its padding was read with it."""


def decode(scores: NDArray[np.float32], charset: str, spec: TextSpec = PLAIN, width: float = 1.0) -> Decoded:
    """Reads the scores of one crop, float32 (T, 1 + len(charset)): as `spell`.

    `width`: the share of the steps that the crop takes, for one that was padded and is decoded whole.
    """
    labels, certainty = most_probable(scores[None], spec)
    return spell([Steps(labels[0], certainty[0], len(scores) * width)], charset, spec)[0]


def most_probable(scores: NDArray[np.float32], spec: TextSpec = PLAIN) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Of scores, float32 (N, T, C), each step's best class (N, T), and its probability (N, T), 0 of blanks."""
    count, length, classes = scores.shape
    rows = scores.reshape(-1, classes)
    best = rows.argmax(axis=1)
    certainty = np.zeros(len(rows), np.float32)
    marked = np.flatnonzero(best != _blank(spec, classes - 1))
    if len(marked):
        highest = rows[marked, best[marked]]
        if spec.output == "logits":  # softmax at the maximum alone: exp(0) over the sum of exp(x - max)
            # OpenCV's exp takes a fifth of NumPy's time where there is no AVX-512, and a product adds up fastest.
            apart = rows.take(marked, axis=0)
            apart -= highest[:, None]
            highest = 1 / (np.asarray(cv2.exp(apart, apart)) @ np.ones(classes, np.float32))
        certainty[marked] = np.minimum(highest, 1.0)
    return best.reshape(count, length), certainty.reshape(count, length)


def spell(crops: Sequence[Steps], charset: str, spec: TextSpec = PLAIN) -> list[Decoded]:
    """The texts of crops: the characters, and the blank where `spec` says. None depends on its neighbours.

    A character ends half-way to the next one's centre. Spaces at either end, and all but the first of
    several, are dropped.
    """
    if not crops:
        return []
    blank = _blank(spec, len(charset))
    labels = np.concatenate([crop.labels for crop in crops])
    bounds = np.cumsum([0, *(len(crop.labels) for crop in crops)])
    change = np.diff(labels, prepend=-1) != 0
    change[bounds[:-1][bounds[:-1] < len(labels)]] = True
    starts = np.flatnonzero(change)
    seen = np.flatnonzero(labels[starts] != blank)
    if not len(seen):
        return [Decoded("", (), ())] * len(crops)
    certainty = np.maximum.reduceat(np.concatenate([crop.certainty for crop in crops]), starts)[seen]
    centres = ((starts + np.append(starts[1:], len(labels))) / 2)[seen]
    labels = labels[starts[seen]] - (blank == 0)
    row = np.searchsorted(bounds, starts[seen], side="right") - 1

    # Where one character parts from the next of its crop, as a share of the crop.
    beside = row[1:] == row[:-1]
    sizes = np.array([crop.size for crop in crops])
    parting = np.minimum(((centres[:-1] + centres[1:]) / 2 - bounds[row[1:]]) / sizes[row[1:]], 1.0)
    left, right = np.append(0.0, np.where(beside, parting, 0.0)), np.append(np.where(beside, parting, 1.0), 1.0)

    space = labels == charset.find(" ")
    kept = np.flatnonzero(~space | np.append(False, beside & ~space[:-1]))
    last = np.append(row[kept][1:] != row[kept][:-1], True)
    kept = kept[~(space[kept] & last)]

    text = "".join([charset[label] for label in labels[kept].tolist()])
    confidences = certainty[kept].tolist()
    spans = list(zip(left[kept].tolist(), right[kept].tolist(), strict=True))
    ends = np.searchsorted(row[kept], np.arange(len(crops) + 1)).tolist()
    return [Decoded(text[a:b], tuple(confidences[a:b]), tuple(spans[a:b])) for a, b in pairwise(ends)]


def _blank(spec: TextSpec, characters: int) -> int:
    """The blank's class."""
    return 0 if spec.blank == "first" else characters
