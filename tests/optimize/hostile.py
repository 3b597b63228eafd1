"""Graphs that mean harm, or were cut and pasted by somebody who did not care. All are small on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GIGABYTES = 1 << 30
node = helper.make_node


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any] | None = None,
    *,
    output: str = "y",
    kind: int = TensorProto.FLOAT,
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model that takes images and gives `output`, of a shape that nobody declared."""
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (None, 1, 32, None))],
        [helper.make_tensor_value_info(output, kind, None)],
        stored,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))


def body(nodes: Sequence[onnx.NodeProto], output: str = "inner", kind: int = TensorProto.FLOAT) -> onnx.GraphProto:
    """A branch of an `If`."""
    return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info(output, kind, None)])


def branching(branch: onnx.GraphProto, constants: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    other = body([node("Identity", ["x"], ["inner"])])
    choice = node("If", ["c"], ["y"], then_branch=branch, else_branch=other)
    return model([choice], {"c": np.bool_(True), **(constants or {})})


def announcing(*dims: int, kind: int = TensorProto.FLOAT) -> onnx.TensorProto:
    """A tensor that says it is large, and holds sixteen bytes."""
    return onnx.TensorProto(name="w", dims=dims, data_type=kind, raw_data=bytes(16))


def with_constant(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], ["y"])])
    made.graph.initializer.append(tensor)
    return made


def function(name: str, calls: Sequence[str]) -> onnx.FunctionProto:
    """A function that calls others one after the other, or adds its input to itself."""
    names = ["a", *(f"v{i}" for i in range(len(calls)))]
    nodes = [node(call, [names[i]], [names[i + 1]], domain="own") for i, call in enumerate(calls)]
    nodes += [node("Add", [names[-1], names[-1]], ["b"])]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, opsets)


def _nested() -> onnx.ModelProto:
    """Ten functions, each of which calls the next ten times."""
    functions = [function(f"f{i}", [f"f{i + 1}"] * 10) for i in range(10)] + [function("f10", [])]
    return model([node("f0", ["x"], ["y"], domain="own")], functions=functions)


def _sparse() -> onnx.ModelProto:
    made = model([node("Add", ["x", "w"], ["y"])])
    values, indices = numpy_helper.from_array(np.float32([1]), "w"), numpy_helper.from_array(np.int64([0]), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [GIGABYTES]))
    return made


def _declared() -> onnx.ModelProto:
    """Two rows are said to come out where three do."""
    made = model([node("Concat", ["x", "x", "x"], ["y"], axis=2)])
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (None, 1, 64, None)))
    return made


def _loop() -> onnx.ModelProto:
    turn = helper.make_graph(
        [node("Identity", ["on"], ["again"])],
        "turn",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("on", TensorProto.BOOL, ()),
        ],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, ())],
    )
    return model([node("Loop", ["", "c"], [], body=turn), node("Relu", ["x"], ["y"])], {"c": np.bool_(True)})


def _too_new() -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"])], opset=99)


def _twice() -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"]), node("Relu", ["x"], ["y"])])


_SIZE = {"s": np.int64([GIGABYTES])}
_FILL = node("ConstantOfShape", ["s"], ["y"])
_LARGE_CONSTANT = node("Constant", [], ["inner"], value=announcing(GIGABYTES))

