"""A release small enough to build in a test, and real: its graphs find and read bars on paper without any training.

Its pages are written with `draw`. A glyph is a bar the height of the line, pale grey, and dark in its upper half for
`a`, in its lower half for `b`, all over for `c`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ocr_ops import __version__
from ocr_ops.core.bundle import GRAPH_FILE, Manifest, ModelBundle
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.release import Release
from ocr_ops.core.spec import InputSpec, Task

CHARSET = "abc "
OPSET = 17

LINE = 24
"""Height of a line's ink in pixels; the detector looks for nothing else."""
_PAPER, _PALE, _DARK = 240, 150, 20
_PITCH = 48
_BAR = 24
_GAP = 8
_SPACE = 28

_INPUTS = {
    "detection": InputSpec(stride=32, max_side=640),
    "recognition": InputSpec(height=32, stride=4, max_side=640),
}


def draw(lines: Sequence[str], width: int = 640, height: int = 480) -> NDArray[np.uint8]:
    """A page, uint8 (height, width, 3) RGB, that the tiny release reads as exactly these lines of a, b, c and space."""
    page = np.full((height, width, 3), _PAPER, np.uint8)
    for row, line in enumerate(lines):
        top, x = 32 + row * _PITCH, 32
        for char in line:
            if char == " ":
                x += _SPACE - _GAP
                continue
            bar = page[top : top + LINE, x : x + _BAR]
            bar[:] = _PALE
            bar[{"a": slice(LINE // 2), "b": slice(LINE // 2, LINE), "c": slice(LINE)}[char]] = _DARK
            x += _BAR + _GAP
    return page


def build_release(folder: Path) -> Release:
    """Builds both bundles and puts them together in `folder`."""
    bundles = folder.with_name(folder.name + "-bundles")
    detection = build_bundle(bundles / "detection", "detection")
    recognition = build_bundle(bundles / "recognition", "recognition")
    return Release.write(folder, detection, recognition)


def build_bundle(folder: Path, task: Task, **changes: object) -> ModelBundle:
    """One of the two bundles; `changes` override fields of its manifest."""
    graph = {"detection": _detector, "recognition": _recogniser}[task]().SerializeToString()
    manifest = {
        "model": f"{task}-bars",
        "task": task,
        "precision": "fp32",
        "licence": "Apache-2.0",
        "input": _INPUTS[task],
        "charset": CHARSET if task == "recognition" else "",
        "floor": 0.9,
        "opset": OPSET,
        "weights": digest_bytes(graph),
        "toolkit": __version__,
        "files": {},
    }
    return ModelBundle.write(folder, Manifest.parse({**manifest, **changes}, folder), {GRAPH_FILE: graph})


def _detector() -> onnx.ModelProto:
    """Anything darker than paper, closed to a block a line, less a quarter of its height all round, halved."""
    closing, eating = 31, LINE // 2 - 1  # regions come with their outline
    nodes = [
        helper.make_node("Neg", ["x"], ["ink"]),
        _pool("MaxPool", "ink", "closed", (1, closing), (1, 1)),
        helper.make_node("Neg", ["closed"], ["paper"]),
        _pool("MaxPool", "paper", "eaten", (1, closing + eating - 1), (1, 2)),
        _pool("MaxPool", "eaten", "core", (eating, 1), (2, 1)),
        helper.make_node("Sub", ["limit", "core"], ["darkness"]),
        helper.make_node("Mul", ["darkness", "gain"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["map"]),
    ]
    constants = {"limit": np.float32(0.6), "gain": np.float32(20)}
    return _model(nodes, constants, (None, 1, None, None), ("map", (None, 1, None, None)))


def _recogniser() -> onnx.ModelProto:
    """Ink in the upper and lower half of each four columns; blank between bars, space where none is near."""
    # Columns: upper and lower ink, and nearness of any, each 0 to 1. Rows: blank, a, b, c, space.
    weights = np.float32([[-8, -8, 4], [12, -12, 0], [-12, 12, 0], [8, 8, 0], [-20, -20, -12]])
    bias = np.float32([0, -2, -2, -7, 4])
    nodes = [
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Relu", ["negative"], ["ink"]),
        # The middle belongs to neither half: a crop may lie a few pixels off.
        helper.make_node("Split", ["ink", "rows"], ["edge0", "upper", "middle", "lower", "edge1"], axis=2),
        helper.make_node("AveragePool", ["upper"], ["high"], kernel_shape=[8, 4], strides=[8, 4], ceil_mode=0),
        helper.make_node("AveragePool", ["lower"], ["low"], kernel_shape=[8, 4], strides=[8, 4], ceil_mode=0),
        helper.make_node("Max", ["high", "low"], ["any"]),
        _pool("MaxPool", "any", "near", (1, 5), (1, 1)),
        helper.make_node("Concat", ["high", "low", "near"], ["features"], axis=1),
        helper.make_node("Conv", ["features", "weights", "bias"], ["scores"]),
        helper.make_node("Squeeze", ["scores", "axes"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["logits"], perm=[0, 2, 1]),
    ]
    constants = {
        "weights": weights[:, :, None, None],
        "bias": bias,
        "rows": np.int64([4, 8, 8, 8, 4]),
        "axes": np.int64([2]),
    }
    return _model(nodes, constants, (None, 1, 32, None), ("logits", (None, None, len(CHARSET) + 1)))


def _pool(kind: str, source: str, target: str, kernel: tuple[int, int], strides: tuple[int, int]) -> onnx.NodeProto:
    before = [(side - 1) // 2 for side in kernel]
    after = [side - 1 - pad for side, pad in zip(kernel, before, strict=True)]
    return helper.make_node(kind, [source], [target], kernel_shape=kernel, strides=strides, pads=[*before, *after])


def _model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, object],
    shape: tuple[int | None, ...],
    output: tuple[str, tuple[int | None, ...]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "bars",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    return model
