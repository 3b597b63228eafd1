"""Greedy CTC decoding: the most probable class of each time step, runs merged, blanks dropped."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

BLANK = 0


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


def decode(logits: NDArray[np.float32], charset: str) -> Decoded:
    """Reads logits, float32 (T, 1 + len(charset)); class 0 is the blank, class i is `charset[i - 1]`.

    A character ends half-way to the next one's centre. Spaces at either end, and all but the first of
    several, are dropped.
    """
    best = logits.argmax(axis=1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    if not len(starts):
        return Decoded("", (), ())
    # Softmax at the maximum alone: exp(0) over the sum of exp(x - max). Blanks need none.
    peak = np.zeros(len(best), np.float32)
    marked = logits[best != BLANK]
    peak[best != BLANK] = 1 / np.exp(marked - marked.max(axis=1, keepdims=True)).sum(axis=1)
    certainty = np.maximum.reduceat(peak, starts)
    centres = (starts + np.append(starts[1:], len(best))) / 2
    seen = best[starts] != BLANK
    marks = [
        (charset[label - 1], mark, centre)
        for label, mark, centre in zip(
            best[starts][seen].tolist(), certainty[seen].tolist(), centres[seen].tolist(), strict=True
        )
    ]
    edges = [(left[2] + right[2]) / 2 / len(best) for left, right in pairwise(marks)]
    spans = list(zip([0.0, *edges], [*edges, 1.0], strict=True)) if marks else []

    while marks and marks[-1][0] == " ":
        marks.pop()
    kept = [i for i, (char, _, _) in enumerate(marks) if char != " " or (i and marks[i - 1][0] != " ")]
    return Decoded(
        "".join(marks[i][0] for i in kept),
        tuple(min(marks[i][1], 1.0) for i in kept),
        tuple(spans[i] for i in kept),
    )
