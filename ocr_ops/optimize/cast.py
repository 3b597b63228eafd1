"""Shorter floats: a graph that computes in FP16 or BF16, and takes and gives fp32 as before."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from onnx import TensorProto
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from onnxruntime.transformers.float16 import convert_float_to_float16

from ocr_ops.core.bundle import Precision
from ocr_ops.core.errors import BadInput, OutsideSystem

BFLOAT_OPSET = 22
"""The first whose convolutions take bfloat16."""
_CPU_FLAGS = {"fp16": ("asimdhp",), "bf16": ("avx512_bf16", "amx_bf16", "bf16")}
_PROVIDERS = {"fp16": "CUDA, TensorRT and OpenVINO", "bf16": "CUDA and TensorRT"}
_CUSTOM = "CPUExecutionProvider"


def cast(model: onnx.ModelProto, precision: Precision) -> onnx.ModelProto:
    """The graph with weights and arithmetic in `fp16` or `bf16`; its input and its output stay fp32.

    `BadInput` when an operator of it does not exist in bfloat16, `OutsideSystem` when no provider here runs the result.
    """
    if precision == "bf16":
        model = _at_opset(model, BFLOAT_OPSET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every weight that is cut to what a half can hold
        short = convert_float_to_float16(model, keep_io_types=True)
    if precision == "bf16":
        _to_bfloat(short)
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        ort.InferenceSession(short.SerializeToString(), options, providers=ort.get_available_providers())
    except (ort_errors.NotImplemented, ort_errors.InvalidGraph, ort_errors.Fail) as error:
        raise OutsideSystem(
            precision,
            f"{str(error).strip().splitlines()[0]} ({lacking(precision)})",
            f"a provider that computes in {precision}: {_PROVIDERS[precision]}",
            "make it on such a machine, or use --method static",
        ) from None
    return short


def lacking(precision: Precision, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What this machine lacks to gain anything from a precision, as a line for people; empty when it lacks nothing."""
    if precision not in _CPU_FLAGS or set(ort.get_available_providers()) - {_CUSTOM, "AzureExecutionProvider"}:
        return ""
    wanted = _CPU_FLAGS[precision]
    found = _flags(cpuinfo)
    if precision == "fp16" and found.intersection(wanted):
        return ""
    here = f"this CPU lacks {' or '.join(wanted)}" if not found.intersection(wanted) else "this CPU could"
    return f"{here}, and onnxruntime's CPU provider {_DOES[precision]}; {_PROVIDERS[precision]} compute in it"


_DOES = {
    "fp16": "casts to fp32 and back around each layer without it",
    "bf16": "has no bfloat16 convolution on any CPU",
}


def _flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}


def _at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    try:
        return onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError) as error:
        cause = str(error).strip().splitlines()[0]
        raise BadInput("graph", cause, f"operators of opset {opset}", "use another precision") from None


def _to_bfloat(model: onnx.ModelProto) -> None:
    """Every half of a converted graph as a bfloat16, in place. The range of a half stays: weights need no more."""
    graph = model.graph
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
            if attribute.HasField("t"):
                _bfloat(attribute.t)
    for tensor in graph.initializer:
        _bfloat(tensor)
    for value in graph.value_info:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16


def _bfloat(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.helper.make_tensor(tensor.name, TensorProto.BFLOAT16, values.shape, values.ravel()))
