"""Which layers suffer from eight bits: each quantized alone, then as many left in float as a budget asks."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from ocr_ops.core.bundle import Calibration, Digest, Manifest, ModelBundle, Quantization
from ocr_ops.core.errors import NotProven
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment
from ocr_ops.core.spec import Task
from ocr_ops.optimize.calibration import Material, sources, tensor
from ocr_ops.optimize.quantize import calibrated, edges, eight_bits, layers, prepare
from ocr_ops.runtime.cpu import thread_count

SAMPLES: dict[Task, int] = {"detection": 2, "recognition": 48}
"""Pages, and lines, whose outputs are compared: layers differ by orders of magnitude, few tell them apart."""
BUDGET: dict[Task, float] = {"detection": 0.001, "recognition": 0.005}
"""Loss of a mixed variant, unless told otherwise."""
LEAST = 1e-6
"""What less probable outcomes count for: nothing is ever decided by them."""

Floats = NDArray[np.float32]


class LayerLoss(Value):
    """What a layer costs, quantized alone."""

    name: str
    operator: str
    loss: float
    """Divergence of the float graph's probabilities from this one's (Kullback and Leibler, 1951), nats: of a recogniser
    a time step, of a detector a pixel of text."""
    changed: float
    """Of a recogniser, the share of time steps that tell another character; of a detector, pixels that change sides, a
    pixel of text."""


class Sensitivity(Record):
    """The losses of a float bundle's layers, in the graph's order, and what stays in float for a budget."""

    subject: Digest
    dataset: Digest
    calibration: Calibration
    pictures: int
    """Pages or lines it was measured on."""
    layers: tuple[LayerLoss, ...]
    edges: float
    """Loss of the usual variant, with the first and the last layer in float."""
    budget: float
    steps: tuple[float, ...]
    """Loss with none, one, two, ... of the most harmful layers in float: the last is within the budget."""
    environment: Environment = Field(default_factory=Environment.here)

    @property
    def ranked(self) -> tuple[LayerLoss, ...]:
        """The most harmful first."""
        return tuple(sorted(self.layers, key=lambda layer: (-layer.loss, layer.name)))

    @property
    def recipe(self) -> Quantization:
        """That of the mixed variant. `NotProven` when the budget leaves nothing to quantize."""
        kept = tuple(layer.name for layer in self.ranked[: len(self.steps) - 1])
        if len(kept) == len(self.layers):
            found = f"a loss of {self.steps[-2]:.3g} with one layer quantized"
            raise NotProven("mixed precision", found, f"at most {self.budget:.3g}", "allow more with --budget")
        return Quantization(calibration=self.calibration, kept=kept)


def sensitivity(
    bundle: ModelBundle,
    material: Material,
    calibration: Calibration = "minmax",
    budget: float | None = None,
    samples: int | None = None,
) -> Sensitivity:
    """Measures every quantizable layer of a float bundle on `samples` pictures of what calibrates it.

    Ranges are taken once. Then each layer alone is quantized and the graph run on the same pictures; after that all
    are, and the most harmful return to float one by one until the loss is within the budget. Errors as `quantize`.
    """
    manifest = bundle.manifest
    limit = BUDGET[manifest.task] if budget is None else budget
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(bundle, Path(scratch))
        ranges = calibrated(bundle, prepared, material, Quantization(calibration=calibration))
        chosen = sources(manifest, material, samples or SAMPLES[manifest.task])
        trial = _Trial(manifest, onnx.load(prepared), [tensor(make(), manifest.input) for make in chosen])
        found = []
        nodes = layers(prepared)
        for node in tqdm(nodes, f"layers of {manifest.model}", unit="layer", disable=None):
            loss, changed = trial.losses(eight_bits(prepared, ranges, only=[node.name]))
            found.append(LayerLoss(name=node.name, operator=node.op_type, loss=loss, changed=changed))
        usual, _ = trial.losses(eight_bits(prepared, ranges, edges(prepared)))
        ranked = [layer.name for layer in sorted(found, key=lambda layer: (-layer.loss, layer.name))]
        steps: list[float] = []
        with tqdm(total=len(ranked), desc="layers back to float", unit="layer", disable=None) as bar:
            while not steps or (steps[-1] > limit and len(steps) < len(ranked)):
                steps.append(trial.losses(eight_bits(prepared, ranges, ranked[: len(steps)]))[0])
                bar.update()
        if steps[-1] > limit:
            steps.append(0.0)  # nothing is quantized any more
    return Sensitivity(
        subject=bundle.digest,
        dataset=material.digest,
        calibration=calibration,
        pictures=len(chosen),
        layers=tuple(found),
        edges=usual,
        budget=limit,
        steps=tuple(steps),
    )


@dataclass(slots=True)
class _Trial:
    """What the float graph makes of some tensors, to hold others against."""

    manifest: Manifest
    float_graph: onnx.ModelProto
    tensors: Sequence[Floats]
    expected: Sequence[Floats] = ()

    def __post_init__(self) -> None:
        self.expected = self._probabilities(self.float_graph)

    def losses(self, model: onnx.ModelProto) -> tuple[float, float]:
        """`LayerLoss.loss` and `.changed` of a graph."""
        divergence = changed = decisions = 0.0
        detection, threshold = self.manifest.task == "detection", self.manifest.boxes.threshold
        for p, q in zip(self.expected, self._probabilities(model), strict=True):
            divergence += float((p * (np.log(p) - np.log(q))).sum())
            if detection:
                text = p[:, 0] > threshold
                changed += float((text != (q[:, 0] > threshold)).sum())
                decisions += float(text.sum())
            else:
                changed += float((p.argmax(axis=1) != q.argmax(axis=1)).sum())
                decisions += len(p)
        return max(divergence, 0.0) / max(decisions, 1.0), changed / max(decisions, 1.0)

    def _probabilities(self, model: onnx.ModelProto) -> list[Floats]:
        """Of each tensor, float32 (time steps, classes), or (pixels, 2): text or not."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return [self._probability(session.run(None, {name: tensor})[0]) for tensor in self.tensors]

    def _probability(self, output: Floats) -> Floats:
        detection = self.manifest.task == "detection"
        logits = (self.manifest.boxes if detection else self.manifest.text).output == "logits"
        values = output.reshape(-1, 1) if detection else output[0]
        if logits and detection:
            values = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
        elif logits:
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
        if detection:
            values = np.concatenate([values, 1 - values], axis=1)
        return np.asarray(np.clip(values, LEAST, 1), np.float32)
