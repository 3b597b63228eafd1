"""ModelBundle: a folder of a manifest and the files it vouches for. Its digest is its identity."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ocr_ops.core.errors import CorruptBundle
from ocr_ops.core.record import Record, Value, digest_bytes, digest_file, write_atomic
from ocr_ops.core.spec import BoxSpec, InputSpec, Task, TextSpec, later

MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "model.onnx"

Precision = Literal["fp32", "int8", "fp16", "bf16"]
Calibration = Literal["minmax", "entropy", "percentile"]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Quantization(Value):
    """How a graph came by fewer bits."""

    method: Literal["static", "dynamic", "cast"] = "static"
    """`static`: scales of activations are measured on calibration data and kept. `dynamic`: they are taken of each
    input as it comes. `cast`: shorter floats, no scales at all."""
    calibration: Calibration = "minmax"
    """Of a static one: what of the measured values a scale covers."""
    kept: tuple[str, ...] | None = None
    """Of a static one: the nodes left in float. None: the first and the last layer."""


class Conversion(Value):
    """How a network became a graph."""

    exporter: str
    """With its version; it also simplifies: constants are folded, BatchNorm joins the convolutions."""
    traced: Annotated[int, Field(ge=1)]
    """Nodes as they were traced."""
    nodes: Annotated[int, Field(ge=1)]
    """Nodes left when they were simplified."""


class Manifest(Record):
    """What a bundle is, where it came from, and the hash of each of its files."""

    model: str
    task: Task
    precision: Precision
    licence: str
    input: InputSpec
    charset: str = ""
    boxes: BoxSpec = later(BoxSpec())
    text: TextSpec = later(TextSpec())
    floor: float
    opset: int
    weights: Digest
    """The training output (safetensors) all this descends from; of an imported model, the ONNX file itself."""
    parent: Digest | None = None
    """The bundle this one was made from: a quantized one names its float parent."""
    dataset: Digest | None = None
    """What it was calibrated on."""
    recipe: Quantization | None = later(None)
    """How it was quantized; None of an INT8 bundle: as `Quantization()`, which came before there were others."""
    buckets: tuple[Annotated[int, Field(ge=1)], ...] = later(())
    """Recognition: the widths crops are padded to, rising, pixels: the narrowest that holds a crop, beyond the widest
    the next multiple of 32. None: every multiple of 32."""
    conversion: Conversion | None = later(None)
    """None of an imported graph, and of what was exported before this was kept."""
    facts: dict[str, float] = {}
    """Figures of its making, such as export parity."""
    toolkit: str
    files: dict[FileName, Digest]

    @model_validator(mode="after")
    def _buckets_rise_in_strides(self) -> Self:
        steps = [width % self.input.stride for width in self.buckets]
        if any(steps) or list(self.buckets) != sorted(set(self.buckets)):
            msg = f"buckets {self.buckets} are not rising multiples of {self.input.stride}"
            raise ValueError(msg)
        return self

    @property
    def variant(self) -> str:
        """What tells it from its siblings, for people and for folder names: `fp32`, `int8`, `int8-mixed`, `bf16`."""
        marks: list[str] = [self.precision]
        if self.recipe is not None:
            marks += ["dynamic"] * (self.recipe.method == "dynamic")
            marks += [self.recipe.calibration] * (self.recipe.calibration != "minmax")
            marks += ["mixed"] * (self.recipe.kept is not None)
        return "-".join(marks)


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """An opened bundle: every file hashed and found to be what the manifest says."""

    path: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def graph(self) -> Path:
        return self.path / GRAPH_FILE

    @classmethod
    def open(cls, path: Path) -> Self:
        """Verifies and opens a bundle folder.

        Raises `BadRecord` without a sound manifest, `CorruptBundle` when a file is missing, foreign
        or altered.
        """
        manifest = Manifest.from_file(path / MANIFEST_FILE)
        present = {file.name for file in path.iterdir()} - {MANIFEST_FILE}
        for name in sorted(present - manifest.files.keys()):
            raise CorruptBundle(path / name, "not in the manifest", "only the files it lists", _AGAIN)
        for name, expected in manifest.files.items():
            file = path / name
            if not file.is_file() or file.is_symlink():
                raise CorruptBundle(file, "missing", expected, _AGAIN)
            found = digest_file(file)
            if found != expected:
                raise CorruptBundle(file, found, expected, _AGAIN)
        if GRAPH_FILE not in manifest.files:
            raise CorruptBundle(path, f"no {GRAPH_FILE}", "a graph to run", _AGAIN)
        return cls(path, manifest)

    @classmethod
    def write(cls, path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Self:
        """Writes a bundle folder whole: `manifest.files` is filled in here, and the manifest goes last."""
        shutil.rmtree(path, ignore_errors=True)
        for name, data in files.items():
            write_atomic(path / name, data)
        hashes = {name: digest_bytes(data) for name, data in sorted(files.items())}
        manifest = Manifest.parse({**manifest.model_dump(), "files": hashes}, path)
        manifest.save(path / MANIFEST_FILE)
        return cls.open(path)

    def copy(self, path: Path) -> "ModelBundle":
        """The same bundle elsewhere, verified there."""
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.path, path)
        return ModelBundle.open(path)


_AGAIN = "make or fetch the bundle again"
