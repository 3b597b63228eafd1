"""Variants of fewer bits are bundles of their own that still do their job."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ocr_ops.core.bundle import Calibration, ModelBundle, Quantization
from ocr_ops.core.errors import BadInput, OutsideSystem
from ocr_ops.core.release import Release
from ocr_ops.data.lines import read_lines
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.optimize.calibration import read_material, sources
from ocr_ops.optimize.cast import lacking
from ocr_ops.optimize.quantize import CAST, DYNAMIC, FOLLOWERS, quantize
from ocr_ops.runtime.recognition import Recognizer
from tests.optimize.readers import LINES, bars, followed, layered, line_crops


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> PageSet:
    return bars(tmp_path_factory.mktemp("bars"))


def texts(bundle: ModelBundle, pages: PageSet) -> list[str]:
    """What a recogniser reads of the first page."""
    crops = [make() for make in sources(bundle.manifest, pages)]
    return [read.text for read in Recognizer(bundle).recognize(crops)][: len(LINES)]


def operators(bundle: ModelBundle) -> set[str]:
    return {node.op_type for node in onnx.load(bundle.graph).graph.node}


def quantized(bundle: ModelBundle) -> set[str]:
    """Names of the convolutions whose weights have eight bits."""
    graph = onnx.load(bundle.graph).graph
    exact = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in exact}


def test_variant_names_its_parent_and_its_calibration(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """Lineage is in the manifest, and the graph really holds quantized operators."""
    parent = tiny_release.recognition
    made = quantize(parent, pages, tmp_path / "int8")
    manifest = made.manifest
    assert (manifest.precision, manifest.variant, manifest.recipe) == ("int8", "int8", None)
    assert manifest.parent == parent.digest
    assert manifest.dataset == pages.digest
    assert manifest.weights == parent.manifest.weights
    assert made.digest != parent.digest
    assert "QuantizeLinear" in operators(made)
    with pytest.raises(BadInput, match="a int8 bundle"):
        quantize(made, pages, tmp_path / "again")


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_every_calibration_reads_what_the_parent_reads(
    tiny_release: Release,
    pages: PageSet,
    tmp_path: Path,
    calibration: Calibration,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Eight bits change no text that is as plain as this; and standard output stays clean."""
    made = quantize(tiny_release.recognition, pages, tmp_path / "it", Quantization(calibration=calibration))
    assert texts(made, pages) == list(LINES)
    assert made.manifest.variant == ("int8" if calibration == "minmax" else f"int8-{calibration}")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("variant", ["int8-dynamic", "fp16"])
def test_what_needs_no_calibration_says_so(tiny_release: Release, pages: PageSet, tmp_path: Path, variant: str) -> None:
    """No dataset is named, the texts stay, and input and output are fp32 as before."""
    out = tmp_path / "it"
    if variant == "fp16":
        recipe, made = CAST, quantize(tiny_release.recognition, None, out, CAST, "fp16")
    else:
        recipe, made = DYNAMIC, quantize(tiny_release.recognition, None, out, DYNAMIC)
    assert (made.manifest.variant, made.manifest.dataset, made.manifest.recipe) == (variant, None, recipe)
    assert texts(made, pages) == list(LINES)
    assert ("Cast" if variant == "fp16" else "ConvInteger") in operators(made)


def test_bfloat16_is_refused_where_nothing_computes_in_it(tiny_release: Release, tmp_path: Path) -> None:
    """One line: the flag that is missing, and who would have it; nothing is left behind."""
    with pytest.raises(OutsideSystem, match=r"CPU provider has no bfloat16 convolution.*CUDA and TensorRT"):
        quantize(tiny_release.recognition, None, tmp_path / "bf16", CAST, "bf16")
    assert not (tmp_path / "bf16").exists()


