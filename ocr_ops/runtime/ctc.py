"""Greedy CTC decoding: the most probable class of each time step, runs merged, blanks dropped."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

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
        marks = [value for char, value in zip(self.text, self.confidences, strict=True) if char != " "]
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


def decode(scores: NDArray[np.float32], charset: str, spec: TextSpec = PLAIN, width: float = 1.0) -> Decoded:
    """Reads the scores of T time steps, float32 (T, 1 + len(charset)): the characters, and the blank where `spec` says.

    `width`: the share of the steps that the crop takes, for one that was padded and is decoded whole.
    A character ends half-way to the next one's centre. Spaces at either end, and all but the first of
    several, are dropped.
    """
    best = scores.argmax(axis=1)
    blank, first = (0, 1) if spec.blank == "first" else (len(charset), 0)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    if not len(starts):
        return Decoded("", (), ())
    peak = np.zeros(len(best), np.float32)
    marked = np.flatnonzero(best != blank)  # blanks need no probability
    if spec.output == "probabilities":
        peak[marked] = scores[marked, best[marked]]
    else:  # softmax at the maximum alone: exp(0) over the sum of exp(x - max)
        rows = scores[marked]
        peak[marked] = 1 / np.exp(rows - rows.max(axis=1, keepdims=True)).sum(axis=1)
    certainty = np.maximum.reduceat(peak, starts)
    centres = (starts + np.append(starts[1:], len(best))) / 2
    seen = best[starts] != blank
    marks = [
        (charset[label - first], mark, centre)
        for label, mark, centre in zip(
            best[starts][seen].tolist(), certainty[seen].tolist(), centres[seen].tolist(), strict=True
        )
    ]
    steps = len(best) * width
    edges = [min((left[2] + right[2]) / 2 / steps, 1.0) for left, right in pairwise(marks)]
    spans = list(zip([0.0, *edges], [*edges, 1.0], strict=True)) if marks else []

    while marks and marks[-1][0] == " ":
        marks.pop()
    kept = [i for i, (char, _, _) in enumerate(marks) if char != " " or (i and marks[i - 1][0] != " ")]
    return Decoded(
        "".join(marks[i][0] for i in kept),
        tuple(min(marks[i][1], 1.0) for i in kept),
        tuple(spans[i] for i in kept),
    )
