"""The release these services serve: the one a Bento carries, or a clone's champion."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

import click

from ocr_ops.core.errors import OcrOpsError, PortOccupied, UsageError
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.runtime.cpu import cpu_share

_SOURCE = Path(__file__).resolve().parent.parent


def open_champion() -> Release:
    """Opens and verifies it; errors as `Release.open`."""
    # A Bento is a promise: it serves what it carries, wherever it is started and whatever OCR_OPS_HOME says.
    carried = (_SOURCE.parent / "bento.yaml").is_file()
    return Release.open((Workspace(_SOURCE / ".ocr-ops") if carried else Workspace.current()).champion)


def require_champion() -> None:
    """Ends the process with one line when there is nothing to serve, before any worker starts."""
    try:
        open_champion()
    except OcrOpsError as error:
        _end(error)


def require_port() -> None:
    """Ends the process with one line when the address `bentoml serve` was told is taken."""
    context = click.get_current_context(silent=True)
    asked = context.params if context else {}
    host, port = str(asked.get("host") or "0.0.0.0"), int(asked.get("port") or 0)  # noqa: S104  BentoML's default
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server itself will bind it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            _end(PortOccupied(f"{host}:{port}", found, "a free address", "stop what listens there, or pass --port"))


def model_threads() -> int:
    """Threads for each of the two models: half the CPU share, since both run at once under load."""
    return max(1, int(cpu_share() / 2))


def setting(name: str, default: int) -> int:
    """A whole number from the environment; anything else ends the process with one line."""
    value = os.environ.get(name, str(default))
    if not (value.isascii() and value.isdigit() and int(value)):
        _end(UsageError(name, repr(value), "a whole number from 1", "correct the variable"))
    return int(value)


def switch(name: str) -> bool:
    """A switch from the environment, on unless it is `off`; anything else ends the process with one line."""
    value = os.environ.get(name, "on")
    if value not in ("on", "off"):
        _end(UsageError(name, repr(value), "on or off", "correct the variable"))
    return value == "on"


def _end(error: OcrOpsError) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)  # noqa: T201  the log is no place for last words
    raise SystemExit(error.exit_code)
