"""Recognisers of the bars of `tests.tiny`, each with something wrong that a test must find."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import helper, numpy_helper

from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.record import write_atomic
from ocr_ops.data.pages import PageSet
from tests.optimize.graphs import labelled
from tests.tiny import build_bundle

LINES = ("abc", "cab ab", "bbb", "cc ab a", "acbca", "abcabc")


def bars(folder: Path, pages: int = 2) -> PageSet:
    """Pages of bars, with the places of their lines."""
    return labelled(folder, LINES, pages)


def line_crops(folder: Path) -> Path:
    """A folder of line crops with their labels, as `ocr-ops data` lays them out."""
    rows = []
    for number, text in enumerate(LINES):
        crop = np.full((32, 40 * len(text)), 240, np.uint8)
        crop[4:28, 8:-8] = 20
        write_atomic(folder / f"{number}.png", cv2.imencode(".png", crop)[1].tobytes())
        rows.append(f"{number}.png\t{text}")
    write_atomic(folder / "labels.tsv", "\n".join(rows).encode())
    return folder


def layered(folder: Path) -> ModelBundle:
    """Three layers more: two that pass everything on, and between them one that also gives out a large constant.

    Eight bits for a range so wide leave nothing of the rest.
    """
    return _deeper(folder, 1000)


def followed(folder: Path, operator: str, behind: str = "wide") -> ModelBundle:
    """The same, its constant far below zero, and behind one of its layers an operator, twice, that changes no text."""
    bundle = _deeper(folder, -1000 if operator in ("Relu", "Clip") else 0)
    model = onnx.load(bundle.graph)
    constants: dict[str, dict[str, object]] = {
        "Clip": {"least": np.float32(0), "greatest": np.float32(6)},
        "Resize": {"roi": np.float32([]), "scales": np.float32([1, 1, 1, 1])},
    }
    further = constants.get(operator, {})
    if operator == "Add":
        weight = next(tensor for tensor in model.graph.initializer if tensor.name == "narrow_weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) / 4, weight.name))
    kernel = {"kernel_shape": [1, 1]} if operator == "MaxPool" else {}
    at = next(i for i, node in enumerate(model.graph.node) if node.name == behind)
    for node in model.graph.node:
        node.input[:] = ["twice" if name == behind else name for name in node.input]
    for source, made in ((behind, "once"), ("once", "twice")):
        inputs = [source, source] if operator == "Add" else [source, *further]
        at += 1
        model.graph.node.insert(at, helper.make_node(operator, inputs, [made], name=made, **kernel))
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in further.items())
    return _rewritten(bundle, model)


def _deeper(folder: Path, constant: float) -> ModelBundle:
    bundle = build_bundle(folder, "recognition")
    model = onnx.load(bundle.graph)
    same, wide = np.eye(3, dtype=np.float32), np.eye(4, 3, dtype=np.float32)
    bias = np.float32([0, 0, 0, constant])
    names = ["first", "same", "wide", "narrow"]
    weights = [same, same, wide, np.eye(3, 4, dtype=np.float32)]
    source = "features"
    scores = next(node for node in model.graph.node if node.op_type == "Conv")
    place = list(model.graph.node).index(scores)
    for name, weight in zip(names, weights, strict=True):
        extra = [f"{name}_bias"] if name == "wide" else []
        node = helper.make_node("Conv", [source, f"{name}_weight", *extra], [name], name=name)
        model.graph.node.insert(place, node)
        model.graph.initializer.append(numpy_helper.from_array(weight[:, :, None, None], f"{name}_weight"))
        source, place = name, place + 1
    model.graph.initializer.append(numpy_helper.from_array(bias, "wide_bias"))
    model.graph.node[place].input[0] = source
    model.graph.node[place].name = "scores"
    return _rewritten(bundle, model)


def leaking(folder: Path, leak: str) -> ModelBundle:
    """A reader that falls silent where the average ink of its input is low (`padding`), or in company (`batch`)."""
    bundle = build_bundle(folder, "recognition")
    model = onnx.load(bundle.graph)
    last = model.graph.node[-1]
    last.output[0] = "told"
    nodes: Sequence[onnx.NodeProto]
    if leak == "padding":
        nodes = [
            helper.make_node("ReduceMean", ["any"], ["average"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Sub", ["enough", "average"], ["lack"]),
            helper.make_node("Relu", ["lack"], ["silent"]),
            helper.make_node("Squeeze", ["silent", "leak_axes"], ["amount"]),
        ]
    else:
        nodes = [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["batch"]),
            helper.make_node("Cast", ["batch"], ["mates"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Sub", ["mates", "one"], ["amount"]),
        ]
    nodes = [*nodes, helper.make_node("Mul", ["amount", "gain"], ["quiet"])]
    model.graph.node.extend([*nodes, helper.make_node("Add", ["told", "quiet"], ["logits"])])
    constants = {
        "enough": np.float32(0.4),
        "one": np.float32(1),
        "first": np.int64([0]),
        "leak_axes": np.int64([1]),
        "gain": np.float32([[[1e3, 0, 0, 0, 0]]]),  # the blank
    }
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return _rewritten(bundle, model)


def _rewritten(bundle: ModelBundle, model: onnx.ModelProto) -> ModelBundle:
    onnx.checker.check_model(model)
    return ModelBundle.write(bundle.path, bundle.manifest, {GRAPH_FILE: model.SerializeToString()})


def convolving(folder: Path) -> ModelBundle:
    """The tiny detector, its first step a convolution: something to quantize."""
    bundle = build_bundle(folder, "detection")
    model = onnx.load(bundle.graph)
    first = model.graph.node[0]
    model.graph.node[0].CopyFrom(helper.make_node("Conv", [*first.input, "minus"], list(first.output), name="ink"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32([[[[-1]]]]), "minus"))
    return _rewritten(bundle, model)
