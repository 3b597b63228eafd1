"""Shapes: what a graph says of its values, held against itself, against memory, and against a spec. Nothing runs.

ONNX's own inference tells most shapes; what it needs of small integers, such as the shape of a constant that others
make up, is worked out here between two passes of it, a few numbers at a time.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

from ocr_ops.core.errors import BadInput
from ocr_ops.core.spec import ModelSpec

SMALL = 1024
"""Elements of a value that is worked out."""
ROUNDS = 12
"""Passes of inference; each carries computed shapes past one more value."""
LIKELY = (1, 3, 320, 320)
"""Stands for the axes of an input that are free."""
BITS = {
    **dict.fromkeys(("UINT2", "INT2"), 2),
    **dict.fromkeys(("UINT4", "INT4", "FLOAT4E2M1"), 4),
    **dict.fromkeys(("BOOL", "UINT8", "INT8", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 8),
    "FLOAT8E8M0": 8,
    **dict.fromkeys(("UINT16", "INT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("UINT32", "INT32", "FLOAT"), 32),
    **dict.fromkeys(("UINT64", "INT64", "DOUBLE", "COMPLEX64"), 64),
    "COMPLEX128": 128,
    "STRING": 64,  # a pointer at least
}
"""An element of each type."""

_MAKERS = frozenset(("ConstantOfShape", "Expand", "Pad", "Range", "Resize", "Tile", "Upsample"))
"""Make much of little: what they are told decides how much."""
_WORKED_OUT = _MAKERS.union(
    ("Abs", "Add", "And", "Cast", "Ceil", "Concat", "Div", "Equal", "Floor", "Gather", "Greater", "GreaterOrEqual"),
    ("Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "ReduceMax"),
    ("ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterElements", "ScatterND", "Slice"),
    ("Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
)
_AGAIN = "export it again"

Values = dict[str, NDArray[Any]]
Graph = Any
"""onnx.GraphProto."""


def declared_input(model: onnx.ModelProto, subject: Path) -> tuple[int, int, int, int]:
    """What a graph says of its one float32 input: (batch, channels, height, width), 0 where it is free."""
    inputs = _inputs(model.graph)
    names = ", ".join(value.name for value in inputs)
    if len(inputs) != 1 or len(model.graph.output) != 1:
        found = f"inputs {names or 'none'}, {len(model.graph.output)} output(s)"
        raise BadInput(subject, found, "one input and one output", "export it for inference, without targets")
    tensor = inputs[0].type.tensor_type
    kind = _kind(tensor.elem_type)
    if kind != "FLOAT" or len(tensor.shape.dim) != 4:
        found = f"input {names}: {kind} of {len(tensor.shape.dim)} axes"
        raise BadInput(subject, found, "float32 (N, C, H, W)", "export it with images as floats, channels first")
    batch, channels, height, width = (max(axis.dim_value, 0) for axis in tensor.shape.dim)
    return batch, channels, height, width


def check_input(model: onnx.ModelProto, spec: ModelSpec, subject: Path) -> None:
    """`BadInput` when a graph declares another input than its spec."""
    batch, *found = declared_input(model, subject)
    names = ("channels", "height", "width")
    wanted = (spec.input.channels, spec.input.height, spec.input.width)
    for name, graph, told in zip(names, found, wanted, strict=True):
        if graph and graph != told:
            raise BadInput(
                subject, f"{name} {graph} in its input", f"{told or 'free'}, as the spec says", "correct one"
            )
    if batch and spec.task == "recognition":
        raise BadInput(subject, f"batches of {batch}", "a free batch axis", "export it with a dynamic batch axis")


def check_output(model: onnx.ModelProto, spec: ModelSpec, subject: Path) -> None:
    """`BadInput` when a graph declares another output than its spec: axes, classes, or channels of the map."""
    tensor = model.graph.output[0].type.tensor_type
    if not tensor.HasField("shape"):
        return
    sides = [max(axis.dim_value, 0) for axis in tensor.shape.dim]
    line = spec.task == "recognition"
    if len(sides) != (3 if line else 4):
        expected = "(N, T, classes)" if line else "a map (N, 1, h, w)"
        raise BadInput(subject, f"an output of {len(sides)} axes", expected, f"give a {spec.task} model")
    if line:
        check_classes(sides[2], spec.charset, subject)
    elif sides[1] not in (0, 1):
        raise BadInput(subject, f"a map of {sides[1]} channels", "one", "export it without its training outputs")


def check_classes(classes: int, charset: str, subject: Path) -> None:
    """`BadInput` when a recogniser's classes (0: unknown) are not its characters and the blank."""
    if classes not in (0, len(charset) + 1):
        expected = f"{len(charset) + 1}: {len(charset)} characters and the blank"
        remedy = "give the charset it was trained with, in its order"
        raise BadInput(subject, f"{classes} classes", expected, remedy)


