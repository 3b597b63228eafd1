"""Other people's models: `describe` and `rapidocr` say what they are, `settle` makes a model folder of one."""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import BadInput, BadRecord, CorruptBundle, UsageError
from ocr_ops.core.record import digest_bytes, write_atomic
from ocr_ops.core.spec import CARD_FILE, CHARSET_FILE, ONNX_FILE, SPEC_FILE, WEIGHTS_FILE, ModelSpec, Task
from ocr_ops.data.pages import PageSet
from ocr_ops.optimize.adopt import adopt, kind_of, manifest_of
from ocr_ops.optimize.conventions import (
    INFERENCE_FILE,
    PRESETS,
    Conventions,
    Preset,
    paddle_conventions,
    stored_characters,
    yaml_of,
)
from ocr_ops.optimize.shapes import check_input, declared_input
from ocr_ops.optimize.vet import read_graph
from ocr_ops.runtime.session import Session

IDEOGRAPHIC_SPACE = "\N{IDEOGRAPHIC SPACE}"
_FLOORS: dict[Task, float] = {"detection": 0.5, "recognition": 0.8}
"""Below what such models reach on rendered pages, above what a wrong spec would."""
_DEFAULTS: dict[Task, dict[str, Any]] = {
    "detection": {"stride": 32, "max_side": 1280},
    "recognition": {"stride": 1, "max_side": 2048},
}


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model as it lies elsewhere, and the spec it will have here."""

    source: Path
    graph: bytes
    spec: ModelSpec
    origin: str
    """Where it comes from, for its card."""


def describe(
    source: Path,
    told: Conventions,
    *,
    preset: Preset | None = None,
    name: str | None = None,
    licence: str | None = None,
    floor: float | None = None,
    origin: str = "an ONNX file",
) -> Foreign:
    """The spec of an ONNX file: what is told, else what lies beside it (`inference.yml`), else the preset's.

    Fixed sizes, the stride, and whether probabilities or logits come out are read off the graph and a run of it.
    `BadInput` for what is no ONNX model, `UsageError` for what is told nowhere.
    """
    graph = read_graph(source)
    model = onnx.load_model_from_string(graph)
    beside = source.with_name(INFERENCE_FILE)
    if beside.is_file():
        written = paddle_conventions(beside)
        if told.task not in (None, written.task):
            raise BadInput(beside, f"of a {written.task} model", str(told.task), "correct --task")
        told, preset = told.over(written), preset or "paddleocr"
    task = told.task
    if task is None:
        raise UsageError(source, "nothing says what it does", "--task detection or recognition", "name its task")
    if preset:
        told = told.over(PRESETS[preset, task])
    told = told.over(Conventions(characters=stored_characters(model)))
    if task == "recognition" and not told.characters:
        raise UsageError(source, "its characters are told nowhere", "--charset FILE", "give its dictionary")
    parts = {"boxes": dict(told.boxes)} if task == "detection" else {"text": dict(told.text)}
    data = {
        "name": name or slug(source.stem),
        "task": task,
        "licence": licence or ("Apache-2.0" if preset else "unstated"),
        "charset": _spelt(told.characters, source) if task == "recognition" else "",
        "input": _input(told, task, model, source),
        "quality": {"floor": _FLOORS[task] if floor is None else floor},
        **parts,
    }
    return Foreign(source, graph, _probed(ModelSpec.parse(data, source), graph, model, source), origin)


def slug(stem: str) -> str:
    """A file's name as a model's."""
    return re.sub(r"[^a-z0-9.-]+", "-", stem.lower()).strip("-.")


def _input(told: Conventions, task: Task, model: onnx.ModelProto, source: Path) -> dict[str, Any]:
    """`ModelSpec.input`: what is told, else what the graph declares."""
    _, channels, height, width = declared_input(model, source)
    declared = {"channels": channels or 3, "height": height, "width": width}
    settings = {**_DEFAULTS[task], **declared, **told.input}
    if task == "recognition" and not settings["height"]:
        raise UsageError(source, "its height is told nowhere", "--height PIXELS", "give the height it was trained at")
    if settings["width"]:
        settings["max_side"] = max(settings["width"], 32)
    for key in ("mean", "std"):
        values = list(settings.get(key, (0.5,)))
        settings[key] = values * settings["channels"] if len(values) == 1 else values
    return settings


def _probed(spec: ModelSpec, graph: bytes, model: onnx.ModelProto, source: Path) -> ModelSpec:
    """The spec with what only a run of the graph tells: the stride, the kind of output, a space of its own."""
    check_input(model, spec, source)
    height, width = spec.input.height or 256, spec.input.width or 320
    picture = np.ones((1, spec.input.channels, height, width), np.float32)
    picture[..., : width // 2] = -1  # dark and light: grey all over would tell little
    with tempfile.TemporaryDirectory() as scratch:
        bundle = ModelBundle.write(Path(scratch) / "draft", manifest_of(spec, graph), {GRAPH_FILE: graph})
        try:
            output = Session(bundle, threads=1).run(picture)
        except CorruptBundle as error:
            raise BadInput(source, error.found, error.expected, "correct the shape told, or export it again") from None
    kind = kind_of(output)
    if spec.task == "detection":
        return spec.model_copy(update={"boxes": spec.boxes.model_copy(update={"output": kind})})
    if output.ndim != 3 or not output.shape[1]:
        raise BadInput(source, f"output {output.shape}", "(N, T, classes)", "give a recogniser trained with CTC")
    return spec.model_copy(
        update={
            "input": spec.input.model_copy(update={"stride": max(1, round(width / output.shape[1]))}),
            "text": spec.text.model_copy(update={"output": kind}),
            # PaddleOCR's `use_space_char`: one more class than the dictionary has entries.
            "charset": spec.charset + " " if output.shape[2] == len(spec.charset) + 2 else spec.charset,
        }
    )


def rapidocr() -> list[Foreign]:
    """The detector and the recogniser that the installed `rapidocr` reads with by default, with its settings.

    `UsageError` when it is not installed, `BadInput` when a model of its configuration does not lie in it.
    """
    found = importlib.util.find_spec("rapidocr")
    if found is None or not found.submodule_search_locations:
        raise UsageError("rapidocr", "not installed", "the package, with its models", "pip install 'ocr-ops[peers]'")
    package = Path(found.submodule_search_locations[0])
    config = package / "config.yaml"
    settings = yaml_of(config)
    try:
        page, lines, whole = settings["Det"], settings["Rec"], settings["Global"]
        bound = {"max_side": int(whole["max_side_len"]), "min_side": 1}
        bound["min_side" if page["limit_type"] == "min" else "max_side"] = int(page["limit_side_len"])
        told = {
            "det": Conventions(
                "detection",
                {"mean": list(page["mean"]), "std": list(page["std"]), **bound},
                {"threshold": page["thresh"], "min_score": page["box_thresh"], "ratio": page["unclip_ratio"]},
            ),
            "rec": Conventions("recognition", {"height": int(lines["rec_img_shape"][1])}),
        }
        names = {part: (settings[part.title()]["ocr_version"], settings[part.title()]["model_type"]) for part in told}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadRecord(config, f"{type(error).__name__}: {error}", "RapidOCR's configuration", _REINSTALL) from None
    made = []
    for part, conventions in told.items():
        version, size = names[part]
        files = sorted((package / "models").glob(f"*{version}_{part}*{size}.onnx"))
        if not files:
            raise BadInput(package / "models", f"no {version} {part} {size}", "its default models", _REINSTALL)
        name = f"{version}-{part}-{size}".lower()
        origin = f"`{files[0].name}` of RapidOCR {importlib.metadata.version('rapidocr')}"
        made.append(describe(files[0], conventions, preset="paddleocr", name=name, origin=origin))
    return made


def _spelt(characters: Sequence[str], source: Path) -> str:
    """Characters as a charset; ideographic spaces are spaces. `BadInput` names the first that is none or several."""
    for number, entry in enumerate(characters, 1):
        if len(entry) != 1 or entry in "\r\n":
            raise BadInput(source, f"entry {number} of its dictionary is {entry!r}", "one character", "correct it")
    return "".join(characters).replace(IDEOGRAPHIC_SPACE, " ")


def settle(model: Foreign, models: Path, out: Path, samples: PageSet) -> tuple[Path, ModelBundle]:
    """Makes the folder `models`/NAME of a model, and its bundle at `out`, once its contract holds (see `adopt`).

    The folder holds spec, graph, charset and card. An earlier import of that name is replaced; `BadInput` when a
    trained model bears it. What fails leaves nothing.
    """
    target = models / model.spec.name
    if (target / WEIGHTS_FILE).exists() or (target.exists() and not (target / ONNX_FILE).is_file()):
        raise BadInput(target, "there already, and no import", "a free name", "give another with --name")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / model.spec.name
        write_atomic(folder / ONNX_FILE, model.graph)
        write_atomic(folder / SPEC_FILE, _toml(model.spec).encode())
        if model.spec.charset:
            write_atomic(folder / CHARSET_FILE, model.spec.charset.encode())
        bundle = adopt(folder, Path(scratch) / "bundle", samples, model.source)
        write_atomic(folder / CARD_FILE, _card(model, bundle).encode())
        part = models / f".{model.spec.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            shutil.copytree(folder, part)
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return target, bundle.copy(out)


def _toml(spec: ModelSpec) -> str:
    """`model.toml`. JSON's numbers, strings and arrays are TOML's too; `adopt` reads it back."""
    data = spec.model_dump(mode="json", exclude={"charset", "network", "recipe"})
    tables = {key: value for key, value in data.items() if isinstance(value, dict)}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in data.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _card(model: Foreign, bundle: ModelBundle) -> str:
    spec = model.spec
    accuracy = bundle.manifest.facts["sample_accuracy"]
    measured = "lines met at their centres (F1)" if spec.task == "detection" else "characters read (1 - CER)"
    letters = f" {len(set(spec.charset)):,} characters." if spec.charset else ""
    return f"""\
# {spec.name}

Imported, not trained here: {model.origin}. Licence: {spec.licence}.{letters}
Its graph stands in for weights: `{digest_bytes(model.graph)}`.

On the sample pages it was imported with: {accuracy:.1%} of {measured}.
"""


_REINSTALL = "install rapidocr 3.10 again, or import the file itself"
