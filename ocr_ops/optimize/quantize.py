"""Static INT8: a bundle's convolutions and matrix products in eight bits, calibrated on labelled pages."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from ocr_ops import __version__
from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import BadInput
from ocr_ops.data.pages import PageSet
from ocr_ops.runtime.detection import prepare_page
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.recognition import prepare_crop
from ocr_ops.runtime.session import padded, to_tensor

OPERATORS = ("Conv", "MatMul", "Gemm")
"""Only what has fast integer kernels: quantizing the rest costs accuracy and conversions, and gains nothing."""

LEAST_OPSET, OPSET = 13, 17


def quantize(bundle: ModelBundle, pages: PageSet, out: Path) -> ModelBundle:
    """Writes the INT8 variant of a float bundle to `out`.

    QDQ format; activations uint8, weights int8 per output channel with seven bits in use (`reduce_range`): without
    VNNI the 8-bit product saturates in 16 bits, and a bundle must read the same on every CPU it may land on.
    The first and the last convolution stay in float: they cost next to nothing and lose the most (measured on
    `recognition-tiny`: accuracy 0.954 in float, 0.838 all quantized, 0.954 with these two left alone).
    The calibration inputs go through the very preprocessing that serves.
    """
    if bundle.manifest.precision != "fp32":
        raise BadInput(bundle.path, f"a {bundle.manifest.precision} bundle", "a float one", "quantize its parent")
    with tempfile.TemporaryDirectory() as scratch:
        modern, prepared = Path(scratch) / "modern.onnx", Path(scratch) / "prepared.onnx"
        quantized = Path(scratch) / GRAPH_FILE
        onnx.save(_modern(bundle.graph), modern)
        quant_pre_process(modern, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Calibration(bundle, pages),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=_edges(onnx.load(prepared)),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
        graph = onnx.load(quantized)
    files = {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.name in bundle.manifest.files}
    manifest = bundle.manifest.model_copy(
        update={
            "precision": "int8",
            "parent": bundle.digest,
            "dataset": pages.digest,
            "facts": {},
            "toolkit": __version__,
        }
    )
    return ModelBundle.write(out, manifest, files | {GRAPH_FILE: graph.SerializeToString()})


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


def _edges(model: onnx.ModelProto) -> list[str]:
    """The first and the last quantizable node, of a graph that has others too."""
    names = [node.name for node in model.graph.node if node.op_type in OPERATORS]
    return [names[0], names[-1]] if len(names) > 2 else []


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    """One page, or one line, a call: shapes vary, so nothing is batched."""

    def __init__(self, bundle: ModelBundle, pages: PageSet) -> None:
        graph = onnx.load(bundle.graph).graph
        stored = {tensor.name for tensor in graph.initializer}  # older exports list them as inputs too
        self._name = next(value.name for value in graph.input if value.name not in stored)
        inputs = _page_inputs(bundle, pages) if bundle.manifest.task == "detection" else _line_inputs(bundle, pages)
        self._inputs = iter(tqdm(inputs, f"calibrate {bundle.manifest.task}", disable=None))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        tensor = next(self._inputs, None)
        return None if tensor is None else {self._name: tensor}


def _page_inputs(bundle: ModelBundle, pages: PageSet) -> Iterator[NDArray[np.float32]]:
    spec = bundle.manifest.input
    for image in _images(pages):
        yield to_tensor([prepare_page(image, spec).pixels], spec)


def _line_inputs(bundle: ModelBundle, pages: PageSet) -> Iterator[NDArray[np.float32]]:
    spec = bundle.manifest.input
    for page, image in zip(pages.pages, _images(pages), strict=True):
        for region in page.regions:
            if region.readable:
                crop = prepare_crop(image, np.asarray(region.polygon, np.float32), spec)
                yield to_tensor([padded(crop, spec.width or crop.shape[1], spec.height, spec)], spec)


def _images(pages: PageSet) -> Iterator[NDArray[np.uint8]]:
    for page, data in pages.files():
        yield next(page_images(data, page.image))
