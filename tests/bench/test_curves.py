"""Curves start at the clean page, and a cliff is where we fall and a peer does not."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr_ops.bench.cells import Settings, opened, plan_peers, plan_releases
from ocr_ops.bench.curves import CLIFF, Curve, Curves, measure_curves
from ocr_ops.bench.degrade import DEGRADATIONS
from ocr_ops.bench.picture import draw as picture
from ocr_ops.core.errors import NotProven
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Verdict
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from tests.tiny import draw

LINES = ("abc cab", "cc")


def labelled(folder: Path, lines: tuple[str, ...]) -> PageSet:
    write_atomic(folder / "0.png", cv2.imencode(".png", draw(LINES))[1].tobytes())
    regions = tuple(Region(polygon=((0, 0), (9, 0), (9, 9), (0, 9)), text=text) for text in lines)
    return write_index(folder, (LabelledPage(image="0.png", regions=regions),))


def curves(ours: tuple[float, ...], peer: tuple[float, ...]) -> Curves:
    """One curve of made-up figures, the first of which is the clean page's."""
    curve = Curve(
        degradation="blur",
        unit="sigma, pixels",
        strengths=tuple(float(i) for i in range(len(ours))),
        harmless=0,
        word_f1={"ours": ours, "peer": peer},
        counts={"ours": ((0, 0, 0),) * len(ours), "peer": ((0, 0, 0),) * len(peer)},
    )
    clean = {"ours": ours[0], "peer": peer[0]}
    return Curves(dataset="sha256:" + "0" * 64, pages=1, threads=1, releases=("ours",), clean=clean, curves=(curve,))


def test_a_release_and_a_peer_over_every_degradation(tiny_release: Release, tmp_path: Path) -> None:
    """What never looks at the page does not fall; we do, and it is called a cliff."""
    pages = labelled(tmp_path, LINES)
    (tmp_path / "peer.py").write_text("print('abc cab cc')")
    kinds = [each for each in DEGRADATIONS if each.name in {"grain", "orientation", "JPEG"}]
    peers = [f"cmd:{sys.executable} {tmp_path / 'peer.py'} {{image}}"]
    with opened([*plan_releases([tiny_release], Settings()), *plan_peers(peers, Settings())]) as cells:
        found = measure_curves(cells, pages, kinds)
    ours, peer = found.clean
    assert found.clean == {ours: 1, peer: 1}
    by_name = {curve.degradation: curve for curve in found.curves}
    assert by_name["grain"].word_f1[ours][0] == 1
    assert by_name["grain"].word_f1[ours][-1] < 0.5
    assert by_name["JPEG"].word_f1[ours][0] == 1
    assert by_name["grain"].counts[peer] == ((3, 3, 3),) * 6
    assert all(set(curve.word_f1[peer]) == {1} for curve in found.curves)
    falls = {fall.degradation: fall for fall in found.falls}
    assert falls["grain"].check.verdict is Verdict.FAIL
    assert [row["verdict"] for row in found.rows if "verdict" in row].count("FAIL") >= 1
    assert Curves.parse_json(found.canonical, "itself") == found


@pytest.mark.parametrize(
    ("ours", "peer", "verdict"),
    [
        ((0.9, 0.9, 0.5), (0.8, 0.8, 0.8), Verdict.FAIL),
        ((0.9, 0.9, 0.5), (0.8, 0.8, 0.3), Verdict.PASS),
        ((0.9, 0.9 - CLIFF / 2, 0.9), (0.8, 0.8, 0.8), Verdict.PASS),
        ((0.9, 0.85, 0.85), (0.5, 0.7, 0.6), Verdict.PASS),
    ],
    ids=["alone", "together", "a slope", "the peer improves by chance"],
)
def test_a_cliff_is_where_we_fall_and_a_peer_does_not(
    ours: tuple[float, ...], peer: tuple[float, ...], verdict: Verdict
) -> None:
    """Measured from each one's own clean page."""
    (fall,) = curves(ours, peer).falls
    assert fall.check.verdict is verdict
    if verdict is Verdict.FAIL:
        assert (fall.strength, fall.peer) == (2, "peer")
        assert fall.fell == pytest.approx(0.4)


def test_the_picture_is_a_picture() -> None:
    """A PNG that decodes, wide enough to read."""
    image = cv2.imdecode(np.frombuffer(picture(curves((0.9, 0.5), (0.8, 0.8))), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[1] > 1000


def test_pages_without_words_have_no_curve(tmp_path: Path) -> None:
    """Nothing to lose is no evidence."""
    with pytest.raises(NotProven, match="no words"):
        measure_curves([], labelled(tmp_path, ()), DEGRADATIONS[:1])
