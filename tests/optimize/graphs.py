"""Graphs as other people export them, that read the bars of `tests.tiny` without any training."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ocr_ops.core.reading import Polygon
from ocr_ops.core.record import write_atomic
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from tests.tiny import draw

LINES = ("abc", "ca", "bb", "cab", "ac", "b")
"""Words: a model of fixed width reads nothing longer."""
_LINE, _PITCH, _LEFT = 24, 48, 32


def labelled(folder: Path, lines: Sequence[str] = LINES, pages: int = 2) -> PageSet:
    """Pages of bars, with the places of their lines."""
    made = []
    for number in range(pages):
        image = draw(lines, height=400)
        write_atomic(folder / f"{number}.png", cv2.imencode(".png", image)[1].tobytes())
        regions = tuple(Region(polygon=_place(row, line), text=line) for row, line in enumerate(lines))
        made.append(LabelledPage(image=f"{number}.png", regions=regions))
    return write_index(folder, tuple(made))


def _place(row: int, line: str) -> Polygon:
    top, right = 32.0 + row * _PITCH, _LEFT + 32.0 * len(line) - 8
    return ((_LEFT, top), (right, top), (right, top + _LINE), (_LEFT, top + _LINE))


def save(model: onnx.ModelProto, path: Path) -> Path:
    write_atomic(path, model.SerializeToString())
    return path


def recogniser(
    mean: Sequence[float] = (0.5,) * 3,
    std: Sequence[float] = (0.5,) * 3,
    *,
    height: int = 48,
    width: int | None = None,
    batch: int | None = None,
    blank: str = "first",
    softmax: bool = True,
    twice: bool = False,
) -> onnx.ModelProto:
    """Bars a, b and c: ink in the upper half, the lower half, or both. One step in a sixth of the height.

    Black is taken for paper, as padding of that colour has to be. `twice`: the charset's space is there twice.
    """
    part = height // 4
    # Rows: blank, a, b, c, space, which is never seen here. Columns: upper and lower ink.
    weights = np.float32([[-8, -8], [12, -12], [-12, 12], [8, 8], [-20, -20]])
    bias = np.float32([4, -2, -2, -7, -9])
    if twice:
        weights, bias = np.concatenate([weights, weights[-1:]]), np.append(bias, np.float32(-20))
    if blank == "last":
        weights, bias = np.roll(weights, -1, axis=0), np.roll(bias, -1)
    step = height // 6 if height == 48 else height // 8
    nodes = [
        *_pixels(),
        helper.make_node("Less", ["pixel", "black"], ["outside"]),
        helper.make_node("Where", ["outside", "paper", "pixel"], ["page"]),
        helper.make_node("Sub", ["half", "page"], ["negative"]),
        helper.make_node("Relu", ["negative"], ["pale"]),
        helper.make_node("Mul", ["pale", "two"], ["ink"]),
        helper.make_node("Split", ["ink", "rows"], ["edge0", "upper", "middle", "lower", "edge1"], axis=2),
        helper.make_node("AveragePool", ["upper"], ["high"], kernel_shape=[part, step], strides=[part, step]),
        helper.make_node("AveragePool", ["lower"], ["low"], kernel_shape=[part, step], strides=[part, step]),
        helper.make_node("Concat", ["high", "low"], ["features"], axis=1),
        helper.make_node("Conv", ["features", "weights", "bias"], ["scores"]),
        helper.make_node("Squeeze", ["scores", "axes"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["logits"], perm=[0, 2, 1]),
        *([helper.make_node("Softmax", ["logits"], ["probabilities"], axis=2)] if softmax else []),
    ]
    constants = {
        **_colours(mean, std),
        "black": np.float32(0.02),
        "paper": np.float32(0.94),
        "half": np.float32(0.5),
        "two": np.float32(2),
        "weights": weights[:, :, None, None],
        "bias": bias,
        "rows": np.int64([part // 2, part, part, part, part // 2]),
        "axes": np.int64([2]),
    }
    output = "probabilities" if softmax else "logits"
    return _model(nodes, constants, (batch, 3, height, width), output, (None, None, len(bias)))


def detector(
    mean: Sequence[float], std: Sequence[float], *, side: int | None = None, sigmoid: bool = True
) -> onnx.ModelProto:
    """Anything darker than paper, and not black, closed to a block a line and eaten away all round."""
    closing, eating = 31, _LINE // 2 - 1
    nodes = [
        *_pixels(),
        helper.make_node("Less", ["pixel", "black"], ["outside"]),
        helper.make_node("Where", ["outside", "paper", "pixel"], ["page"]),
        helper.make_node("Neg", ["page"], ["dark"]),
        _pool("dark", "closed", (1, closing)),
        helper.make_node("Neg", ["closed"], ["light"]),
        _pool("light", "eaten", (1, closing + eating - 1)),
        _pool("eaten", "core", (eating, 1)),
        helper.make_node("Sub", ["limit", "core"], ["darkness"]),
        helper.make_node("Mul", ["darkness", "gain"], ["logits"]),
        *([helper.make_node("Sigmoid", ["logits"], ["map"])] if sigmoid else []),
    ]
    constants = {
        **_colours(mean, std),
        "black": np.float32(0.02),
        "paper": np.float32(0.94),
        "limit": np.float32(0.8),
        "gain": np.float32(40),
    }
    shape = (None, 3, side, side)
    return _model(nodes, constants, shape, "map" if sigmoid else "logits", (None, 1, side, side))


def _pixels() -> list[onnx.NodeProto]:
    """Undoes the normalisation: the mean of the channels, 0 to 1."""
    return [
        helper.make_node("Mul", ["x", "std"], ["spread"]),
        helper.make_node("Add", ["spread", "mean"], ["colours"]),
        helper.make_node("ReduceMean", ["colours"], ["pixel"], axes=[1], keepdims=1),
    ]


def _colours(mean: Sequence[float], std: Sequence[float]) -> dict[str, np.ndarray]:
    return {name: np.float32(values)[:, None, None] for name, values in (("mean", mean), ("std", std))}


def _pool(source: str, target: str, kernel: tuple[int, int]) -> onnx.NodeProto:
    before = [(side - 1) // 2 for side in kernel]
    after = [side - 1 - pad for side, pad in zip(kernel, before, strict=True)]
    return helper.make_node("MaxPool", [source], [target], kernel_shape=kernel, pads=[*before, *after])


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[int | None, ...],
    output: str,
    output_shape: tuple[int | None, ...],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bars",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
