"""Degradation curves: how word F1 falls as pages get worse, for releases and peers alike, and where off a cliff.

Every system reads every degraded page, one after the other; pages are degraded once for all of them.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from tqdm import tqdm

from ocr_ops.bench.cells import Opened
from ocr_ops.bench.degrade import DEGRADATIONS, Degradation
from ocr_ops.bench.items import Image, page_image
from ocr_ops.bench.measure import order
from ocr_ops.core.bundle import Digest
from ocr_ops.core.errors import NotProven
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment
from ocr_ops.core.scores import Match, match_words
from ocr_ops.core.verdict import Check
from ocr_ops.data.pages import PageSet

CLIFF = 0.10
"""By how much more word F1 may fall, from the clean page on, than a peer's: beyond that it is a cliff."""


class Curve(Value):
    """One degradation. Figures by system, a value a strength."""

    degradation: str
    unit: str
    strengths: tuple[float, ...]
    harmless: float | None
    word_f1: dict[str, tuple[float, ...]]
    counts: dict[str, tuple[tuple[int, int, int], ...]]
    """Words right, found and expected, summed over the pages."""


class Fall(Value):
    """Where a release falls furthest behind a peer along a curve."""

    degradation: str
    system: str
    peer: str
    strength: float
    fell: float
    """Word F1 lost since the clean page."""
    peer_fell: float

    @property
    def check(self) -> Check:
        found = self.fell - max(self.peer_fell, 0.0)
        name = f"{self.system} beyond {self.peer} at {self.degradation} {self.strength:g}"
        return Check(name=name, found=found, comparison="<=", limit=CLIFF)


class Curves(Record):
    dataset: Digest
    pages: int
    threads: int
    releases: tuple[str, ...]
    clean: dict[str, float]
    """Word F1 on the pages as they are, by system, releases first."""
    curves: tuple[Curve, ...]
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    environment: Environment = Field(default_factory=Environment.here)

    @property
    def falls(self) -> tuple[Fall, ...]:
        """For each release and curve the strength and the peer it falls furthest behind; none without a peer."""
        peers = [name for name in self.clean if name not in self.releases]
        worst = []
        for curve in self.curves:
            for name in self.releases:
                found = [
                    Fall(
                        degradation=curve.degradation,
                        system=name,
                        peer=peer,
                        strength=strength,
                        fell=self.clean[name] - curve.word_f1[name][i],
                        peer_fell=self.clean[peer] - curve.word_f1[peer][i],
                    )
                    for peer in peers
                    for i, strength in enumerate(curve.strengths)
                ]
                if found:
                    worst.append(max(found, key=lambda fall: fall.check.found or 0.0))
        return tuple(worst)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The tables people read: a curve a system, and then how far each release falls behind a peer at worst."""
        table: list[dict[str, Any]] = [
            {
                "degradation": curve.degradation,
                "system": name,
                **{f"{strength:g}": value for strength, value in zip(curve.strengths, f1, strict=True)},
            }
            for curve in self.curves
            for name, f1 in curve.word_f1.items()
        ]
        table += [fall.model_dump() | {"verdict": str(fall.check.verdict)} for fall in self.falls]
        return table


def measure_curves(
    cells: Sequence[Opened], pages: PageSet, degradations: Sequence[Degradation] = DEGRADATIONS
) -> Curves:
    """Word F1 of every cell at every strength of every degradation, summed over `pages`.

    `NotProven` when the pages hold no words; otherwise errors as `System.read`.
    """
    if not any(page.text.split() for page in pages.pages):
        raise NotProven(pages.folder, "no words in its labels", "words to look for", "choose labelled pages")
    totals: dict[tuple[str, float | None], list[Match]] = {}
    worse = [(each, strength) for each in degradations for strength in each.strengths if strength != each.harmless]
    steps = len(pages.pages) * (1 + len(worse)) * len(cells)
    with tqdm(total=steps, desc="read degraded pages", unit="page", disable=None) as bar:

        def read(key: tuple[str, float | None], image: Image, expected: str, turn: int) -> None:
            sums = totals.setdefault(key, [Match() for _ in cells])
            for index in order(len(sums), turn, seed=0):
                sums[index] += match_words(expected, cells[index].system.read(image).text, fold=pages.fold)
                bar.update()

        for number, page in enumerate(pages.pages):
            image = page_image(pages, page)
            read(_CLEAN, image, page.text, number)
            for turn, (degradation, strength) in enumerate(worse, number):
                read((degradation.name, strength), degradation.apply(image, strength), page.text, turn)
    names = [opened.cell.name for opened in cells]
    return Curves(
        dataset=pages.digest,
        pages=len(pages.pages),
        threads=max(opened.cell.threads for opened in cells),
        releases=tuple(opened.cell.name for opened in cells if opened.cell.kind != "peer"),
        clean=dict(zip(names, map(_f1, totals[_CLEAN]), strict=True)),
        curves=tuple(_curve(degradation, names, totals) for degradation in degradations),
    )


_CLEAN = ("", None)


def _curve(
    degradation: Degradation, names: Sequence[str], totals: dict[tuple[str, float | None], list[Match]]
) -> Curve:
    points = [
        totals[_CLEAN if strength == degradation.harmless else (degradation.name, strength)]
        for strength in degradation.strengths
    ]
    return Curve(
        degradation=degradation.name,
        unit=degradation.unit,
        strengths=degradation.strengths,
        harmless=degradation.harmless,
        word_f1={name: tuple(_f1(point[i]) for point in points) for i, name in enumerate(names)},
        counts={
            name: tuple((point[i].hits, point[i].found, point[i].expected) for point in points)
            for i, name in enumerate(names)
        },
    )


def _f1(match: Match) -> float:
    return match.f1 or 0.0  # words were expected: nothing read is nothing right