def test_missing_flags_are_named(tmp_path: Path) -> None:
    """Of x86 and of arm64, whose kernels list them under another name."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t: fpu avx2\n")
    assert "lacks asimdhp" in lacking("fp16", cpuinfo)
    assert "lacks avx512_bf16 or amx_bf16 or bf16" in lacking("bf16", cpuinfo)
    cpuinfo.write_text("Features\t: fp asimd asimdhp bf16\n")
    assert lacking("fp16", cpuinfo) == ""
    assert "has no bfloat16 convolution" in lacking("bf16", cpuinfo)


def test_first_and_last_layer_stay_in_float_unless_told_otherwise(pages: PageSet, tmp_path: Path) -> None:
    """The rule, and a recipe that names others."""
    parent = layered(tmp_path / "fp32")

    assert quantized(quantize(parent, pages, tmp_path / "rule")) == {"same", "wide", "narrow"}
    made = quantize(parent, pages, tmp_path / "told", Quantization(kept=("wide", "narrow")))
    assert quantized(made) == {"first", "same", "scores"}
    assert made.manifest.variant == "int8-mixed"
    assert made.manifest.recipe == Quantization(kept=("wide", "narrow"))


@pytest.mark.parametrize("name", ["", "conv"])
def test_layers_without_names_of_their_own_are_told_apart(pages: PageSet, tmp_path: Path, name: str) -> None:
    """Not every export names its nodes."""
    parent = layered(tmp_path / "fp32")
    model = onnx.load(parent.graph)
    for node in model.graph.node:
        node.name = name
    parent = ModelBundle.write(parent.path, parent.manifest, {"model.onnx": model.SerializeToString()})
    assert len(quantized(quantize(parent, pages, tmp_path / "int8"))) == 3


@pytest.mark.parametrize("operator", FOLLOWERS)
def test_what_follows_a_layer_goes_on_in_eight_bits(pages: PageSet, tmp_path: Path, operator: str) -> None:
    """An activation is part of its layer, which has no levels for what is below zero; and nothing turns float between
    two layers, but where the one before is."""

    def followers(bundle: ModelBundle) -> list[str]:
        """What those take that are left in the graph."""
        return [node.input[0] for node in onnx.load(bundle.graph).graph.node if node.name in ("once", "twice")]

    def exact(bundle: ModelBundle) -> set[str]:
        nodes = onnx.load(bundle.graph).graph.node
        return {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}

    made = quantize(followed(tmp_path / "fp32", operator), pages, tmp_path / "int8")
    assert texts(made, pages) == list(LINES)
    assert len(followers(made)) == (0 if operator in ("Relu", "Clip") else 2)
    assert exact(made).issuperset(followers(made))
    kept = quantize(followed(tmp_path / "other", operator, "first"), pages, tmp_path / "kept")
    assert followers(kept) == ["first", "once"]
    assert exact(kept).isdisjoint(followers(kept))


def test_buckets_of_the_parent_are_not_proven_of_the_variant(pages: PageSet, tmp_path: Path) -> None:
    """They have to be found anew."""
    parent = layered(tmp_path / "fp32")
    parent = ModelBundle.write(
        parent.path,
        parent.manifest.model_copy(update={"buckets": (64, 640)}),
        {"model.onnx": parent.graph.read_bytes()},
    )
    assert quantize(parent, pages, tmp_path / "int8").manifest.buckets == ()


def test_line_crops_calibrate_a_recogniser(tiny_release: Release, tmp_path: Path) -> None:
    """And no detector, which would learn the ranges of a picture it never sees."""
    folder = line_crops(tmp_path / "lines")
    material = read_material(folder, "recognition")
    made = quantize(tiny_release.recognition, material, tmp_path / "int8")
    assert made.manifest.dataset == read_lines(folder).digest
    with pytest.raises(BadInput, match="line crops; expected whole pages"):
        read_material(folder, "detection")
    with pytest.raises(BadInput, match="line crops; expected whole pages"):
        quantize(tiny_release.detection, material, tmp_path / "none")


def test_material_without_anything_to_read_is_refused(tiny_release: Release, tmp_path: Path) -> None:
    """An empty set, and for a recogniser pages whose regions have no text."""
    image = bars(tmp_path / "bars", 1)
    unread = Region(polygon=((0, 0), (9, 0), (9, 9), (0, 9)), text="")
    silent = write_index(image.folder, (LabelledPage(image="0.png", regions=(unread,)),))
    with pytest.raises(BadInput, match="pages without a readable region"):
        quantize(tiny_release.recognition, silent, tmp_path / "none")
    with pytest.raises(BadInput, match="nothing in it"):
        quantize(tiny_release.detection, PageSet(tmp_path, (), fold=False), tmp_path / "none")
    with pytest.raises(BadInput):
        read_material(tmp_path / "nowhere", "detection")
    assert not (tmp_path / "none").exists()


def test_calibration_is_bounded_and_spread(tiny_release: Release, pages: PageSet) -> None:
    """So many pictures at most, from the first to the last of them."""
    manifest = tiny_release.recognition.manifest
    whole = sources(manifest, pages)
    assert len(whole) == 2 * len(LINES)
    some = sources(manifest, pages, 5)
    assert len(some) == 4
    assert np.array_equal(some[1](), whole[3]())
