"""Session: a bundle's graph in ONNX Runtime, set up for a server, and the tensor it is fed."""

import io
import logging
import math
import os
import platform
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import CorruptBundle, OutsideSystem, UsageError
from ocr_ops.core.record import canonical_json, digest_bytes, short
from ocr_ops.core.report import Environment
from ocr_ops.core.spec import InputSpec
from ocr_ops.core.workspace import Workspace
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.shapes import ByShape, filled

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
PROVIDER_VARIABLE = "OCR_OPS_PROVIDER"
AUTO = "auto"
BEST_FIRST = ("cuda", "openvino", "cpu")
"""What `auto` takes. TensorRT has to be named: it builds an engine, for minutes, at each size it has not seen, and
pages come in any."""
GPU_CALLS = 4
"""Calls that a GPU is given at once: while it runs one, others are prepared, or taken apart."""

log = logging.getLogger("bentoml.ocr_ops")
"""Services show it; elsewhere its warnings go to standard error."""

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
ort.set_default_logger_severity(_FATAL_ONLY)

_PROBE = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""The smallest graph, one `Identity`: what a provider is tried on."""


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
    border = cv2.BORDER_REPLICATE if spec.padding == "edge" else cv2.BORDER_CONSTANT
    return np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, right, border, value=(0, 0, 0)), np.uint8)


def to_tensor(pictures: Sequence[NDArray[np.uint8]], spec: InputSpec, width: int | None = None) -> NDArray[np.float32]:
    """Prepared pictures of one size, uint8 (H, W) or (H, W, 3) RGB, as float32 (N, C, H, W) in the model's order.

    `x = (pixel / 255 - mean) / std`, one mean and std a channel. With `width`, pictures may be narrower than it, and
    are padded at their right as the model expects.
    """
    std = np.array(spec.std, np.float32)[:, None, None]
    gain, offset = 1 / (255 * std), -np.array(spec.mean, np.float32)[:, None, None] / std
    batch = np.zeros((len(pictures), spec.channels, len(pictures[0]), width or pictures[0].shape[1]), np.float32)
    for row, picture in zip(batch, pictures, strict=True):
        planes = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
        if spec.order == "bgr":
            planes = planes[::-1]
        end = picture.shape[1]
        row[:, :, :end] = planes
        if spec.padding == "edge":
            row[:, :, end:] = row[:, :, end - 1 : end]
    batch *= gain
    batch += offset
    return batch


class Session:
    """A loaded graph with one input and one output. May be run from several threads at once."""

    def __init__(self, bundle: ModelBundle, threads: int | None = None, provider: str | None = None) -> None:
        """Loads `bundle` with `threads` intra-op threads (without: as many as the CPU share holds).

        `provider`: a name of `PROVIDERS`, which has to work here, or `auto`: the best that does. Without it
        `OCR_OPS_PROVIDER` says. Where the bundle carries its graph as optimised for this machine, that one is run.
        Raises `CorruptBundle` for a graph that does not load or has another signature, `OutsideSystem` for a
        provider that is not there or does not take the graph, `UsageError` for an unknown one.
        """
        self.bundle = bundle
        name = provider or os.environ.get(PROVIDER_VARIABLE) or AUTO
        wanted = offered() if name == AUTO else (usable(name),)
        threads = threads or thread_count()
        for number, one in enumerate(wanted, 1):
            try:
                self._session = _load(bundle, one, threads)
            except _ORT_ERRORS as error:
                if number == len(wanted):
                    raise self._corrupt(_first_line(error)) from None
                log.warning("%s: %s does not take it: %s", bundle.path.name, PROVIDERS[one], _first_line(error))
                continue
            self.provider: str = self._session.get_providers()[0]
            if self.provider == PROVIDERS[one]:  # the runtime falls back silently
                break
            if name != AUTO:
                found = f"{self.provider} took its place"
                raise OutsideSystem(PROVIDERS[one], found, "one that takes the graph", f"set {PROVIDER_VARIABLE}=auto")
            log.warning("%s: %s does not take it; on to the next", bundle.path.name, PROVIDERS[one])
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise self._corrupt(f"{len(inputs)} inputs and {len(outputs)} outputs")
        self._input: str = inputs[0].name
        self._by_shape = ByShape(self._session, partial(_load, bundle, one, threads)) if one == "cuda" else None

    def at_once(self, threads: int) -> int:
        """How many calls of so many threads are worth making at once."""
        return min(threads, GPU_CALLS) if self.on_gpu else threads

    @property
    def on_gpu(self) -> bool:
        """Whether another processor than this computes, and has this one wait."""
        return self.provider in {PROVIDERS["cuda"], PROVIDERS["tensorrt"]}

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The graph's output for a float32 (N, C, H, W) batch. `CorruptBundle` when the graph fails on it."""
        session, given = self._session, batch
        if self._by_shape is not None:
            given = filled(batch)
            session = self._by_shape.of(given.shape)
        try:
            output = np.asarray(session.run(None, {self._input: given})[0])
        except _ORT_ERRORS as error:
            raise self._corrupt(f"{_first_line(error)} (input {batch.shape})") from None
        if given is not batch:
            output = output[: len(batch)]
        # One pass tells: only where the squares' sum is no number, or too large for one, the values are looked at.
        if output.dtype != np.float32 or not (
            output.size and (math.isfinite(np.vdot(output, output)) or np.isfinite(output).all())
        ):
            raise self._corrupt(f"output of {output.dtype}, or not finite")
        return output

    def _corrupt(self, found: str) -> CorruptBundle:
        expected = "a graph that runs: one float32 NCHW input, one float32 output"
        return CorruptBundle(self.bundle.graph, found, expected, "export the model again")


