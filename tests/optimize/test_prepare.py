"""A graph optimised ahead: the same bits, on machines like this one only."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from ocr_ops.cli import main
from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import CorruptBundle, GateFailed, OutsideSystem, UsageError
from ocr_ops.core.release import Release
from ocr_ops.optimize import prepare
from ocr_ops.optimize.prepare import prepared
from ocr_ops.optimize.quantize import quantize
from ocr_ops.runtime.session import Session, failure, graph_name
from tests.optimize.graphs import labelled


@pytest.mark.parametrize("variant", ["detection", "recognition", "int8"])
def test_the_same_bits_come_out(variant: str, tiny_release: Release, tmp_path: Path) -> None:
    """At sizes that the making of it did not try, too."""
    plain = tiny_release.detection if variant == "detection" else tiny_release.recognition
    if variant == "int8":
        plain = quantize(plain, labelled(tmp_path / "pages"), tmp_path / "int8")
    made = prepared(plain, tmp_path / "made")
    assert made.manifest.files.keys() == {GRAPH_FILE, graph_name()}
    assert made.manifest.parent == plain.digest
    assert made.manifest.files[GRAPH_FILE] == plain.manifest.files[GRAPH_FILE]
    rng = np.random.default_rng(3)
    for count, height, width in ((1, 32, 32), (4, 128, 160)):
        size = (count, 1, plain.manifest.input.height or height, width)
        batch = rng.uniform(-1, 1, size).astype(np.float32)
        assert np.array_equal(Session(plain, 1).run(batch), Session(made, 1).run(batch))


def test_the_machines_own_graph_is_the_one_that_runs(tiny_release: Release, tmp_path: Path) -> None:
    """Another graph under that name reads otherwise; under another machine's name it does not count."""
    made = prepared(tiny_release.recognition, tmp_path / "made")
    graph = onnx.load(made.graph)
    graph.graph.node.append(onnx.helper.make_node("Neg", ["logits"], ["mirrored"]))
    graph.graph.output[0].name = "mirrored"
    batch = np.zeros((1, 1, 32, 64), np.float32)
    expected = Session(tiny_release.recognition, 1).run(batch)
    for name, sign in ((graph_name(), -1), ("model.0123456789ab.onnx", 1)):
        files = {GRAPH_FILE: made.graph.read_bytes(), name: graph.SerializeToString()}
        other = ModelBundle.write(tmp_path / name, tiny_release.recognition.manifest, files)
        assert np.array_equal(Session(other, 1).run(batch), sign * expected)


def test_an_altered_one_is_noticed(tiny_release: Release, tmp_path: Path) -> None:
    """Its hash stands in the manifest like the plain one's."""
    made = prepared(tiny_release.recognition, tmp_path / "made")
    (made.path / graph_name()).write_bytes(b"another")
    with pytest.raises(CorruptBundle):
        ModelBundle.open(made.path)


def test_other_machines_have_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provider, version and instructions are all in it."""
    here = graph_name()
    assert here != graph_name("cuda")
    monkeypatch.setattr("ocr_ops.runtime.session.ort.__version__", "0.0.1")
    assert here != graph_name()


def test_a_graph_that_computes_otherwise_is_not_kept(
    tiny_release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should an optimiser ever round differently when it runs ahead, nothing is written."""
    real = onnxruntime.InferenceSession

    def rounding(graph: bytes, settings: object, **others: object) -> object:
        model = onnx.load_model_from_string(graph)
        model.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(model.graph.initializer[0]) * np.float32(1.001), "weights"
            )
        )
        return real(model.SerializeToString(), settings, **others)

    class Rounding:
        """onnxruntime, whose optimiser is off by a thousandth."""

        InferenceSession = staticmethod(rounding)

    monkeypatch.setattr(prepare, "ort", Rounding)
    with pytest.raises(GateFailed, match="another output"):
        prepared(tiny_release.recognition, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_providers_that_keep_no_graphs(tiny_release: Release, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cpu or cuda"):
        prepared(tiny_release.recognition, tmp_path / "made", "openvino")
    if failure("cuda"):
        with pytest.raises(OutsideSystem):
            prepared(tiny_release.recognition, tmp_path / "made", "cuda")


def test_the_command_leaves_the_plain_one(
    tiny_release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it makes stands beside, under a name that says so."""
    plain = tiny_release.recognition.copy(tmp_path / "bars-fp32")
    main(["prepare", str(plain.path), "--json"])
    row = json.loads(capsys.readouterr().out)
    assert row["bundle"] == str(tmp_path / "bars-fp32-prepared")
    assert ModelBundle.open(tmp_path / "bars-fp32-prepared").digest == row["digest"] != plain.digest
    assert ModelBundle.open(plain.path).digest == plain.digest
