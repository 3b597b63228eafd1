"""Vet: an ONNX file from anywhere is judged by what it says, before anything of it runs.

Nothing is believed that can be checked, and nothing is allocated that is only announced: sizes are reckoned from
declarations. Subgraphs, functions and attributes are looked through like the graph itself.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, Message
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from ocr_ops.core.errors import BadInput
from ocr_ops.optimize.shapes import BITS, check_shapes
from ocr_ops.optimize.wire import count_parts

MAX_BYTES = 1 << 30
"""Of a file, of the weights beside it, and of all constants of a graph. Protocol buffers end at two gigabytes, and a
page should not wait for so much."""
MAX_PARTS = 1 << 19
"""Fields of a file: thirty times what large models have."""
MAX_NODES = 1 << 15
"""Nodes of a graph, with its functions written out."""
MAX_CALLS = 32
"""Functions that call functions."""

EXPORT_AGAIN = "export it again, with all its weights in the file"
_OTHERWISE = "export it with operators of ONNX itself, at the newest opset this onnxruntime knows"
_SMALLER = "choose a smaller model"

_INSIDE = ("com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Domains of what onnxruntime makes of a graph for the processor it runs on."""

Opsets = Mapping[str, int]
FunctionName = tuple[str, str, str]


def read_graph(path: Path) -> bytes:
    """An ONNX file's bytes, vetted; with weights kept beside it, those put in.

    `BadInput` for what is no ONNX model, is too large or announces to become so, wants weights from outside its own
    folder, has operators that onnxruntime does not implement here, or shapes that contradict each other.
    """
    if not path.is_file():
        raise BadInput(path, "no such file", "an ONNX model", "check the path")
    if path.stat().st_size > MAX_BYTES:
        raise _too_large(path, "", path.stat().st_size)
    data = path.read_bytes()
    if count_parts(data, onnx.ModelProto.DESCRIPTOR, MAX_PARTS) > MAX_PARTS:
        raise BadInput(path, f"more than {MAX_PARTS:,} parts", "a graph of sensible size", _SMALLER)
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError):
        raise BadInput(path, "not an ONNX file", "an ONNX model", EXPORT_AGAIN) from None
    if not model.graph.node or not model.opset_import:
        raise BadInput(path, "no graph in it", "an ONNX model", EXPORT_AGAIN)
    if _put_in(model, path):
        data = bytes(model.SerializeToString())
    vet(model, path)
    return data


def vet(model: onnx.ModelProto, subject: Path) -> None:
    """Judges a model whose weights are all in it. `BadInput` names the first thing that is wrong with it."""
    try:
        stored = sum(_stored(tensor, subject) for tensor in tensors(model))
        stored += sum(_spread(part, subject) for part in _within(model) if isinstance(part, onnx.SparseTensorProto))
        if stored > MAX_BYTES:
            raise _too_large(subject, "constants of ", stored)
        _check_operators(model, subject)
        _check_structure(model)
    except (UnicodeDecodeError, onnx.checker.ValidationError) as error:
        raise BadInput(subject, _line(error), "a sound ONNX model", EXPORT_AGAIN) from None
    check_shapes(model, subject, MAX_BYTES, MAX_BYTES - stored)