def check_shapes(model: onnx.ModelProto, subject: Path, most: int, room: int) -> None:
    """`BadInput` when shapes contradict each other, one value takes more than `most` bytes, or constants over `room`.

    Sizes are those of one picture; free axes are taken for `LIKELY`. `room` is for what is computed of constants
    alone, which onnxruntime keeps for good.
    """
    light = _light(model)
    try:
        _inferred(light, strict=True)
    except (RuntimeError, ValueError, TypeError, onnx.shape_inference.InferenceError) as error:
        found = re.sub(r"\[\w+Error\] |Inference error\(s\): ", "", " ".join(str(error).split()))[:200]
        raise BadInput(subject, f"shapes: {found}", "shapes that agree", _AGAIN) from None
    _settle(light.graph)
    for _ in range(ROUNDS):
        try:
            light = _inferred(light, strict=False)
        except (RuntimeError, ValueError, TypeError, onnx.shape_inference.InferenceError):
            break  # the size that was taken for likely does not suit it
        for graph in _graphs(light.graph):
            for value in (*graph.value_info, *graph.output):
                if (size := _size(value)) > most:
                    raise _too_large(subject, f"value {value.name[:40]!r}", size, most)
        if not _work_out(light.graph, {}):
            break
    _check_constants(light.graph, subject, frozenset(), room)


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions written out and without its weights, of which the shapes stay."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for graph in _graphs(light.graph):
        constants = (attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t"))
        for tensor in (*graph.initializer, *constants):
            if math.prod(tensor.dims) > SMALL:
                bare = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                bare.data_location = onnx.TensorProto.EXTERNAL
                bare.external_data.add(key="location", value="left out")
                tensor.CopyFrom(bare)
    return light


def _inferred(model: onnx.ModelProto, *, strict: bool) -> onnx.ModelProto:
    if model.functions:
        model = inliner.inline_local_functions(model)
    # ONNX could work out values, too (`data_prop`), but it would write a vector of a billion, if told to.
    return onnx.shape_inference.infer_shapes(model, check_type=strict, strict_mode=strict)


def _settle(graph: Graph) -> None:
    """Gives free axes of the inputs a size, and forgets what was said of later ones."""
    for value in _inputs(graph):
        for axis, likely in zip(value.type.tensor_type.shape.dim, LIKELY, strict=False):
            if axis.dim_value <= 0:
                axis.dim_value = likely
    for one in _graphs(graph):
        del one.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _graphs(graph: Graph) -> Iterator[Graph]:
    """A graph and the bodies in it, however deep."""
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: onnx.NodeProto) -> list[Graph]:
    found: list[Graph] = []
    for attribute in node.attribute:
        found += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    return found


def _work_out(graph: Graph, outer: Mapping[str, NDArray[Any]]) -> bool:
    """Replaces nodes by their values where those are few and follow from constants or shapes; whether any did."""
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    values: Values = {**outer, **{one.name: array for one in graph.initializer if (array := _array(one)) is not None}}
    kept, found = [], {}
    for node in graph.node:
        made = _value_of(node, values, shapes)
        if made is None:
            kept.append(node)
        else:
            found[node.output[0]] = made
            values[node.output[0]] = made
    changed = bool(found)
    for node in kept:
        for body in _bodies(node):
            own = {tensor.name for tensor in body.initializer}
            used = {name for inner in _graphs(body) for one in inner.node for name in one.input} & values.keys() - own
            body.initializer.extend(numpy_helper.from_array(values[name], name) for name in sorted(used))
            changed |= bool(used)
            changed |= _work_out(body, values)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in found.items())
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    return changed


