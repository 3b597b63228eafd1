"""Training outputs and releases to register in a test: tiny, real, and as many different ones as it needs."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ocr_ops.core.record import digest_file
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment, Report
from ocr_ops.core.spec import TASKS, Task
from ocr_ops.core.verdict import Check
from ocr_ops.registry import ModelVersion, Registry
from tests.tiny import CHARSET, build_bundle

ENVIRONMENT = Environment(cpu="test", isa=(), cores=2, system="test", packages={})


def model_folder(folder: Path, task: Task, seed: int = 0) -> Path:
    """A training output; another `seed`, other weights."""
    folder.mkdir(parents=True)
    save_file({task: np.arange(seed, seed + 4, dtype=np.float32)}, folder / "weights.safetensors")
    charset = f'charset = "{CHARSET}"' if task == "recognition" else ""
    (folder / "model.toml").write_text(
        f"""\
name = "{task}-bars"
task = "{task}"
licence = "Apache-2.0"
{charset}
[input]
height = {32 if task == "recognition" else 0}
stride = {4 if task == "recognition" else 32}
max_side = 640
[network]
widths = [8, 16]
[recipe]
steps = 100
[quality]
floor = 0.9
""",
        encoding="utf-8",
    )
    curve = [{"step": step, "loss": 1 / step, "score": 1 - 1 / step} for step in range(1, 101)]
    training = {"device": "cpu", "score": 0.97, "data": {"lines": 5000}, "curve": curve}
    (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    (folder / "card.md").write_text("Reads bars. Reads nothing else.\n", encoding="utf-8")
    return folder


def release_of(folder: Path, models: dict[Task, Path]) -> Release:
    """A release of bundles that name the weights of `models` as their own."""
    detection, recognition = (
        build_bundle(folder / f"{task}-bundle", task, weights=digest_file(models[task] / "weights.safetensors"))
        for task in TASKS
    )
    return Release.write(folder / "release", detection, recognition)


def report(kind: str, name: str, subject: str, found: float = 120.0) -> Report:
    """A report on `subject` that passes when `found` is 500 at most."""
    check = Check(name="p95_ms", found=found, comparison="<=", limit=500)
    return Report.parse(
        {
            "kind": kind,
            "name": name,
            "subject": subject,
            "dataset": None,
            "environment": ENVIRONMENT,
            "metrics": {"p95_ms": found, "accuracy": 0.98},
            "samples": {"latency_ms": tuple(found - step for step in range(10))},
            "checks": (check,),
        },
        name,
    )


def register_release(registry: Registry, folder: Path, seed: int) -> tuple[Release, ModelVersion]:
    """Registers two models and the release made of them."""
    models = {task: model_folder(folder / task, task, seed) for task in TASKS}
    for model in models.values():
        (model / "training.json").unlink()  # plots take seconds
    release = release_of(folder, models)
    versions = [registry.register(models[task]) for task in TASKS]
    return release, registry.log_release(release, *versions, [])
