"""Variants are compared fairly, and the one that is cheapest of those admitted is chosen."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ocr_ops.bench.variants import bench_variants, choose, refusals
from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import BadInput, GateFailed
from ocr_ops.core.policy import SlicePolicy, VariantPolicy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Verdict
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import build_bundle, draw

SHORT, LONG = ("abc", "cab", "bca", "acb", "bac"), ("abcabcabcabcabc", "cbacbacbacbacba", "aabbccaabbccaab")
COUNT = 8
LENIENT = VariantPolicy(min_speedup=1e-6, slice=SlicePolicy(min_speedup=1e-6, min_lines=10))
"""The graphs cost the same: speed is not what is asked here."""


@pytest.fixture(scope="module")
def pages(tiny_release: Release, tmp_path_factory: pytest.TempPathFactory) -> PageSet:
    """Eight pages of five short lines and three long ones."""
    folder = tmp_path_factory.mktemp("pages")
    image = draw((*SHORT, *LONG))
    lines = Reader(tiny_release).read_page(image).lines
    regions = tuple(Region(polygon=line.polygon, text=line.text) for line in lines)
    assert len(regions) == 8
    for number in range(COUNT):
        write_atomic(folder / f"{number}.png", cv2.imencode(".png", image)[1].tobytes())
    return write_index(folder, tuple(LabelledPage(image=f"{number}.png", regions=regions) for number in range(COUNT)))


def variant(parent: ModelBundle, folder: Path, change: Callable[[onnx.ModelProto], None]) -> ModelBundle:
    """A bundle made of another, its graph changed."""
    model = onnx.load(parent.graph)
    change(model)
    manifest = parent.manifest.model_copy(update={"precision": "int8", "parent": parent.digest})
    return ModelBundle.write(folder, manifest, {GRAPH_FILE: model.SerializeToString()})


def untouched(_model: onnx.ModelProto) -> None:
    """A variant that reads as its parent does."""


def coarse(model: onnx.ModelProto) -> None:
    """Weights in so few steps that a and b are gone."""
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.round(values / 30).astype(np.float32) * 30, tensor.name))


def blind_to_a_in_wide_crops(model: onnx.ModelProto) -> None:
    """In crops of more than 400 pixels no a is ever read: a loss that an average of short lines hides."""
    graph = model.graph
    graph.output[0].name = "hurt"
    graph.node.extend(
        [
            helper.make_node("Shape", ["x"], ["shape"], start=3),
            helper.make_node("Greater", ["shape", "limit"], ["wide"]),
            helper.make_node("Cast", ["wide"], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["one", "loss"], ["less"]),
            helper.make_node("Add", ["logits", "less"], ["hurt"]),
        ]
    )
    constants = {"limit": np.array([400], np.int64), "loss": np.array([0, -99, 0, 0, 0], np.float32)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())


@pytest.mark.parametrize("task", ["detection", "recognition"])
def test_every_variant_gets_every_page(tiny_release: Release, pages: PageSet, tmp_path: Path, task: str) -> None:
    """A sample a page for each, counts for each line or box, and full marks for what reads all."""
    parent: ModelBundle = getattr(tiny_release, task)
    reports = bench_variants([parent, variant(parent, tmp_path / "other", untouched)], pages, LENIENT)
    for report in reports:
        assert len(report.samples["cpu_ms"]) == len(report.samples["wall_ms"]) == COUNT
        assert len(report.samples["missed" if task == "detection" else "edits"]) == 8 * COUNT
        assert report.metrics["accuracy"] == pytest.approx(1)
        assert report.dataset == pages.digest
    assert reports[0].verdict is Verdict.PASS
    assert reports[0].subject == parent.digest
    assert reports[0].metrics["speedup"] == pytest.approx(1)
    names = {check.name for check in reports[1].checks}
    assert {"speedup", "pages", "lines" if task == "recognition" else "boxes"} < names


def test_a_variant_that_reads_alike_is_admitted(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """Given lines enough: 64 of them leave no more than 0.8 % unseen."""
    parent = tiny_release.recognition
    reports = bench_variants([parent, variant(parent, tmp_path / "same", untouched)], pages, LENIENT_ON_FEW)
    assert refusals(reports[1]) == []


LENIENT_ON_FEW = VariantPolicy(
    max_cer_increase=0.05,
    min_speedup=1e-6,
    slice=SlicePolicy(max_cer_increase=0.1, min_speedup=1e-6, min_lines=10),
)


def test_a_degraded_graph_is_refused(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """Quantized too coarsely, it reads something else, and the parent is what is left."""
    parent = tiny_release.recognition
    bundles = [parent, variant(parent, tmp_path / "coarse", coarse)]
    reports = bench_variants(bundles, pages, LENIENT_ON_FEW)
    assert reports[1].verdict is Verdict.FAIL
    assert any(line.startswith("cer_increase ") for line in refusals(reports[1]))
    assert choose(bundles, reports)[0] is parent


def test_one_that_fails_in_a_slice_alone_is_refused_by_its_name(
    tiny_release: Release, pages: PageSet, tmp_path: Path
) -> None:
    """With the limit for the whole wide open, the slice of long lines still says no."""
    parent = tiny_release.recognition
    policy = LENIENT_ON_FEW.model_copy(update={"max_cer_increase": 1.0})
    reports = bench_variants([parent, variant(parent, tmp_path / "blind", blind_to_a_in_wide_crops)], pages, policy)
    names = [check.name for check in reports[1].checks if check.verdict is Verdict.FAIL]
    assert "cer_increase (width: long)" in names
    assert "cer_increase" not in names
    assert "cer_increase (width: short)" not in names


def test_a_slow_variant_is_refused(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """However well it reads."""
    parent = tiny_release.recognition
    bundles = [parent, variant(parent, tmp_path / "other", untouched)]
    reports = bench_variants(bundles, pages, LENIENT_ON_FEW.model_copy(update={"min_speedup": 1e6}))
    assert [line.split()[0] for line in refusals(reports[1])] == ["speedup"]
    assert choose(bundles, reports)[0] is parent


def test_a_variant_without_its_parent_proves_nothing(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """Alone, or beside a stranger, it is INVALID, though its accuracy is above the floor."""
    parent = tiny_release.recognition
    small = variant(parent, tmp_path / "small", untouched)
    stranger = build_bundle(tmp_path / "stranger", "recognition", model="stranger")
    assert bench_variants([small], pages, LENIENT)[0].verdict is Verdict.INVALID
    assert bench_variants([stranger, small], pages, LENIENT_ON_FEW)[1].verdict is Verdict.INVALID


def test_no_variant_that_passes_is_a_failed_gate(tiny_release: Release, pages: PageSet) -> None:
    """There is nothing to fall back to."""
    report = bench_variants([tiny_release.recognition], pages, LENIENT)[0]
    failing = report.model_copy(
        update={"checks": tuple(check.model_copy(update={"found": 0.0}) for check in report.checks)}
    )
    with pytest.raises(GateFailed, match="accuracy 0"):
        choose([tiny_release.recognition], [failing])


def test_variants_of_two_tasks_are_not_compared(tiny_release: Release, pages: PageSet) -> None:
    """Nor is nothing with nothing."""
    with pytest.raises(BadInput, match="detection"):
        bench_variants([tiny_release.detection, tiny_release.recognition], pages, LENIENT)
    with pytest.raises(BadInput, match="no task"):
        bench_variants([], pages, LENIENT)