def _check_structure(model: onnx.ModelProto) -> None:
    """`ValidationError` for names without an origin, cycles, missing fields; outputs need not tell their shape."""
    untold = [value.type.tensor_type for value in model.graph.output if value.type.HasField("tensor_type")]
    untold = [kind for kind in untold if not kind.HasField("shape")]
    for kind in untold:
        kind.shape.SetInParent()
    onnx.checker.check_model(model)
    for kind in untold:
        kind.ClearField("shape")


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor, wherever it stands: graph, subgraphs, functions, attributes, halves of sparse ones."""
    return (part for part in _within(model) if isinstance(part, onnx.TensorProto))


def _within(message: Message) -> Iterator[Message]:
    """A message and every one inside it."""
    pending = [message]
    while pending:
        current = pending.pop()
        yield current
        for field, value in current.ListFields():
            if field.message_type is not None:
                pending.extend([value] if isinstance(value, Message) else value)


def _stored(tensor: onnx.TensorProto, subject: Path) -> int:
    """Bytes that a tensor takes, as its type and shape say. `BadInput` when it does not hold as many, or too many."""
    known = tensor.data_type in onnx.TensorProto.DataType.values()
    kind = onnx.TensorProto.DataType.Name(tensor.data_type) if known else ""
    name = f"constant {tensor.name[:40]!r}" if tensor.name else "a constant"
    if kind not in BITS or any(side < 0 for side in tensor.dims):
        raise BadInput(subject, f"{name} of type {tensor.data_type}, {list(tensor.dims)[:8]}", "a tensor", EXPORT_AGAIN)
    elements = math.prod(int(side) for side in tensor.dims)
    size = -(-elements * BITS[kind] // 8)
    if size > MAX_BYTES:
        raise _too_large(subject, f"{name} of ", size)
    if tensor.HasField("raw_data"):
        held, wanted, unit = len(tensor.raw_data), size, "bytes"
    else:
        lists = (
            tensor.float_data,
            tensor.int32_data,
            tensor.int64_data,
            tensor.double_data,
            tensor.uint64_data,
            tensor.string_data,
        )
        packed = {2: 4, 4: 2}.get(BITS[kind], 1)  # of the small types, several share a number
        wanted = elements * 2 if kind.startswith("COMPLEX") else -(-elements // packed)
        held, unit = max(map(len, lists)), "values"
    if held != wanted:
        raise BadInput(subject, f"{name} holds {held:,} {unit}", f"{wanted:,}, as its shape says", EXPORT_AGAIN)
    return size


def _spread(tensor: onnx.SparseTensorProto, subject: Path) -> int:
    """Bytes of a sparse tensor once its zeros are filled in."""
    size = math.prod(max(int(side), 0) for side in tensor.dims) * 8
    if size > MAX_BYTES:
        raise _too_large(subject, f"sparse constant {tensor.values.name[:40]!r} of ", size)
    return size


def _put_in(model: onnx.ModelProto, path: Path) -> bool:
    """Puts weights that lie beside a graph into it; whether there were any."""
    outside = [tensor for tensor in tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    stretches = [_stretch(tensor, path) for tensor in outside]
    size = sum(stretch.length for stretch in stretches)  # several may share one file, and each would get its copy
    if size > MAX_BYTES:
        raise _too_large(path, "", size)
    for tensor, stretch in zip(outside, stretches, strict=True):
        with stretch.file.open("rb") as file:
            file.seek(stretch.offset)
            tensor.raw_data = file.read(stretch.length)
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
    return bool(outside)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Where in a file a tensor's bytes lie."""

    file: Path
    offset: int
    length: int


