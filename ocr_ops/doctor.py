"""Doctor: what of the machine, the packages and the workspace is in order, and what to do about the rest."""

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.render_fonts import FONT_FOLDERS
from ocr_ops.runtime.session import AUTO, PROVIDER_VARIABLE, PROVIDERS, failure, offered

ENOUGH_DISK = 2 * 2**30
"""Bytes: torch, a Bento and the runs of a day."""

State = Literal["ok", "absent", "missing"]
"""`absent`: something optional is not there; `missing`: something needed is not."""


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    state: State
    found: str
    remedy: str = ""


def examine(workspace: Workspace) -> list[Finding]:
    """Looks at everything a release needs; changes nothing."""
    return [*_machine(), *_packages(), *_providers(), *_programs(), *_state(workspace)]


def _machine() -> Iterator[Finding]:
    here = Environment.here()
    yield Finding("cpu", "ok", f"{here.cores} cores, {here.cpu}, {' '.join(here.isa) or 'no vector extensions'}")
    free = shutil.disk_usage(Path.cwd()).free
    state: State = "ok" if free > ENOUGH_DISK else "missing"
    yield Finding("disk", state, f"{free / 2**30:.1f} GiB free", "" if state == "ok" else "free some space")
    fonts = [path for kind in ("ttf", "otf") for path in Path(FONT_FOLDERS).rglob(f"*.{kind}")]
    yield _needed("fonts", len(fonts), f"{len(fonts)} in {FONT_FOLDERS}", "make setup")
    port = int(os.environ.get("PORT", "3000"))
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    found = "something listens there" if taken else "free"
    yield Finding(f"port {port}", "absent" if taken else "ok", found, "stop it, or set PORT" if taken else "")


def _packages() -> Iterator[Finding]:
    for name in ("onnxruntime", "bentoml", "mlflow", "torch", "onnx", "optuna", "locust"):
        yield _needed(name, find_spec(name) is not None, "installed", "make setup")


def _providers() -> Iterator[Finding]:
    """What onnxruntime can run graphs on here; each is tried."""
    for name in PROVIDERS:
        why = failure(name)
        found = why or ("works; what auto takes" if name == offered()[0] else "works")
        yield Finding(f"provider {name}", "absent" if why else "ok", found, "see docs/providers.md" if why else "")
    asked = os.environ.get(PROVIDER_VARIABLE) or AUTO
    known = asked == AUTO or (asked in PROVIDERS and not failure(asked))
    remedy = "" if known else f"{PROVIDER_VARIABLE}={AUTO}, or one that works"
    yield Finding(PROVIDER_VARIABLE, "ok" if known else "missing", asked, remedy)


def _programs() -> Iterator[Finding]:
    for name, use in (("promtool", "checks alert rules"), ("docker", "containerizes"), ("tesseract", "a peer")):
        path = shutil.which(name)
        yield Finding(name, "ok" if path else "absent", path or f"not found; {use}", "" if path else f"install {name}")


def _state(workspace: Workspace) -> Iterator[Finding]:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    yield Finding("mlflow store", "ok", uri or workspace.tracking_uri)
    try:
        champion = Release.open(workspace.champion)
    except OcrOpsError as error:
        yield Finding("champion", "absent", error.found, error.remedy)
    else:
        yield Finding("champion", "ok", short(champion.digest))


def _needed(name: str, found: object, text: str, remedy: str) -> Finding:
    return Finding(name, "ok", text) if found else Finding(name, "missing", "not found", remedy)
