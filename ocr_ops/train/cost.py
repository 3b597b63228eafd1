"""What a network costs: CPU milliseconds of its exported graph, in the session that will serve it."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocr_ops import __version__
from ocr_ops.core.bundle import GRAPH_FILE, Manifest, ModelBundle
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.spec import ModelSpec
from ocr_ops.runtime.session import Session
from ocr_ops.train.export import OPSET, to_onnx
from ocr_ops.train.networks import build

CROPS = 8
"""Of a typical call of a recogniser."""
ASPECT = 8
"""Width over height of a typical crop: two or three words."""
PAGE = 0.7
"""Width over height of a typical page: a portrait sheet."""
ROUNDS = 15


def cpu_ms(specs: Sequence[ModelSpec], rounds: int = ROUNDS) -> list[float]:
    """CPU milliseconds a crop (recognition) or a page (detection) takes each spec's network, one thread.

    The median of `rounds`, in which all take turns: what else the machine does meets each alike. Untrained
    networks cost what trained ones do.
    """
    with tempfile.TemporaryDirectory() as folder:
        sessions = [Session(_bundle(spec, Path(folder) / str(i)), threads=1) for i, spec in enumerate(specs)]
    inputs = [_typical(spec) for spec in specs]
    taken = np.empty((rounds + 1, len(specs)))
    for row in taken:
        for i, (session, batch) in enumerate(zip(sessions, inputs, strict=True)):
            start = time.thread_time()
            session.run(batch)
            row[i] = 1000 * (time.thread_time() - start) / len(batch)
    return [float(ms) for ms in np.median(taken[1:], axis=0)]  # the first round warms up


def _bundle(spec: ModelSpec, folder: Path) -> ModelBundle:
    """The spec's untrained network, as a bundle."""
    network = build(spec)
    network.eval()
    graph = to_onnx(network, spec)
    manifest = Manifest(
        model=spec.name,
        task=spec.task,
        precision="fp32",
        licence=spec.licence,
        input=spec.input,
        charset=spec.charset,
        floor=spec.floor,
        opset=OPSET,
        weights=digest_bytes(graph),
        toolkit=__version__,
        files={},
    )
    return ModelBundle.write(folder, manifest, {GRAPH_FILE: graph})


def _typical(spec: ModelSpec) -> NDArray[np.float32]:
    """Noise, float32 (N, C, H, W): a convolution's cost does not depend on what it sees."""
    shape = spec.input
    if spec.task == "recognition":
        size = (CROPS, shape.channels, shape.height, ASPECT * shape.height // shape.stride * shape.stride)
    else:
        size = (1, shape.channels, shape.max_side, int(PAGE * shape.max_side) // shape.stride * shape.stride)
    return np.random.default_rng(0).normal(size=size).astype(np.float32)
