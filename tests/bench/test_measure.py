"""All read all in turn, and what comes of it is told with its samples, its slices and its doubt."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr_ops.bench.cells import Opened, Plan, Settings, opened, plan_bundles, plan_peers, plan_releases
from ocr_ops.bench.items import Items, of_lines, of_pages
from ocr_ops.bench.measure import WARM_UP_CALLS, measure, order
from ocr_ops.bench.run import Cell, Run
from ocr_ops.bench.worker import Image, Sample
from ocr_ops.core.errors import NotProven
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Check
from ocr_ops.data.lines import read_lines
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import LINE, draw

PAGES = (("abc cab", "cc"), ("bbb a",), ())


@pytest.fixture
def pages(tiny_release: Release, tmp_path: Path) -> PageSet:
    """Three words, two words, none; labelled where the tiny detector finds them."""
    labelled = []
    for number, lines in enumerate(PAGES):
        image = draw(lines)
        write_atomic(tmp_path / f"{number}.png", cv2.imencode(".png", image)[1].tobytes())
        found = Reader(tiny_release).read_page(image).lines
        regions = tuple(Region(polygon=line.polygon, text=line.text) for line in found)
        labelled.append(LabelledPage(image=f"{number}.png", regions=regions))
    return write_index(tmp_path, tuple(labelled))


@pytest.fixture
def peer(tmp_path: Path) -> str:
    """A peer that always says `abc cc`."""
    (tmp_path / "peer.py").write_text("print('abc cc')")
    return f"cmd:{sys.executable} {tmp_path / 'peer.py'} {{image}}"


@pytest.fixture
def lines(tmp_path: Path) -> Items:
    """Five crops of which one does not decode; the last label is wrong."""
    texts = ["abc", "cab", "cc", "abc", "cac"]
    for number, text in enumerate(("abc", "cab", "cc", "", "cab")):
        crop = draw((text,))[32 : 32 + LINE, 28:128]
        write_atomic(tmp_path / f"{number}.png", cv2.imencode(".png", crop)[1].tobytes())
    (tmp_path / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "labels.tsv").write_text("".join(f"{number}.png\t{text}\n" for number, text in enumerate(texts)))
    return of_lines(read_lines(tmp_path))


def test_releases_and_peers_read_the_same_pages(tiny_release: Release, pages: PageSet, peer: str) -> None:
    """Words over all pages, pages on average, CPU beside the peer's; the policy binds releases, not peers."""
    plans = [*plan_releases([tiny_release], Settings()), *plan_peers([peer], Settings())]
    name = plans[1].peer
    policy = Policy(max_cpu_ratio={name: 1e6, "rapidocr": 0.2})
    with opened(plans) as cells:
        run = measure(cells, of_pages(pages), policy, title="tiny", command="ocr-ops bench", seed=3)
    ours, theirs = run.results
    assert ours.metrics["word_f1"] == ours.metrics["macro_f1"] == 1
    assert theirs.metrics["word_f1"] == pytest.approx(2 * 2 / (5 + 6))  # 2 right of 6 said, 5 expected
    assert theirs.metrics["macro_f1"] == pytest.approx((4 / 5 + 0 + 0) / 3)
    assert ours.readings == tuple("\n".join(lines) for lines in PAGES)
    assert ours.metrics["cold_start_ms"] > ours.samples["warm_up_ms"][0]
    assert ours.metrics["size_mb"] > 0
    for result in run.results:
        assert {len(values) for name, values in result.samples.items() if name != "warm_up_ms"} == {3}
        assert len(result.samples["warm_up_ms"]) >= 5
        assert {"peak_mb", "cpu_ms", "p50_ms", "items_per_s"} <= result.metrics.keys()
        assert "p95_ms" not in result.metrics  # of three pages it would be the worst by another name
    assert [result.slices["words: few"]["items"] for result in run.results] == [3, 3]
    assert {(ratio.metric, ratio.cell, ratio.over) for ratio in run.ratios} == {
        (metric, cell, over)
        for metric in ("cpu_ms", "wall_ms")
        for cell, over in ((ours.cell.name, name), (name, ours.cell.name))
    }
    assert all(ratio.low <= ratio.median <= ratio.high and ratio.pairs == 3 for ratio in run.ratios)
    assert [check.verdict for check in ours.checks] == ["PASS", "PASS", "INVALID"]  # RapidOCR was not there
    assert theirs.checks == ()
    assert [row["verdict"] for row in run.rows] == ["INVALID", None]
    assert run.rows[0].keys() == run.rows[1].keys()
    assert Run.parse_json(run.canonical, "itself") == run
    assert (run.unit, run.items, run.block, run.seed) == ("page", ("0.png", "1.png", "2.png"), 1, 3)


