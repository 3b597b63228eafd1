"""Fewer bits: the INT8, FP16 and BF16 variants of a float bundle."""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
    quantize_dynamic,
)
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from ocr_ops import __version__
from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle, Precision, Quantization
from ocr_ops.core.errors import BadInput
from ocr_ops.core.spec import Task
from ocr_ops.optimize.calibration import Material, sources, tensor
from ocr_ops.optimize.cast import cast

STATIC, DYNAMIC, CAST = Quantization(), Quantization(method="dynamic"), Quantization(method="cast")

OPERATORS = ("Conv", "MatMul", "Gemm")
"""Only what has fast integer kernels: quantizing the rest costs accuracy and conversions, and gains nothing."""
FOLLOWERS = ("Relu", "Clip", "MaxPool", "Resize", "Add")
"""What goes on in eight bits where all it takes comes from such a layer. An activation is then part of its layer, whose
range has no half below zero to spend levels on; the others convert nothing."""
PRODUCTS = ("MatMul", "Gemm", "LSTM", "Attention")
"""What dynamic scales are made for. ONNX Runtime's integer convolution without static scales has no fast path."""

HISTOGRAMS: dict[Task, int] = {"detection": 8, "recognition": 256}
"""Pages, and lines, whose values entropy and percentile sort into bins: all values of all layers, a second a page."""
_METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    # As many bins as levels, ONNX Runtime's default, leaves entropy nothing to choose from.
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 1024}),
    # Symmetric, its default, wastes half of the levels after a ReLU.
    "percentile": (CalibrationMethod.Percentile, {"symmetric": False, "percentile": 99.99}),
}

AVERAGED: dict[Task, bool] = {"detection": True, "recognition": False}
"""Whether MinMax takes the mean over pictures of their least and greatest values, or those of them all. A page has
outliers of its own; a line has not half of what others hold, and a mean over lines cuts that off (`recognition-small`
parts from float by 0.0178 nats a step with the mean, by 0.0024 without)."""

LEAST_OPSET, OPSET = 13, 17


def quantize(
    bundle: ModelBundle,
    material: Material | None,
    out: Path,
    recipe: Quantization = STATIC,
    precision: Precision = "int8",
) -> ModelBundle:
    """Writes a variant of a float bundle to `out`.

    Static INT8: QDQ format; activations uint8, weights int8 per output channel with seven bits in use
    (`reduce_range`): without VNNI the 8-bit product saturates in 16 bits, and a bundle must read the same on every CPU
    it may land on. Unless the recipe names others, the first and the last layer stay in float: they cost next to
    nothing and lose the most (measured on `recognition-tiny`: accuracy 0.954 in float, 0.838 all quantized, 0.954 with
    these two left alone). `material` calibrates it, through the very preprocessing that serves; nothing else needs any.

    `BadInput` for a bundle that is no float one, material of another task, and a graph with nothing to quantize;
    `OutsideSystem` for a precision that nothing here can run.
    """
    if bundle.manifest.precision != "fp32":
        raise BadInput(bundle.path, f"a {bundle.manifest.precision} bundle", "a float one", "quantize its parent")
    with tempfile.TemporaryDirectory() as scratch:
        if recipe.method == "cast":
            graph = cast(onnx.load(bundle.graph), precision)
        elif recipe.method == "dynamic":
            graph = _dynamic(bundle, Path(scratch))
        elif material is None:
            raise BadInput(bundle.path, "no pages", "pages to calibrate on", "give --data")
        else:
            prepared = prepare(bundle, Path(scratch))
            ranges = calibrated(bundle, prepared, material, recipe)
            graph = eight_bits(prepared, ranges, edges(prepared) if recipe.kept is None else recipe.kept)
    changes: dict[str, object] = {
        "precision": precision,
        "parent": bundle.digest,
        "dataset": material.digest if material and recipe.method == "static" else None,
        "recipe": None if recipe == STATIC else recipe,
        "buckets": (),  # proven of the parent's texts, not of its own
        "facts": {},
        "toolkit": __version__,
    }
    files = {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.name in bundle.manifest.files}
    manifest = bundle.manifest.model_copy(update=changes)
    return ModelBundle.write(out, manifest, files | {GRAPH_FILE: graph.SerializeToString()})


def prepare(bundle: ModelBundle, scratch: Path) -> Path:
    """The bundle's graph as a file in `scratch`, folded, its shapes inferred, of an opset with scales per channel.

    Its nodes have names of their own, which not all exports give: layers are told apart by them.
    """
    modern, prepared = scratch / "modern.onnx", scratch / "prepared.onnx"
    onnx.save(_modern(bundle.graph), modern)
    quant_pre_process(modern, prepared, skip_symbolic_shape=True)
    model, taken = onnx.load(prepared), set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}#{number}"
        taken.add(node.name)
    onnx.save(model, prepared)
    return prepared