HOSTILE: dict[str, tuple[onnx.ModelProto, str]] = {
    "an operator nobody knows": (model([node("Frobnicate", ["x"], ["y"])]), "operator 'Frobnicate' of ai.onnx 17"),
    "a domain nobody knows": (model([node("Relu", ["x"], ["y"], domain="evil")]), "operator 'Relu' of evil 0"),
    "an operator without code here": (
        model([node("PackedAttention", ["x"], ["y"], domain="com.microsoft")]),
        "operator 'PackedAttention' of com.microsoft 1; expected one that this onnxruntime implements",
    ),
    "an operator of a later opset": (model([node("Gelu", ["x"], ["y"])]), "operator 'Gelu' of ai.onnx 17"),
    "an operator that was withdrawn": (model([node("Upsample", ["x", "x"], ["y"])]), "operator 'Upsample'"),
    "an operator in a branch": (branching(body([node("Frobnicate", ["x"], ["inner"])])), "operator 'Frobnicate'"),
    "an operator in a function": (
        model(
            [node("f", ["x"], ["y"], domain="own")],
            functions=[
                helper.make_function(
                    "own", "f", ["a"], ["b"], [node("Frobnicate", ["a"], ["b"])], [helper.make_opsetid("", 17)]
                )
            ],
        ),
        "operator 'Frobnicate'",
    ),
    "what an optimiser left": (
        model([node("Conv", ["x", "x"], ["y"], domain="com.microsoft.nchwc")]),
        "made for one processor",
    ),
    "an opset of the future": (_too_new(), "opset 99; expected what this onnxruntime reads"),
    "a function that calls itself": (
        model([node("f", ["x"], ["y"], domain="own")], functions=[function("f", ["f"])]),
        "calling themselves",
    ),
    "functions by the billion": (_nested(), "nodes, functions written out"),
    "a loop without end": (_loop(), "a loop without a bound"),
    "one name twice": (_twice(), "y"),
    "other rows than declared": (_declared(), "shapes: "),
    "rows that do not fit": (
        model([node("Add", ["x", "w"], ["y"])], {"w": np.zeros((5, 1), np.float32)}),
        "shapes: ",
    ),
    "a constant that is not there": (with_constant(announcing(2, 3)), "holds 16 bytes; expected 24, as its shape says"),
    "a negative side": (with_constant(announcing(-4)), "constant 'w'"),
    "a type nobody knows": (with_constant(announcing(4, kind=99)), "of type 99"),
    "a large initialiser": (with_constant(announcing(GIGABYTES)), "constant 'w' of 4,295 MB"),
    "a large constant": (model([node("Constant", [], ["y"], value=announcing(GIGABYTES))]), "of 4,295 MB"),
    "a large constant in a branch": (branching(body([_LARGE_CONSTANT])), "of 4,295 MB"),
    "a large sparse constant": (_sparse(), "sparse constant 'w' of 8,590 MB"),
    "a fill": (model([_FILL], _SIZE), "of 4,295 MB"),
    "a fill of a Constant's size": (
        model([node("Constant", [], ["s"], value=numpy_helper.from_array(_SIZE["s"])), _FILL]),
        "of 4,295 MB",
    ),
    "a fill in a branch": (branching(body([node("ConstantOfShape", ["s"], ["inner"])]), _SIZE), "of 4,295 MB"),
    "a fill in a function": (
        model(
            [node("f", ["s"], ["y"], domain="own")],
            _SIZE,
            functions=[
                helper.make_function(
                    "own", "f", ["s"], ["b"], [node("ConstantOfShape", ["s"], ["b"])], [helper.make_opsetid("", 17)]
                )
            ],
        ),
        "of 4,295 MB",
    ),
    "a fill of a computed size": (
        model([node("Pow", ["t", "e"], ["s"]), _FILL], {"t": np.int64([1000]), "e": np.int64([3])}),
        "of 4,000 MB",
    ),
    "a fill of a size that is data": (
        model(
            [node("NonZero", ["t"], ["n"]), node("Flatten", ["n"], ["f"]), node("Squeeze", ["f"], ["s"]), _FILL],
            {"t": np.int64([1, 1])},
        ),
        "of a size that cannot be told",
    ),
    "a fill of the picture's size, cubed": (
        model([node("Shape", ["x"], ["t"]), node("Mul", ["t", "t"], ["u"]), node("Mul", ["u", "t"], ["s"]), _FILL]),
        "of 4,294,967 MB",
    ),
    "an expansion": (
        model([node("Expand", ["w", "s"], ["y"])], {"w": np.float32([[1]]), **_SIZE}),
        "of 4,295 MB",
    ),
    "a tiling": (model([node("Tile", ["w", "s"], ["y"])], {"w": np.float32([1]), **_SIZE}), "of 4,295 MB"),
    "a range": (
        model(
            [node("Range", ["a", "b", "c"], ["y"])],
            {"a": np.int64(0), "b": np.int64(GIGABYTES), "c": np.int64(1)},
            kind=TensorProto.INT64,
        ),
        "of 8,590 MB",
    ),
    "many fills": (
        model(
            [
                *(node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(8)),
                node("Sum", [f"c{i}" for i in range(8)], ["y"]),
            ],
            {"s": np.int64([GIGABYTES >> 4])},
        ),
        "constants computed of ",
    ),
    "an outer product": (
        model(
            [node("MatMul", ["a", "b"], ["y"])],
            {"a": np.ones((1 << 15, 1), np.float32), "b": np.ones((1, 1 << 15), np.float32)},
        ),
        "of 4,295 MB",
    ),
}
"""By name: the graph, and what the refusal says."""
