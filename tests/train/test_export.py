from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, GateFailed
from ocr_ops.core.record import digest_file, write_atomic
from ocr_ops.core.spec import ModelSpec
from ocr_ops.data.pages import LabelledPage, PageSet, Region, read_pages, write_index
from ocr_ops.runtime.detection import Detector
from ocr_ops.runtime.recognition import Recognizer
from ocr_ops.runtime.session import Session
from ocr_ops.train.export import export, parity, prove, to_onnx
from ocr_ops.train.networks import build


def with_weights(folder: Path, seed: int = 0) -> Path:
    """Random weights for a model folder, BatchNorm statistics included."""
    torch.manual_seed(seed)
    network = build(ModelSpec.read(folder))
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    save_file(network.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.mark.parametrize("task", ["recognition", "detection"])
def test_a_training_output_becomes_a_bundle_with_proven_parity(
    task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = with_weights(request.getfixturevalue(task))
    bundle = export(folder, tmp_path / "bundle")
    assert ModelBundle.open(tmp_path / "bundle").digest == bundle.digest
    assert bundle.manifest.weights == digest_file(folder / "weights.safetensors")
    assert bundle.manifest.precision == "fp32"
    assert bundle.manifest.facts["parity_max_abs_difference"] <= 1e-3
    assert bundle.manifest.facts["parity_agreement"] >= 0.999
    operators = {node.op_type for node in onnx.load(str(bundle.graph)).graph.node}
    assert "BatchNormalization" not in operators


def test_no_axis_of_the_graph_is_frozen(recognition: Path, detection: Path, tmp_path: Path) -> None:
    reader = Recognizer(export(with_weights(recognition), tmp_path / "reader"), threads=1)
    finder = Detector(export(with_weights(detection), tmp_path / "finder"), threads=1)
    for count, width in ((1, 32), (5, 96), (2, 320)):
        assert len(reader.recognize([np.full((32, width), 255, np.uint8)] * count)) == count
    for shape in ((32, 32), (96, 64), (64, 320)):
        assert len(finder.detect([np.full(shape, 255, np.uint8)])) == 1


def test_what_was_simplified_is_kept(detection: Path, tmp_path: Path) -> None:
    """By which tool, from how many nodes to how many."""
    made = export(with_weights(detection), tmp_path / "bundle").manifest
    assert made.conversion is not None
    assert made.conversion.exporter == f"torch {torch.__version__}"
    assert made.conversion.nodes == len(onnx.load(str(tmp_path / "bundle" / "model.onnx")).graph.node)
    assert made.conversion.traced > made.conversion.nodes
    assert made.opset == 17


def written(folder: Path) -> PageSet:
    """Two pages of two written lines each."""
    pages = []
    for number in range(2):
        image = np.full((160, 320), 255, np.uint8)
        regions = []
        for row, text in enumerate((f"Total {number}12.50", "VAT 7")):
            top = 20 + 60 * row
            cv2.putText(image, text, (20, top + 30), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (0,), 2)
            regions.append(Region(polygon=((16, top), (300, top), (300, top + 40), (16, top + 40)), text=text))
        write_atomic(folder / f"{number}.png", cv2.imencode(".png", image)[1].tobytes())
        pages.append(LabelledPage(image=f"{number}.png", regions=tuple(regions)))
    return write_index(folder, tuple(pages))


def test_pages_read_alike(recognition: Path, detection: Path, tmp_path: Path) -> None:
    """Every labelled line and every box is compared, and counted."""
    pages = written(tmp_path / "pages")
    facts = export(with_weights(recognition), tmp_path / "reader", pages).manifest.facts
    assert facts["parity_lines"] == 4
    made = export(with_weights(detection), tmp_path / "finder", pages)
    assert made.manifest.facts["parity_max_pixels"] <= 1
    assert prove(detection, made, pages).items() <= made.manifest.facts.items()


def test_pages_read_otherwise_fail_the_proof(recognition: Path, detection: Path, tmp_path: Path) -> None:
    """The bundle of other weights: the page and both readings are named."""
    pages = written(tmp_path / "pages")
    for folder, cause in ((recognition, r"line 0 of 0\.png reads"), (detection, r"boxes on|pixels off")):
        made = export(with_weights(folder, seed=3), tmp_path / "bundle")
        with_weights(folder, seed=4)
        with pytest.raises(GateFailed, match=cause):
            prove(folder, made, pages)


def test_pages_without_a_line_prove_nothing(recognition: Path, tmp_path: Path) -> None:
    """Nothing compared is no parity."""
    pages = written(tmp_path / "pages")
    blank = replace(pages, pages=tuple(page.model_copy(update={"regions": ()}) for page in pages.pages))
    with pytest.raises(BadInput, match="no labelled line"):
        export(with_weights(recognition), tmp_path / "bundle", blank)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.shared_data
def test_receipts_read_alike(shared_data: Path, tmp_path: Path) -> None:
    """The shipped small pair on real pages."""
    pages = read_pages(shared_data / "sroie").head(2)
    models = Path(__file__).parents[2] / "models"
    read = export(models / "recognition-small", tmp_path / "reader", pages).manifest.facts
    found = export(models / "detection-small", tmp_path / "finder", pages).manifest.facts
    assert read["parity_lines"] > 50
    assert found["parity_boxes"] > 50
    assert found["parity_max_pixels"] < 0.1


def test_weights_that_do_not_fit_the_spec_are_refused(recognition: Path, detection: Path, tmp_path: Path) -> None:
    (recognition / "weights.safetensors").write_bytes((with_weights(detection) / "weights.safetensors").read_bytes())
    with pytest.raises(BadInput, match="small-reader"):
        export(recognition, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_graph_of_other_weights_fails_the_proof(recognition: Path, tmp_path: Path) -> None:
    bundle = export(with_weights(recognition), tmp_path / "bundle")
    spec = ModelSpec.read(recognition)
    torch.manual_seed(1)
    with pytest.raises(GateFailed, match="difference"):
        parity(build(spec).eval(), Session(bundle, threads=1), spec)


def test_the_same_weights_give_the_same_graph(detection: Path) -> None:
    spec = ModelSpec.read(detection)
    torch.manual_seed(2)
    network = build(spec).eval()
    assert to_onnx(network, spec) == to_onnx(network, spec)
