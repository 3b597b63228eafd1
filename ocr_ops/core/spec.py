"""ModelSpec: what a model is and reads, as written in `models/NAME/model.toml`."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ocr_ops.core.errors import BadRecord, UnknownModel
from ocr_ops.core.record import Record, Value

Task = Literal["detection", "recognition"]
TASKS: tuple[Task, Task] = ("detection", "recognition")

SPEC_FILE = "model.toml"
WEIGHTS_FILE = "weights.safetensors"
TRAINING_FILE = "training.json"
CARD_FILE = "card.md"


class InputSpec(Value):
    """How pixels become a tensor: float32 NCHW, `x = (pixel / 255 - mean) / std`."""

    channels: Literal[1, 3] = 1
    """1: grey; 3: RGB."""
    mean: tuple[float, ...] = (0.5,)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.5,)
    height: Annotated[int, Field(ge=0)] = 0
    """Pixels; recognition crops are resized to it, 0 leaves it free (detection)."""
    stride: Annotated[int, Field(ge=1)]
    """Recognition: pixels of width a time step. Detection: both sides are multiples of it."""
    max_side: Annotated[int, Field(ge=32)]
    """Recognition: the widest crop. Detection: the cap on the page's longer side. Pixels."""

    @model_validator(mode="after")
    def _one_mean_and_std_a_channel(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                msg = f"{name} has {len(values)} values for {self.channels} channel(s)"
                raise ValueError(msg)
        return self


Setting = int | float | str | tuple[int, ...]


class ModelSpec(Record):
    """A model's contract. The training output beside it (`weights.safetensors`) must fit `network`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
    task: Task
    licence: str
    charset: str = ""
    """Recognition: the characters in class order, 1..N; class 0 is the CTC blank."""
    input: InputSpec
    network: dict[str, Setting]
    recipe: dict[str, Setting] = {}
    quality: dict[Literal["floor"], Annotated[float, Field(ge=0, le=1)]]

    @model_validator(mode="after")
    def _charset_fits_the_task(self) -> Self:
        if (self.task == "recognition") != bool(self.charset):
            msg = f"a {self.task} model has a charset of {len(self.charset)} characters"
            raise ValueError(msg)
        if len(set(self.charset)) != len(self.charset):
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
        return cls.parse(data, path)