def name_of(provider: str) -> str:
    """The name in `PROVIDERS` of one of ONNX Runtime's."""
    return next(name for name, known in PROVIDERS.items() if known == provider)


def preferred() -> str:
    """Name of the provider a session is first tried with: what `OCR_OPS_PROVIDER` says, or the best on offer."""
    name = os.environ.get(PROVIDER_VARIABLE) or AUTO
    return offered()[0] if name == AUTO else name


@cache
def offered() -> tuple[str, ...]:
    """Names of the providers that `auto` may take here, best first; `cpu` is always the last. Logs what is not.

    A build for GPUs lists CUDA wherever it is installed: each is tried on a graph of one node.
    """
    listed = [name for name in BEST_FIRST if PROVIDERS[name] in ort.get_available_providers()]
    works = tuple(name for name in listed if not failure(name))
    for name in listed:
        if name not in works:
            log.warning("provider %s does not work here (%s): falling back to %s", name, failure(name), works[0])
    if listed == ["cpu"]:
        log.info("provider cpu: this onnxruntime has no other")
    return works


@cache
def failure(name: str) -> str:
    """Why a provider does not work here; empty when it does."""
    if PROVIDERS[name] not in ort.get_available_providers():
        return "absent from this onnxruntime"
    if name in {"cuda", "tensorrt"}:
        _load_libraries()
    try:
        session = ort.InferenceSession(_PROBE, options(1), providers=[PROVIDERS[name]], enable_fallback=0)
    except (*_ORT_ERRORS, RuntimeError) as error:
        return _first_line(error).rpartition(") ")[2][:160]
    found = session.get_providers()[0]
    return "" if found == PROVIDERS[name] else f"{found} took its place: its libraries or its device are missing"


def _load_libraries() -> None:
    """CUDA and cuDNN of NVIDIA's packages, where they are installed: the linker looks for them in the system alone."""
    with redirect_stdout(io.StringIO()):  # it prints what it does not find
        ort.preload_dlls()


def graph_name(provider: str = "cpu") -> str:
    """The file a bundle carries its graph in as onnxruntime optimised it for machines like this one.

    Layouts and fused operators depend on the instructions of the CPU, on onnxruntime's version, and the provider.
    """
    parts = [platform.machine(), Environment.here().isa, ort.__version__, provider]
    return f"model.{short(digest_bytes(canonical_json(parts).encode()))}.onnx"


def usable(name: str) -> str:
    """`name`, if that provider works here; `OutsideSystem` if it does not, `UsageError` if no provider is called so."""
    if name not in PROVIDERS:
        raise UsageError(PROVIDER_VARIABLE, name, f"{AUTO}, {', '.join(PROVIDERS)}", "correct the variable")
    if why := failure(name):
        remedy = f"install what docs/providers.md says, or set {PROVIDER_VARIABLE}=auto"
        raise OutsideSystem(PROVIDERS[name], why, "a provider that works here", remedy)
    return name


def _load(bundle: ModelBundle, provider: str, threads: int) -> Any:
    wanted, graph = options(threads), bundle.graph
    if len(bundle.manifest.files) > 1 and (made := graph_name(provider)) in bundle.manifest.files:
        graph = bundle.path / made
        wanted.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # all is done
    providers = [(PROVIDERS[provider], _settings(provider, threads))]
    return ort.InferenceSession(graph.read_bytes(), wanted, providers=providers, enable_fallback=0)


def _settings(provider: str, threads: int) -> dict[str, str]:
    """What a provider is told. Pages come in any size: nothing is searched for, or kept, by size."""
    engines = Workspace.current().home / "engines"
    return {
        "cpu": {},
        "cuda": {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"},
        "tensorrt": {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(engines),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(engines),
        },
        # Left to itself it takes all cores, and computes in bfloat16 where the CPU has it.
        "openvino": {"device_type": "CPU", "num_of_threads": str(threads), "num_streams": "1", "precision": "FP32"},
    }[provider]


def options(threads: int) -> Any:
    """Settings of a session of so many threads, beside others in one process."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    made.inter_op_num_threads = 1
    # Spinning workers of several sessions starve each other and count against the container's quota.
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Pages come in any size, and a pattern never recurs. Without the arena each layer's memory would come from the
    # system and go back to it: a tenth of a page's CPU time, and twice the memory after some pages of all sizes.
    made.enable_mem_pattern = False
    made.log_severity_level = _FATAL_ONLY
    return made


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
