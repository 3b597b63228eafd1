"""What a training output says of its making, for the registry to show."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.spec import ONNX_FILE

_COUNTERS = {"step", "seconds", "samples"}
"""Columns of a row that say when it was taken."""


METRICS_FILE = "metrics.jsonl"
RUN_NOTES = ("confusions.json", "judgement.json", "quarantine.jsonl", METRICS_FILE)
"""Files of a run's folder that are worth keeping beside its pictures."""


@dataclass(frozen=True, slots=True)
class Training:
    """`curves`: (step, value) by name. `figures`: single numbers. `facts`: texts, such as digests and devices."""

    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads `training.json`, whoever wrote it: any JSON object.

        Rows with a `step` become curves, numbers figures, texts facts; nested names are joined by dots. Nothing of
        a model that came without one. `BadRecord` when it is no JSON object.
        """
        training = cls()
        if path.is_file():
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise BadRecord(path, str(error), "a JSON object", "write it again, or remove it") from None
            if not isinstance(data, dict):
                raise BadRecord(path, type(data).__name__, "a JSON object", "write it again, or remove it")
            training._take("", data)
        return training

    @classmethod
    def of_run(cls, folder: Path) -> Self:
        """The curves of a training run's folder (`metrics.jsonl`). `BadRecord` when there is none or it is broken."""
        path = folder / METRICS_FILE
        training = cls()
        try:
            for row in path.read_text(encoding="utf-8").split("\n")[:-1]:  # what a crash tore off has no end
                training._point(json.loads(row))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadRecord(path, str(error), "a JSON object with a step a line", "train first") from None
        return training

    def _take(self, prefix: str, data: Mapping[str, Any]) -> None:
        for key, value in data.items():
            name = f"{prefix}{key}"
            if name == "schema_version":
                continue
            if _number(value):
                self.figures[name] = float(value)
            elif isinstance(value, (str, bool)):
                self.facts[name] = str(value)
            elif isinstance(value, Mapping):
                self._take(f"{name}.", value)
            elif isinstance(value, list):
                for row in value:
                    if isinstance(row, Mapping) and _number(row.get("step")):
                        self._point(row)

    def _point(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name not in _COUNTERS and _number(value):
                self.curves.setdefault(name, []).append((int(row["step"]), float(value)))


def check_weights(path: Path) -> None:
    """`BadInput` when a safetensors file cannot be opened (header, offsets, length) or holds nothing.

    The graph of an imported model was held against its contract; here it only has to be one.
    """
    if path.name == ONNX_FILE:
        _check_graph(path)
        return
    try:
        with safe_open(path, "numpy") as file:
            count = len(list(file.keys()))
    except (OSError, SafetensorError) as error:
        raise BadInput(path, str(error), "weights in safetensors", "train again, or fetch the file again") from None
    if not count:
        raise BadInput(path, "no tensors", "weights in safetensors", "train again, or fetch the file again")


def _check_graph(path: Path) -> None:
    import onnx  # noqa: PLC0415 (half a second, for imported models only)
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
    except (OSError, DecodeError, ValueError):
        nodes = 0
    if not nodes:
        raise BadInput(path, "no ONNX graph", "an imported model", "import it again")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
