"""Did a training help? An error rate before and after on the same unseen documents, with an interval."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import BadInput, GateFailed, NotProven
from ocr_ops.core.record import Record, Value
from ocr_ops.core.verdict import Verdict

Counts = NDArray[np.float64]
"""(samples, 2): errors, and what they are a share of. Characters edited of characters; for boxes, misses and false
ones of boxes found and there, whose share is 1 - hmean."""

APART = 0.2
"""Share of the documents that judges."""
FEWEST = 5
"""Documents without which no interval is worth its name."""
RESAMPLES = 2000


class Comparison(Value):
    """An error rate before and after on the same documents, and the 95 % interval of the difference."""

    documents: int
    samples: int
    before: float
    after: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """PASS when the error fell, FAIL when it rose, INCONCLUSIVE when neither is shown."""
        if self.documents < FEWEST:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS if self.high < 0 else Verdict.FAIL if self.low > 0 else Verdict.INCONCLUSIVE

    def __str__(self) -> str:
        change = (
            f"{100 * (self.after - self.before):+.1f} points, 95 %: {100 * self.low:+.1f} to {100 * self.high:+.1f}"
        )
        about = f"{self.samples} samples of {self.documents} documents"
        return f"{100 * self.before:.1f} % -> {100 * self.after:.1f} % ({change}; {about})"


class Judgement(Record):
    """Whether a fine-tuning helped."""

    model: str
    source: str
    """Digest of the weights it started from."""
    weights: str
    """Digest of the weights it made."""
    figure: Literal["CER", "1 - hmean"]
    own: Comparison
    """On what was held out of the given material: this decides."""
    rendered: Comparison
    """On the renderer's held-out fonts: what was forgotten."""
    new_characters: str
    left_out: int
    """Rows of the material that could not be used."""

    @property
    def words(self) -> str:
        return {Verdict.PASS: "helped", Verdict.FAIL: "hurt"}.get(self.own.verdict, "no difference shown")

    def require(self, run: Path) -> None:
        """Raises `GateFailed` when it hurt, `NotProven` when no difference is shown; `run`: where the weights lie."""
        if self.own.verdict is not Verdict.PASS:
            error = GateFailed if self.own.verdict is Verdict.FAIL else NotProven
            remedy = f"the weights are in {run}; give more lines or other steps, or --publish them as they are"
            raise error(self.model, self.words, "an error rate shown to fall", remedy)

    def __str__(self) -> str:
        few = f" (fewer than {FEWEST} documents cannot show any)" if self.own.documents < FEWEST else ""
        return f"{self.words}{few}: {self.figure} on what was held out {self.own}; on rendered samples {self.rendered}"


def set_apart(documents: Iterable[str]) -> frozenset[str]:
    """A fifth of the documents (at least `FEWEST` of fifteen or more), by hash of their names.

    Raises `BadInput` when there are too few to part.
    """
    order = sorted(set(documents), key=lambda name: hashlib.sha256(f"apart {name}".encode()).digest())
    if len(order) < 3:
        expected = "three at least: to learn from, to choose by, to judge by"
        raise BadInput("--data", f"{len(order)} documents", expected, "add documents")
    least = FEWEST if len(order) >= 3 * FEWEST else 1
    return frozenset(order[: max(least, round(APART * len(order)))])


def compare(documents: Sequence[str], before: Counts, after: Counts, seed: int = 0) -> Comparison:
    """The error rates of the same samples before and after, and a paired bootstrap of the difference over documents.

    Samples of one document are alike, so documents are drawn, not samples (Efron and Tibshirani, 1993, ch. 8); the
    interval is that of the percentiles 2.5 and 97.5 of `RESAMPLES` differences.
    """
    names = sorted(set(documents))
    place = {name: i for i, name in enumerate(names)}
    sums = np.zeros((2, len(names), 2))
    for counts, into in zip((before, after), sums, strict=True):
        np.add.at(into, [place[name] for name in documents], counts)
    drawn = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    errors, totals = sums[:, drawn].sum(2).transpose(2, 0, 1)  # (before and after, resamples) each
    rates = errors / np.maximum(1, totals)
    low, high = np.percentile(rates[1] - rates[0], [2.5, 97.5])
    whole = sums.sum(1)
    rate = whole[:, 0] / np.maximum(1, whole[:, 1])
    return Comparison(
        documents=len(names),
        samples=len(documents),
        before=float(rate[0]),
        after=float(rate[1]),
        low=float(low),
        high=float(high),
    )
