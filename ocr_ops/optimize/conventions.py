"""Other people's conventions: how PaddleOCR, RapidOCR and docTR prepare pictures and order characters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx
import yaml

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.spec import Task

Preset = Literal["paddleocr", "doctr"]
INFERENCE_FILE = "inference.yml"
"""What PaddleOCR's export writes beside a model."""
CHARSET_KEY = "character"
"""Where RapidOCR keeps the dictionary: in the ONNX file's metadata, one entry a line."""


@dataclass(frozen=True, slots=True)
class Conventions:
    """What a spec needs and a graph does not tell; what these leave out is told by something else."""

    task: Task | None = None
    input: Mapping[str, Any] = field(default_factory=dict)
    boxes: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    characters: tuple[str, ...] = ()
    """Recognition: in class order, without the blank; PaddleOCR's last one, a space, may be missing."""

    def over(self, other: "Conventions") -> "Conventions":
        """These, and the other's where these say nothing."""
        return Conventions(
            self.task or other.task,
            {**other.input, **self.input},
            {**other.boxes, **self.boxes},
            {**other.text, **self.text},
            self.characters or other.characters,
        )


PRESETS: dict[tuple[Preset, Task], Conventions] = {
    ("paddleocr", "recognition"): Conventions(
        "recognition",
        {"channels": 3, "order": "bgr", "mean": [0.5] * 3, "std": [0.5] * 3, "height": 48, "max_side": 2048},
        text={"blank": "first"},
    ),
    ("paddleocr", "detection"): Conventions(
        "detection",
        # ImageNet's figures, in its order, on channels in the other order: so it was trained.
        {
            "channels": 3,
            "order": "bgr",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "max_side": 960,
            "min_side": 1,
        },
        {"growth": "area", "threshold": 0.3, "min_score": 0.6, "ratio": 1.5},
    ),
    ("doctr", "recognition"): Conventions(
        "recognition",
        {
            "channels": 3,
            "mean": [0.694, 0.695, 0.693],
            "std": [0.299, 0.296, 0.301],
            "height": 32,
            "max_side": 128,
            "padding": "black",
        },
        text={"blank": "last"},
    ),
    ("doctr", "detection"): Conventions(
        "detection",
        {
            "channels": 3,
            "mean": [0.798, 0.785, 0.772],
            "std": [0.264, 0.2749, 0.287],
            "max_side": 1024,
            "padding": "black",
        },
        {"growth": "area", "threshold": 0.3, "min_score": 0.1, "ratio": 1.5},
    ),
}


def paddle_conventions(path: Path) -> Conventions:
    """What PaddleOCR's `inference.yml` says of preprocessing and characters.

    `BadRecord` when it is none, or is of a model that reads otherwise than by CTC or finds otherwise than by DB.
    """
    data = yaml_of(path)
    try:
        steps = {name: args or {} for step in data["PreProcess"]["transform_ops"] for name, args in step.items()}
        after = data["PostProcess"]
        settings: dict[str, Any] = {"order": steps["DecodeImage"].get("img_mode", "BGR").lower()}
        if "NormalizeImage" in steps:
            settings |= {key: [float(value) for value in steps["NormalizeImage"][key]] for key in ("mean", "std")}
        if after["name"] == "CTCLabelDecode":
            settings["height"] = int(steps["RecResizeImg"]["image_shape"][1])
            characters = tuple(str(entry) for entry in after["character_dict"])
            return Conventions("recognition", settings, characters=characters)
        if after["name"] == "DBPostProcess":
            keys = {"threshold": "thresh", "min_score": "box_thresh", "ratio": "unclip_ratio"}
            boxes = {ours: float(after[theirs]) for ours, theirs in keys.items() if theirs in after}
            return Conventions("detection", settings | _page_size(steps["DetResizeForTest"]), boxes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise BadRecord(path, found, "what PaddleOCR's export writes beside a model", _INFERENCE) from None
    raise BadRecord(path, f"PostProcess {after['name']}", "CTCLabelDecode or DBPostProcess", _INFERENCE)


def _page_size(resize: Mapping[str, Any]) -> dict[str, int]:
    """`DetResizeForTest`: the longer side brought to a length, or one of the sides bound."""
    if "resize_long" in resize:
        return {"max_side": int(resize["resize_long"]), "min_side": 0}
    limit = int(resize.get("limit_side_len", 960))
    if resize.get("limit_type", "max") == "min":
        return {"max_side": max(2016, limit), "min_side": limit}
    return {"max_side": limit, "min_side": 1}


def dictionary(path: Path) -> tuple[str, ...]:
    """Characters in class order from a file: one a line (PaddleOCR), or all in one line (docTR's vocabularies).

    `BadInput` names the first line that is no single character.
    """
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(path, str(error), "characters in UTF-8", "check the file") from None
    return tuple(lines[0].removesuffix("\r")) if len(lines) == 1 else tuple(line.removesuffix("\r") for line in lines)


def stored_characters(model: onnx.ModelProto) -> tuple[str, ...]:
    for entry in model.metadata_props:
        if entry.key == CHARSET_KEY:
            return tuple(entry.value.removesuffix("\n").split("\n"))
    return ()


def yaml_of(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadRecord(path, str(error).splitlines()[0], "settings in YAML", "check the file") from None


_INFERENCE = "correct it, or move it away and give the options instead"