def test_lines_are_read_alone_and_together(tiny_release: Release, lines: Items) -> None:
    """Edits over characters, exact lines, words; what does not decode is counted and left out."""
    plans = plan_bundles([tiny_release.recognition], Settings(batches=(1, 3)))
    with opened(plans) as cells:
        run = measure(cells, lines, Policy(), title="tiny", command="")
    alone, together = run.results
    for result in run.results:
        assert result.metrics["cer"] == pytest.approx(1 / 11)
        assert result.metrics["exact"] == result.metrics["word_accuracy"] == pytest.approx(3 / 4)
        assert (result.metrics["lines"], result.metrics["unreadable"]) == (4, 1)
        assert [check.verdict for check in result.checks] == ["PASS"]  # 0.91 against a floor of 0.9
        assert result.slices["script: latin"]["items"] == 4
    assert alone.readings == together.readings == ("abc", "cab", "cc", "cab")
    assert len(run.items) == len(run.expected) == 4
    assert run.block == 3
    assert len(set(together.samples["wall_ms"][:3])) == 1  # one call
    assert {ratio.pairs for ratio in run.ratios} == {2}  # its lines are no pairs of their own
    assert together.metrics["items_per_s"] > 0


def test_boxes_are_held_against_labels(tiny_release: Release, pages: PageSet) -> None:
    """At IoU 0.5; known verdicts on a bundle take the place of its floor."""
    bundle = tiny_release.detection
    known = Check(name="admitted", found=1, comparison=">=", limit=2)
    with opened(plan_bundles([bundle], Settings())) as cells:
        run = measure(cells, of_pages(pages), Policy(), title="", command="", judged={bundle.digest: (known,)})
    (result,) = run.results
    assert result.metrics["hmean"] == result.metrics["precision"] == result.metrics["recall"] == 1
    assert result.samples["expected"] == (2, 1, 0)
    assert result.readings == ()
    assert result.checks == (known,)


class Clock:
    """A system whose every reading takes as long as it is told to."""

    version, ready_ms = "1", None

    def __init__(self, name: str, walls: Iterator[float], log: list[str]) -> None:
        self.name, self.walls, self.log = name, walls, log

    def read(self, *items: Image) -> Sample:
        self.log.append(self.name)
        return Sample(("",) * len(items), next(self.walls), None)

    def close(self) -> None:
        """Nothing is held."""


def clocks(*walls: Iterator[float]) -> tuple[list[Opened], list[str]]:
    log: list[str] = []
    made = []
    for number, each in enumerate(walls):
        cell = Cell(name=str(number), kind="peer", version="1")
        system = Clock(str(number), each, log)
        made.append(Opened(cell, system, Plan(cell, lambda system=system: system)))
    return made, log


def blank(count: int) -> Items:
    names = tuple(map(str, range(count)))
    empty = np.zeros((8, 8), np.uint8)
    return Items(
        unit="line",
        dataset="sha256:" + "0" * 64,
        fold=False,
        names=names,
        expected=("",) * count,
        regions=((),) * count,
        load=lambda _: empty,
        slices=lambda _, __: (),
    )


def falling(steps: Sequence[float], level: float) -> Iterator[float]:
    yield from steps
    while True:
        yield level


def test_warm_up_lasts_as_long_as_it_takes() -> None:
    """Each its own, found from its times; what never settles is measured and says so."""

    def restless() -> Iterator[float]:
        yield from (1000 - 10 * call for call in range(100))

    cells, _ = clocks(falling([90, 50, 30, 20], 10), falling([], 10), restless())
    run = measure(cells, blank(4), Policy(), title="", command="")
    slow, quick, never = run.results
    assert (slow.metrics["warm_up"], quick.metrics["warm_up"]) == (4, 1)
    assert "warm_up" not in never.metrics
    assert len(never.samples["warm_up_ms"]) <= WARM_UP_CALLS + 1
    assert slow.samples["wall_ms"] == (10,) * 4
    assert "cpu_ms" not in slow.metrics
    assert {ratio.metric for ratio in run.ratios} == {"wall_ms"}


def test_turns_are_shuffled_by_the_seed() -> None:
    """Everybody is first as often as the others, and the same seed gives the same order."""
    firsts = [order(3, turn, seed=1)[0] for turn in range(9)]
    assert sorted(firsts) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(sorted(order(3, turn, seed=1)) == [0, 1, 2] for turn in range(9))
    assert len({tuple(order(5, turn, seed=2)) for turn in range(50)}) > 5
    cells, log = clocks(*(falling([], 10) for _ in range(3)))
    measure(cells, blank(3), Policy(), title="", command="", seed=1)
    assert log[-9:] == [str(index) for turn in range(3) for index in order(3, turn, seed=1)]


def test_nothing_read_is_no_measurement(lines: Items) -> None:
    """A dataset none of which decodes."""
    cells, _ = clocks(falling([], 10))
    empty = Items(**{name: getattr(lines, name) for name in lines.__slots__} | {"load": lambda _: None})
    with pytest.raises(NotProven, match="not one item"):
        measure(cells, empty, Policy(), title="", command="")


def test_only_a_block_is_held_at_a_time() -> None:
    """Ten thousand pages take no more memory than one."""
    held: list[int] = []

    def load(number: int) -> Image:
        held.append(number)
        return np.zeros((8, 8), np.uint8)

    cells, log = clocks(falling([], 10))
    items = blank(50)
    watched = Items(**{name: getattr(items, name) for name in items.__slots__} | {"load": load})

    def read(*images: Image) -> Sample:
        log.append("read")
        assert len(held) <= max(1, log.count("read"))
        return Sample(("",), 10.0, None)

    cells[0].system.read = read  # type: ignore[method-assign]
    measure(cells, watched, Policy(), title="", command="")
    assert held == list(range(50))
