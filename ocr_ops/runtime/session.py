"""Session: a bundle's graph in ONNX Runtime, set up for a server, and the tensor it is fed."""

import os
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import CorruptBundle, OutsideSystem, UsageError
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime.cpu import thread_count

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PROVIDER_VARIABLE = "OCR_OPS_PROVIDER"

# Pictures are small and pages run side by side: OpenCV's own pool would only take cores from the network.
cv2.setNumThreads(1)

_ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
_FATAL_ONLY = 4  # every error comes back as an exception; standard error stays clean


def to_channels(page: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """The page with as many channels as the model reads: uint8 (H, W) for one, (H, W, 3) RGB for three."""
    if spec.channels == 1 and page.ndim == 3:
        return np.asarray(cv2.cvtColor(page, cv2.COLOR_RGB2GRAY), np.uint8)
    if spec.channels == 3 and page.ndim == 2:
        return np.asarray(cv2.cvtColor(page, cv2.COLOR_GRAY2RGB), np.uint8)
    return page


def padded(picture: NDArray[np.uint8], width: int, height: int, spec: InputSpec) -> NDArray[np.uint8]:
    """The picture with what is missing of `width` x `height` pixels at its right and below, as the model expects it."""
    below, right = height - picture.shape[0], width - picture.shape[1]
    if not (below or right):
        return picture
    mode: Literal["edge", "constant"] = "edge" if spec.padding == "edge" else "constant"
    return np.pad(picture, ((0, below), (0, right), *((0, 0),) * (picture.ndim - 2)), mode=mode)


def to_tensor(pictures: Sequence[NDArray[np.uint8]], spec: InputSpec) -> NDArray[np.float32]:
    """Equal-sized prepared pictures, uint8 (H, W) or (H, W, 3) RGB, as float32 (N, C, H, W) in the model's order.

    `x = (pixel / 255 - mean) / std`, one mean and std a channel.
    """
    std = np.array(spec.std, np.float32)[:, None, None]
    gain, offset = 1 / (255 * std), -np.array(spec.mean, np.float32)[:, None, None] / std
    height, width = pictures[0].shape[:2]
    batch = np.empty((len(pictures), spec.channels, height, width), np.float32)
    for i, picture in enumerate(pictures):
        planes = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
        if spec.order == "bgr":
            planes = planes[::-1]
        np.multiply(planes, gain, out=batch[i])
    batch += offset
    return batch


class Session:
    """A loaded graph with one input and one output. May be run from several threads at once."""

    def __init__(self, bundle: ModelBundle, threads: int | None = None) -> None:
        """Loads `bundle` with `threads` intra-op threads (without: as many as the CPU share holds).

        Raises `CorruptBundle` for a graph that does not load or has another signature, `OutsideSystem` when
        `OCR_OPS_PROVIDER=cuda` asks for a GPU that is not there, `UsageError` for an unknown provider.
        """
        self.bundle = bundle
        wanted = _wanted_provider()
        try:
            self._session = ort.InferenceSession(
                bundle.graph.read_bytes(), _options(threads or thread_count()), providers=wanted
            )
        except _ORT_ERRORS as error:
            raise self._corrupt(_first_line(error)) from None
        self.provider: str = self._session.get_providers()[0]
        if self.provider != wanted[0]:  # the runtime falls back silently
            raise OutsideSystem(
                wanted[0], f"{self.provider} took its place", "a usable GPU", f"unset {PROVIDER_VARIABLE}"
            )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise self._corrupt(f"{len(inputs)} inputs and {len(outputs)} outputs")
        self._input: str = inputs[0].name

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The graph's output for a float32 (N, C, H, W) batch. `CorruptBundle` when the graph fails on it."""
        try:
            output = np.asarray(self._session.run(None, {self._input: batch})[0])
        except _ORT_ERRORS as error:
            raise self._corrupt(f"{_first_line(error)} (input {batch.shape})") from None
        # Both extremes are NaN where any value is.
        if output.dtype != np.float32 or not (output.size and np.isfinite([output.min(), output.max()]).all()):
            raise self._corrupt(f"output of {output.dtype}, or not finite")
        return output

    def _corrupt(self, found: str) -> CorruptBundle:
        expected = "a graph that runs: one float32 NCHW input, one float32 output"
        return CorruptBundle(self.bundle.graph, found, expected, "export the model again")


def _wanted_provider() -> list[str]:
    name = os.environ.get(PROVIDER_VARIABLE, "cpu")
    if name not in PROVIDERS:
        raise UsageError(PROVIDER_VARIABLE, name, " or ".join(PROVIDERS), "correct the variable")
    if PROVIDERS[name] not in ort.get_available_providers():
        raise OutsideSystem(
            PROVIDERS[name],
            "absent from this onnxruntime",
            "a build with it",
            "install onnxruntime-gpu instead",
        )
    return [PROVIDERS[name]]


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning workers of several sessions starve each other and count against the container's quota.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Pages come in any size: an arena keeps the largest of each for ever, and a pattern never recurs.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = _FATAL_ONLY
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