def _value_of(node: onnx.NodeProto, values: Values, shapes: Mapping[str, tuple[int, ...] | None]) -> Any:
    """The one output of a node, if it can be told and is small; None otherwise."""
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
        return _array(node.attribute[0].t)
    if node.op_type == "Shape" and node.input:
        shape = shapes.get(node.input[0])
        cut = {attribute.name: attribute.i for attribute in node.attribute}
        return None if shape is None else np.array(shape, np.int64)[cut.get("start", 0) : cut.get("end")]
    shape = shapes.get(node.output[0])
    known = all(name in values for name in node.input if name)
    if node.op_type not in _WORKED_OUT or not known or shape is None or math.prod(shape) > SMALL:
        return None
    return _run(node, {name: values[name] for name in node.input if name})


def _run(node: onnx.NodeProto, values: Values) -> Any:
    inputs = [onnx.helper.make_tensor_value_info(name, 1, None) for name in values]
    graph = onnx.helper.make_graph([node], "one", inputs, [onnx.helper.make_tensor_value_info(node.output[0], 1, None)])
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(onnx.helper.make_model(graph)).run(None, values)[0]
    except Exception:  # noqa: BLE001 - given a stranger's attributes it may raise anything; the value stays unknown
        return None
    return made if isinstance(made, np.ndarray) and made.size <= SMALL and made.dtype.kind in "biuf" else None


def _check_constants(graph: Graph, subject: Path, outer: frozenset[str], room: int) -> int:
    """Bytes of all that is computed of constants alone. `BadInput` over `room`, or when it cannot be told."""
    constant = outer | {tensor.name for tensor in graph.initializer}
    values = {value.name: value for value in (*graph.value_info, *graph.output)}
    total = 0
    for node in graph.node:
        bodies = _bodies(node)
        total += sum(_check_constants(body, subject, constant, room) for body in bodies)
        if bodies or not constant.issuperset(name for name in node.input if name):
            continue
        constant |= set(node.output)
        for name in node.output:
            value = values.get(name)
            if node.op_type in _MAKERS and (value is None or None in (_shape(value) or (None,))):
                found = f"{node.op_type} {name[:40]!r} of a size that cannot be told"
                raise BadInput(subject, found, "constants that are small", _AGAIN)
            total += 0 if value is None else _size(value)
        if total > room:
            raise _too_large(subject, "constants computed", total, room)
    return total


def _inputs(graph: Graph) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """A value's shape, where every axis of it is known."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(axis.HasField("dim_value") for axis in tensor.shape.dim):
        return None
    return tuple(axis.dim_value for axis in tensor.shape.dim)


def _size(value: onnx.ValueInfoProto) -> int:
    """Bytes a value takes at least: an unknown axis counts once."""
    tensor = value.type.tensor_type
    elements = math.prod(max(int(axis.dim_value), 1) for axis in tensor.shape.dim)
    return elements * BITS.get(_kind(tensor.elem_type), 8) // 8


def _array(tensor: onnx.TensorProto) -> NDArray[Any] | None:
    """A small stored tensor's numbers."""
    kind = _kind(tensor.data_type)
    wanted = kind in ("INT32", "INT64", "FLOAT", "DOUBLE", "BOOL") and math.prod(tensor.dims) <= SMALL
    return np.asarray(numpy_helper.to_array(tensor)) if wanted else None


def _kind(number: int) -> str:
    known = number in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(number)) if known else str(number)


def _too_large(subject: Path, what: str, size: int, most: int) -> BadInput:
    return BadInput(
        subject, f"{what} of {size / 1e6:,.0f} MB", f"at most {most / 1e6:,.0f} MB", "choose a smaller model"
    )
