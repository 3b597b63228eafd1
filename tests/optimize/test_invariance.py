"""Neighbours, batches and padding change no text, or it is found out."""

from pathlib import Path

import pytest

from ocr_ops.core.bounds import upper_share
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput
from ocr_ops.core.release import Release
from ocr_ops.core.spec import InputSpec
from ocr_ops.core.verdict import Verdict
from ocr_ops.data.pages import PageSet
from ocr_ops.optimize.calibration import sources
from ocr_ops.optimize.invariance import BATCHES, Condition, Invariance, candidates, invariance
from ocr_ops.runtime.recognition import Recognizer, bucket
from tests.optimize.graphs import labelled
from tests.optimize.readers import bars, leaking
from tests.tiny import build_bundle

DENSE = ("abc", "cab", "cabab", "bbbcc", "abcabc", "ccc")
"""Without spaces: what the leaking reader wants is ink."""


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> PageSet:
    return labelled(tmp_path_factory.mktemp("dense"), DENSE, 2)


def named(found: Invariance) -> dict[str, Condition]:
    return {condition.name: condition for condition in (*found.padding, *found.company)}


def test_a_sound_reader_passes_in_any_company(tiny_release: Release, tmp_path: Path) -> None:
    """Every condition is there, with its bound, and the record names the bundle that would serve."""
    found = invariance(tiny_release.recognition, bars(tmp_path), limit=0.3)
    conditions = named(found)
    assert {f"batches of {size}" for size in BATCHES} < set(conditions)
    assert {"narrow neighbours", "wide neighbours", "not padded", "padded to every 256"} < set(conditions)
    assert all(condition.flips == 0 for condition in conditions.values())
    assert conditions["batches of 16"].bound == upper_share(0, 12)
    assert found.verdict is Verdict.PASS
    manifest = tiny_release.recognition.manifest.model_copy(update={"buckets": found.buckets})
    assert found.subject == manifest.digest
    assert Invariance.from_file(found.save(tmp_path / "it.json")) == found


def test_few_lines_prove_nothing(tiny_release: Release, tmp_path: Path) -> None:
    """Twelve lines without a flip may still hide one in five."""
    found = invariance(tiny_release.recognition, bars(tmp_path), limit=0.01)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.buckets == ()


def test_a_planted_padding_leak_is_caught(dense: PageSet, tmp_path: Path) -> None:
    """Wide buckets drown the ink this reader wants: they are refused, and those that do not stand."""
    found = invariance(leaking(tmp_path / "leak", "padding"), dense, limit=0.3)
    conditions = named(found)
    assert conditions["padded to every 64"].flips == 0
    assert conditions["padded to every 256"].flips >= 6
    assert 256 not in found.buckets[:1]
    assert found.verdict is Verdict.PASS


def test_a_leak_between_the_rows_of_a_batch_is_caught(dense: PageSet, tmp_path: Path) -> None:
    """No bucket mends that."""
    found = invariance(leaking(tmp_path / "leak", "batch"), dense, limit=0.3)
    assert found.verdict is Verdict.FAIL
    assert named(found)["batches of 2"].flips == 12
    assert named(found)["narrow neighbours"].flips > 0


def test_a_fixed_width_has_no_buckets_to_choose(tmp_path: Path) -> None:
    """Its batches and neighbours are tried all the same."""
    spec = InputSpec(height=32, width=320, stride=4, max_side=320, padding="black")
    found = invariance(build_bundle(tmp_path / "fixed", "recognition", input=spec), bars(tmp_path / "b"), limit=0.3)
    assert found.padding == ()
    assert found.verdict is Verdict.PASS


def test_detectors_have_no_neighbours(tiny_release: Release, tmp_path: Path) -> None:
    """They read pages one by one."""
    with pytest.raises(BadInput, match="a detection bundle"):
        invariance(tiny_release.detection, bars(tmp_path))


def test_candidates_hold_the_widest_crop() -> None:
    """Each set rises in whole strides, and reaches as far as crops do."""
    for name, buckets in candidates(1000).items():
        assert list(buckets) == sorted(set(buckets)), name
        assert all(width % 16 == 0 for width in buckets)
        assert buckets[-1] >= 1000


def test_serving_obeys_the_buckets_of_the_manifest(tmp_path: Path) -> None:
    """A reader that falls silent in wide buckets reads by narrow ones, and not by a single wide one."""
    assert [bucket(width, (64, 640)) for width in (8, 64, 68, 640, 644)] == [64, 64, 640, 640, 672]
    narrow = leaking(tmp_path / "narrow", "padding")
    manifest = narrow.manifest.model_copy(update={"buckets": (640,)})
    wide = ModelBundle.write(tmp_path / "wide", manifest, {"model.onnx": narrow.graph.read_bytes()})
    crops = [make() for make in sources(manifest, labelled(tmp_path / "pages", ("abc", "cab"), 1))]
    assert [read.text for read in Recognizer(narrow).recognize(crops)] == ["abc", "cab"]
    assert [read.text for read in Recognizer(wide).recognize(crops)] == ["", ""]