def _stretch(tensor: onnx.TensorProto, path: Path) -> _Stretch:
    """What a tensor says of its place, known to lie in the graph's own folder."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    place, home = told.get("location", ""), path.parent.resolve()
    expected = "all beside it"
    try:
        file = (home / place).resolve()
        inside = home in file.parents and not PurePath(place).is_absolute() and ".." not in PurePath(place).parts
        there = inside and file.is_file()
        offset = int(told.get("offset") or 0)
        length = int(told["length"]) if told.get("length") else (file.stat().st_size - offset if there else 0)
    except (OSError, ValueError, RuntimeError):
        raise BadInput(path, f"weights in {place[:80]!r}, no sound place", expected, EXPORT_AGAIN) from None
    if not inside:
        raise BadInput(path, f"weights in {place[:80]!r}, outside its folder", expected, EXPORT_AGAIN)
    if not there:
        raise BadInput(path, f"weights in {place[:80]!r}, which is not there", expected, EXPORT_AGAIN)
    if not 0 <= offset <= offset + length <= file.stat().st_size:
        found = f"weights at {offset:,} to {offset + length:,} of {place[:80]!r}"
        raise BadInput(path, found, f"within its {file.stat().st_size:,} bytes", EXPORT_AGAIN)
    return _Stretch(file, offset, length)


def _check_operators(model: onnx.ModelProto, subject: Path) -> None:
    """`BadInput` for an operator that onnxruntime has no code for, loops without a bound, and endless functions."""
    functions = {(one.domain, one.name, one.overload): one for one in model.functions}
    own = {entry.domain: entry.version for entry in model.opset_import}
    newest = own.get("", own.get("ai.onnx", 0))
    if not _readable(model.ir_version, newest):
        found = f"IR version {model.ir_version}, opset {newest}"
        raise BadInput(subject, found, "what this onnxruntime reads", _OTHERWISE)
    scopes: list[tuple[Message, Opsets]] = [(model.graph, own)]
    scopes += [(one, {entry.domain: entry.version for entry in one.opset_import}) for one in model.functions]
    for scope, opsets in scopes:
        for node in _nodes(scope):
            if _called(node) not in functions:
                _check_operator(node, opsets, subject)
    sizes: dict[FunctionName, int] = {}

    def written_out(scope: Message, depth: int) -> int:
        if depth > MAX_CALLS:
            raise BadInput(subject, f"functions {depth} deep, or calling themselves", "fewer", _OTHERWISE)
        total = 0
        for node in _nodes(scope):
            called = _called(node)
            if called in functions and called not in sizes:
                sizes[called] = written_out(functions[called], depth + 1)
            total += sizes.get(called, 1)
        return total

    count = written_out(model.graph, 0)
    if count > MAX_NODES:
        raise BadInput(subject, f"{count:,} nodes, functions written out", f"at most {MAX_NODES:,}", _SMALLER)


def _nodes(scope: Message) -> Iterator[onnx.NodeProto]:
    return (part for part in _within(scope) if isinstance(part, onnx.NodeProto))


def _called(node: onnx.NodeProto) -> FunctionName:
    return node.domain, node.op_type, node.overload


def _check_operator(node: onnx.NodeProto, opsets: Opsets, subject: Path) -> None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opsets.get(domain, opsets.get("ai.onnx", 0) if not domain else 0)
    known = _implemented()
    name = f"operator {node.op_type[:40]!r} of {domain[:40] or 'ai.onnx'} {version}"
    if domain in _INSIDE:
        raise BadInput(subject, f"{name}, made for one processor", "the graph before it was optimised", EXPORT_AGAIN)
    since = max((one for one in known.get((domain, node.op_type), ()) if one <= version), default=0)
    if not known.get((domain, node.op_type), {}).get(since, False):
        raise BadInput(subject, name, "one that this onnxruntime implements", _OTHERWISE)
    if node.op_type == "Loop" and not domain and not (node.input and node.input[0]):
        raise BadInput(subject, "a loop without a bound", "a count of turns", _OTHERWISE)


@cache
def _readable(ir: int, opset: int) -> bool:
    """Whether onnxruntime takes a graph of these versions: one of a single node, of our own."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "one", [value("x", 1, (1,))], [value("y", 1, (1,))])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=ir)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (runtime.Fail, runtime.InvalidArgument, runtime.InvalidGraph, runtime.NotImplemented):
        return False
    return True


@cache
def _implemented() -> dict[tuple[str, str], dict[int, bool]]:
    """Of each operator, by domain and name, since which opsets it has a meaning, and whether code for it is here.

    Code is a kernel of the CPU, or a body of other operators. What is deprecated has none.
    """
    kernels: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for kernel in runtime.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            kernels.setdefault((kernel.domain, kernel.op_name), []).append(kernel.version_range)
    found: dict[tuple[str, str], dict[int, bool]] = {}
    for schema in runtime.get_all_operator_schema():
        key, since = (schema.domain, schema.name), schema.since_version
        code = any(first <= since <= last for first, last in kernels.get(key, ()))
        runs = schema.name == "Constant" or code or _has_body(*key, since)
        found.setdefault(key, {})[since] = runs and not schema.deprecated
    return found


def _has_body(domain: str, name: str, since: int) -> bool:
    try:
        schema: Any = onnx.defs.get_schema(name, since, domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _too_large(path: Path, what: str, size: int) -> BadInput:
    return BadInput(path, f"{what}{size / 1e6:,.0f} MB", f"at most {MAX_BYTES / 1e6:,.0f} MB", _SMALLER)


def _line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
