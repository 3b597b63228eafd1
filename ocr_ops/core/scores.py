"""Accuracy of text against text. Strings are NFKC-normalised first, so that equal looks are equal."""

import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


def normalise(text: str, *, fold: bool = False) -> str:
    """NFKC with runs of white space as one space; `fold` also folds case."""
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    return text.casefold() if fold else text


def edit_distance(left: str, right: str) -> int:
    """Levenshtein distance in code points, by the two-row dynamic programme (Wagner and Fischer, 1974)."""
    if len(left) < len(right):
        left, right = right, left
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def cer(pairs: Iterable[tuple[str, str]], *, fold: bool = False) -> float | None:
    """Character error rate over (expected, read) pairs: edits / characters. None of none."""
    edits = total = 0
    for expected, read in pairs:
        wanted = normalise(expected, fold=fold)
        edits += edit_distance(wanted, normalise(read, fold=fold))
        total += len(wanted)
    return edits / total if total else None


@dataclass(frozen=True, slots=True)
class Match:
    """Counts behind precision, recall and their harmonic mean; add them up over pages."""

    hits: int = 0
    found: int = 0
    expected: int = 0

    def __add__(self, other: "Match") -> "Match":
        return Match(self.hits + other.hits, self.found + other.found, self.expected + other.expected)

    @property
    def precision(self) -> float:
        return self.hits / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.hits / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float | None:
        """None when there was nothing to find and nothing was found: no evidence, not a success."""
        total = self.found + self.expected
        return 2 * self.hits / total if total else None


def match_words(expected: str, read: str, *, fold: bool = False) -> Match:
    """Multiset match of the words (split on white space) of two texts, order ignored."""
    want = Counter(normalise(expected, fold=fold).split())
    have = Counter(normalise(read, fold=fold).split())
    return Match((want & have).total(), have.total(), want.total())
