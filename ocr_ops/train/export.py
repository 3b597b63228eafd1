"""From a training output to a bundle: an ONNX graph that provably does what the PyTorch network does."""

import io
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from ocr_ops import __version__
from ocr_ops.core.bundle import GRAPH_FILE, Manifest, ModelBundle
from ocr_ops.core.errors import GateFailed
from ocr_ops.core.record import digest_file
from ocr_ops.core.spec import WEIGHTS_FILE, ModelSpec
from ocr_ops.data.render_lines import LineRenderer, to_height
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.data.render_text import CHARSET
from ocr_ops.runtime.ctc import decode
from ocr_ops.runtime.session import Session, to_tensor
from ocr_ops.train.loop import read_tensors
from ocr_ops.train.networks import load

OPSET = 17
MOST_DIFFERENCE = 1e-3
"""Largest absolute difference of an output value (a logit, or a probability of the map)."""
LEAST_OVERLAP = 0.999
"""Intersection over union of the thresholded maps."""
SHAPES = ((1, 192, 320), (2, 320, 192), (3, 256, 416))
"""Batch, height, width of the runs that prove parity; a recogniser keeps its own height."""

Pictures = list[NDArray[np.uint8]]


def export(model: Path, out: Path) -> ModelBundle:
    """Writes the bundle of a model folder (`model.toml`, `weights.safetensors`) to `out`.

    The graph then runs at three shapes in the serving session, on rendered samples, against PyTorch: outputs must
    agree to `MOST_DIFFERENCE`, and so must the decoded texts or the thresholded maps. The manifest's facts carry
    the figures. Raises `GateFailed` when they disagree, `BadInput` for weights that do not fit the spec.
    """
    spec = ModelSpec.read(model)
    weights = model / WEIGHTS_FILE
    network = load(spec, read_tensors(weights)[0], weights)
    graph = to_onnx(network, spec)
    manifest = Manifest(
        model=spec.name,
        task=spec.task,
        precision="fp32",
        licence=spec.licence,
        input=spec.input,
        charset=spec.charset,
        boxes=spec.boxes,
        text=spec.text,
        floor=spec.floor,
        opset=OPSET,
        weights=digest_file(weights),
        toolkit=__version__,
        files={},
    )
    with tempfile.TemporaryDirectory() as scratch:  # what has not passed never stands at `out`
        draft = ModelBundle.write(Path(scratch) / "draft", manifest, {GRAPH_FILE: graph})
        facts = parity(network, Session(draft, threads=1), spec)
    return ModelBundle.write(out, manifest.model_copy(update={"facts": facts}), {GRAPH_FILE: graph})


def to_onnx(network: nn.Module, spec: ModelSpec) -> bytes:
    """The network as ONNX: BatchNorm folded into the convolutions; batch and width free, detection also height."""
    line = spec.task == "recognition"
    example = torch.zeros(2, spec.input.channels, spec.input.height or 64, 96)
    image = {0: "batch", 3: "width"} if line else {0: "batch", 2: "height", 3: "width"}
    output = {0: "batch", 1: "steps"} if line else {0: "batch", 2: "map_height", 3: "map_width"}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter folds BatchNorm and leaves plain nodes; the newer one needs onnxscript besides.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            buffer,
            input_names=["image"],
            output_names=["output"],
            dynamic_axes={"image": image, "output": output},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(graph, full_check=True)
    return buffer.getvalue()


def parity(network: nn.Module, session: Session, spec: ModelSpec) -> dict[str, float]:
    """Compares a session with PyTorch on rendered samples: largest difference and agreement of what is read of it."""
    difference, agreement = 0.0, 1.0
    for pictures in samples(spec):
        batch = to_tensor(pictures, spec.input)
        with torch.no_grad():
            expected = network(torch.from_numpy(batch)).numpy()
        found = session.run(batch)
        if found.shape != expected.shape:
            raise _unlike(spec, f"output {found.shape} for input {batch.shape}", f"{expected.shape}")
        difference = max(difference, float(np.abs(found - expected).max()))
        agreement = min(agreement, _agreement(found, expected, spec))
    least = 1.0 if spec.task == "recognition" else LEAST_OVERLAP
    if difference > MOST_DIFFERENCE or agreement < least:
        found_text = f"a difference of {difference:.2e} and an agreement of {agreement:.4f}"
        raise _unlike(spec, found_text, f"at most {MOST_DIFFERENCE} and at least {least}")
    return {"parity_max_abs_difference": difference, "parity_agreement": agreement}


def samples(spec: ModelSpec) -> Iterator[Pictures]:
    """Rendered inputs of the three shapes."""
    rng = np.random.default_rng(20)
    lines = LineRenderer(spec.charset, "validation") if spec.task == "recognition" else None
    pages = PageRenderer(CHARSET, "validation")
    for count, rows, width in SHAPES:
        height = spec.input.height or rows
        if lines:
            crops = [lines.line(rng, width)[0] for _ in range(count)]
            crops = [to_height(crop, height, spec.input.stride, width) for crop in crops]
        else:
            crops = [pages.page(rng, 600).image[:rows, :width] for _ in range(count)]
        yield [np.pad(c, ((0, height - c.shape[0]), (0, width - c.shape[1])), mode="edge") for c in crops]


def _agreement(found: NDArray[np.float32], expected: NDArray[np.float32], spec: ModelSpec) -> float:
    """Share of equal texts, or overlap of the maps above the serving threshold."""
    if spec.task == "recognition":
        pairs = [[decode(logits, spec.charset, spec.text).text for logits in rows] for rows in (found, expected)]
        return float(np.mean([a == b for a, b in zip(*pairs, strict=True)]))
    left, right = found > spec.boxes.threshold, expected > spec.boxes.threshold
    return float((left & right).sum() / max(1, (left | right).sum())) if (left | right).any() else 1.0


def _unlike(spec: ModelSpec, found: str, expected: str) -> GateFailed:
    return GateFailed(f"export of {spec.name}", found, expected, "report it with the versions of torch and onnxruntime")
