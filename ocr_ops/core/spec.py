"""ModelSpec: what a model is and reads, as written in `models/NAME/model.toml`."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from ocr_ops.core.errors import BadRecord, UnknownModel
from ocr_ops.core.record import Record, Value

Task = Literal["detection", "recognition"]
TASKS: tuple[Task, Task] = ("detection", "recognition")

SPEC_FILE = "model.toml"
WEIGHTS_FILE = "weights.safetensors"
TRAINING_FILE = "training.json"
CARD_FILE = "card.md"
ONNX_FILE = "model.onnx"
"""In place of weights: what an imported model has is its graph."""
CHARSET_FILE = "charset.txt"
"""In place of `charset`, where thousands of characters would drown the spec: one string, in class order."""

T = TypeVar("T")


def later(default: T) -> T:
    """A field that came after the first bundles: at its default it is not written, so their digests stand."""
    return Field(default=default, exclude_if=lambda value: value == default)


class InputSpec(Value):
    """How pixels become a tensor: float32 NCHW, `x = (pixel / 255 - mean) / std`."""

    channels: Literal[1, 3] = 1
    """1: grey; 3: colour, in this order."""
    order: Literal["rgb", "bgr"] = later("rgb")
    mean: tuple[float, ...] = (0.5,)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.5,)
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels; recognition crops are resized to it, 0 leaves it free (detection)."""
    width: Annotated[int, Field(ge=0)] = later(0)
    """Pixels; 0 leaves it free. Where it is set, what is smaller is padded and what is larger shrunk, as a whole."""
    padding: Literal["edge", "black"] = later("edge")
    """What stands beyond the picture, where it is padded: its last column again, or nothing."""
    stride: Annotated[int, Field(ge=1)]
    """Recognition: pixels of width a time step. Detection: both sides are multiples of it."""
    max_side: Annotated[int, Field(ge=32)]
    """Recognition: the widest crop. Detection: the cap on the page's longer side, but for strips. Pixels."""
    min_side: Annotated[int, Field(ge=0)] = later(0)
    """Detection: a page whose shorter side has fewer pixels is enlarged to it, no other is (PP-OCR). 0: every page
    is brought up to `max_side`, as far as that is reasonable."""

    @model_validator(mode="after")
    def _one_mean_and_std_a_channel(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                msg = f"{name} has {len(values)} values for {self.channels} channel(s)"
                raise ValueError(msg)
        return self


class BoxSpec(Value):
    """How a detector's map becomes boxes."""

    output: Literal["probabilities", "logits"] = "probabilities"
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Pixels above it are text."""
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least mean probability of a region."""
    growth: Literal["height", "area"] = "height"
    """How a region, smaller than its text, gives back what training took. `height`: each side moves out by `ratio`
    times the region's thickness. `area`: by `ratio` times its area over its outline, DB's unclipping (Liao et al.,
    AAAI 2020)."""
    ratio: Annotated[float, Field(ge=0)] = 0.5


class TextSpec(Value):
    """How a recogniser's output, (N, T, classes), becomes text: CTC."""

    output: Literal["logits", "probabilities"] = "logits"
    blank: Literal["first", "last"] = "first"
    """Which class means nothing; the others are the charset, in order."""


Setting = int | float | str | tuple[int, ...]


class ModelSpec(Record):
    """A model's contract, and that of what lies beside it: the training output (`weights.safetensors`), which must
    fit `network`, or the graph (`model.onnx`) of a model that was trained elsewhere, which needs no `network`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    task: Task
    licence: str
    charset: str = ""
    """Recognition: the characters in class order, without the CTC blank."""
    input: InputSpec
    boxes: BoxSpec = later(BoxSpec())
    text: TextSpec = later(TextSpec())
    network: dict[str, Setting] = {}
    recipe: dict[str, Setting] = {}
    quality: dict[Literal["floor"], Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _charset_fits_the_task(self) -> Self:
        if (self.task == "recognition") != bool(self.charset):
            msg = f"a {self.task} model has a charset of {len(self.charset)} characters"
            raise ValueError(msg)
        if self.network and len(set(self.charset)) != len(self.charset):  # others have their spaces twice
            twice = next(char for char in self.charset if self.charset.count(char) > 1)
            msg = f"charset holds {twice!r} twice"
            raise ValueError(msg)
        return self

    @property
    def floor(self) -> float:
        """The least accuracy an exported variant may have (detection: hmean; recognition: 1 - CER)."""
        return self.quality["floor"]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The spec of a model folder. `UnknownModel` when there is none, `BadRecord` when it is wrong."""
        path = folder / SPEC_FILE
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UnknownModel(
                folder, f"no {SPEC_FILE}", "a model folder", "see `ls models`, or give a path to one"
            ) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadRecord(path, str(error), "a model spec in TOML", "correct the file") from None
        charset = folder / CHARSET_FILE
        if "charset" not in data and charset.is_file():
            try:
                data["charset"] = charset.read_text(encoding="utf-8").rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise BadRecord(charset, str(error), "characters in UTF-8", "import the model again") from None
        return cls.parse(data, path)


def output_of(folder: Path) -> Path:
    """What a model folder's digest is taken of: its weights, or the graph of one that was trained elsewhere.

    `UnknownModel` when it has neither.
    """
    for name in (WEIGHTS_FILE, ONNX_FILE):
        if (folder / name).is_file():
            return folder / name
    found = f"no {WEIGHTS_FILE} or {ONNX_FILE}"
    raise UnknownModel(folder, found, "a training output or an imported model", "train it, or restore the file")