def layers(prepared: Path) -> list[onnx.NodeProto]:
    """The nodes that can be quantized, in the graph's order. `BadInput` when there are none."""
    nodes = [node for node in onnx.load(prepared).graph.node if node.op_type in OPERATORS]
    if not nodes:
        raise _nothing(prepared)
    return nodes


def edges(prepared: Path) -> tuple[str, ...]:
    """The first and the last layer, of a graph that has others too."""
    names = [node.name for node in layers(prepared)]
    return (names[0], names[-1]) if len(names) > 2 else ()


def calibrated(bundle: ModelBundle, prepared: Path, material: Material, recipe: Quantization) -> Any:
    """The range of every activation of the prepared graph, as ONNX Runtime's quantizer takes them.

    Shapes vary, so nothing is batched, and values are taken in picture by picture: memory holds one picture's.
    """
    manifest = bundle.manifest
    method, options = _METHODS[recipe.calibration]
    if recipe.calibration == "minmax":
        options = {"moving_average": AVERAGED[manifest.task]}
    most = None if recipe.calibration == "minmax" else HISTOGRAMS[manifest.task]
    calibrator = create_calibrator(
        prepared,
        [*OPERATORS, *FOLLOWERS],
        augmented_model_path=str(prepared.with_name("augmented.onnx")),
        calibrate_method=method,
        extra_options=options,
    )
    pictures = tqdm(sources(manifest, material, most), f"calibrate {manifest.task}", disable=None)
    name = _input_name(prepared)
    feeds = ({name: tensor(make(), manifest.input)} for make in pictures)
    with redirect_stdout(io.StringIO()):  # it prints there as it goes
        if recipe.calibration == "minmax":  # two numbers a layer: their moving average wants them all at once
            calibrator.collect_data(_Feeds(feeds))
        else:
            for feed in feeds:
                calibrator.collect_data(_Feeds(iter([feed])))
        return calibrator.compute_data()


def eight_bits(prepared: Path, ranges: Any, kept: Sequence[str] = (), only: Sequence[str] = ()) -> onnx.ModelProto:
    """The prepared graph with its layers in INT8, and what follows them: all but those `kept`, or `only` some."""
    model = load_model_with_shape_infer(prepared)
    chosen: set[str] = set()
    given: set[str] = set()
    for node in model.graph.node:
        if node.op_type in OPERATORS:
            taken = node.name in only if only else node.name not in kept
        else:
            sources = node.input if node.op_type == "Add" else node.input[:1]  # others' further inputs are constants
            taken = node.op_type in FOLLOWERS and given.issuperset(sources)
        if taken:
            chosen.add(node.name)
            given.update(node.output)
    quantizer = QDQQuantizer(
        model,
        True,
        True,
        QuantType.QInt8,
        QuantType.QUInt8,
        ranges,
        [],
        [node.name for node in model.graph.node if node.name not in chosen],
        [*OPERATORS, *FOLLOWERS],
        {},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


def _dynamic(bundle: ModelBundle, scratch: Path) -> onnx.ModelProto:
    prepared, made = prepare(bundle, scratch), scratch / GRAPH_FILE
    found = {node.op_type for node in onnx.load(prepared).graph.node}
    if not found.intersection((*PRODUCTS, "Conv")):
        raise _nothing(bundle.graph)
    products = [name for name in PRODUCTS if name in found]
    quantize_dynamic(
        prepared,
        made,
        op_types_to_quantize=products or ["Conv"],
        reduce_range=True,
        weight_type=QuantType.QInt8 if products else QuantType.QUInt8,  # integer convolutions know no other
    )
    return onnx.load(made)


def _modern(path: Path) -> onnx.ModelProto:
    """The graph, of an opset that knows a scale per channel; others' exports may be older.

    `BadInput` when an operator of it cannot be brought so far.
    """
    model = onnx.load(path)
    found = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if found >= LEAST_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        cause = f"opset {found}: {str(error).strip().splitlines()[0]}"
        raise BadInput(path, cause, f"opset {LEAST_OPSET} or later", "export the model at a later opset") from None


def _nothing(graph: Path) -> BadInput:
    return BadInput(graph, "nothing to quantize", "a convolution or a matrix product", "keep it in float")


def _input_name(path: Path) -> str:
    graph = onnx.load(path).graph
    stored = {tensor.name for tensor in graph.initializer}  # older exports list them as inputs too
    return next(str(value.name) for value in graph.input if value.name not in stored)


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterator[dict[str, NDArray[np.float32]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)
