"""The INT8 variant is a bundle of its own that still does its job."""

from pathlib import Path

import cv2
import onnx
import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.optimize.quantize import quantize
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import draw

LINES = ("abc cab", "cc ab a", "bbb")


@pytest.fixture
def pages(tiny_release: Release, tmp_path: Path) -> PageSet:
    """Bars with the boxes the tiny detector finds."""
    image = draw(LINES)
    write_atomic(tmp_path / "pages" / "0.png", cv2.imencode(".png", image)[1].tobytes())
    page = Reader(tiny_release).read_page(image)
    regions = tuple(Region(polygon=line.polygon, text=line.text) for line in page.lines)
    return write_index(tmp_path / "pages", (LabelledPage(image="0.png", regions=regions),))


def test_variant_names_its_parent_and_its_calibration(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """Lineage is in the manifest, and the graph really holds quantized operators."""
    parent = tiny_release.recognition
    made = quantize(parent, pages, tmp_path / "int8")
    assert made.manifest.precision == "int8"
    assert made.manifest.parent == parent.digest
    assert made.manifest.dataset == pages.digest
    assert made.manifest.weights == parent.manifest.weights
    assert made.digest != parent.digest
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(made.graph).graph.node}
    with pytest.raises(BadInput, match="a int8 bundle"):
        quantize(made, pages, tmp_path / "again")


def test_the_variant_reads_what_its_parent_reads(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """Eight bits change no text that is as plain as this."""
    made = quantize(tiny_release.recognition, pages, tmp_path / "int8")
    small = Release.write(tmp_path / "release", tiny_release.detection, made)
    assert [line.text for line in Reader(small).read_page(draw(LINES)).lines] == list(LINES)
