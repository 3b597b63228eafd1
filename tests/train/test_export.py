from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, GateFailed
from ocr_ops.core.record import digest_file
from ocr_ops.core.spec import ModelSpec
from ocr_ops.runtime.detection import Detector
from ocr_ops.runtime.recognition import Recognizer
from ocr_ops.runtime.session import Session
from ocr_ops.train.export import export, parity, to_onnx
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
