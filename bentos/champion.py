"""The release these services serve: the one a Bento carries, or a clone's champion."""

import logging
import os
import re
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

import click
from bentoml._internal.configuration.containers import BentoMLContainer

from ocr_ops.core.attestation import Place
from ocr_ops.core.errors import NotProven, OcrOpsError, PortOccupied, UsageError
from ocr_ops.core.keys import absent
from ocr_ops.core.record import short
from ocr_ops.core.release import RELEASE_FILE, Release, ReleaseManifest
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.spec import Task
from ocr_ops.core.workspace import Workspace
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.cpu import cpu_share, thread_count
from ocr_ops.runtime.session import AUTO, PROVIDER_VARIABLE, Session, name_of, usable

UNATTESTED = "OCR_OPS_UNATTESTED"
"""`warn` (unless set) or `refuse`: whether to serve where the release was never admitted."""

log = logging.getLogger("bentoml.ocr_ops")

_SOURCE = Path(__file__).resolve().parent.parent


def open_champion() -> Release:
    """Opens and verifies it; errors as `Release.open`."""
    return Release.open(_workspace().champion)


def serving() -> ServingSettings:
    """How it is served, which decorators ask at import; a wrong file ends the process with one line."""
    workspace = _workspace()
    try:
        release = ReleaseManifest.from_file(workspace.champion / RELEASE_FILE).digest
    except OcrOpsError:
        return ServingSettings()  # there is nothing to serve, as `require_champion` says
    try:
        return ServingSettings.read(workspace, release)
    except OcrOpsError as error:
        end(error)


def require_champion() -> None:
    """Ends the process with one line when there is nothing to serve, or not so, before any worker starts."""
    try:
        serving().tuned(open_champion())
    except OcrOpsError as error:
        end(error)


def require_attested() -> None:
    """Ends the process with one line where the release may not serve unattested, before any worker starts."""
    if choice(UNATTESTED, "warn", "refuse") == "warn":
        return
    try:
        release = open_champion()
        for bundle in (release.detection, release.recognition):
            # Only a session knows its provider: the best one on offer need not take the graph.
            place = Place.here(name_of(Session(bundle, threads=1).provider))
            if not release.attested_at(bundle.manifest.task, place):
                raise _unattested(release, bundle.manifest.task, place)
    except OcrOpsError as error:
        end(error)


@cache
def require_provider() -> None:
    """Ends the process with one line where the provider that is named does not work here, before any worker starts.

    A process of its own tries: this one would hold a GPU's memory for as long as the server runs.
    """
    if os.environ.get(PROVIDER_VARIABLE) in {None, "", AUTO, "cpu"}:
        return
    code = "from bentos.champion import try_provider; try_provider()"
    if failed := subprocess.run([sys.executable, "-c", code], cwd=_SOURCE, check=False).returncode:
        raise SystemExit(failed)


def try_provider() -> None:
    """Ends the process with one line where the provider that is named does not work here."""
    try:
        usable(os.environ[PROVIDER_VARIABLE])
    except OcrOpsError as error:
        end(error)


def attested(release: Release, task: Task, provider: str) -> bool:
    """Whether the release was admitted on this CPU's instructions and provider; if not, log and metric say so."""
    place = Place.here(name_of(provider))
    known = release.attested_at(task, place)
    telemetry.model_attested(task, provider, attested=known)
    if not known:
        log.warning("unattested: %s", _unattested(release, task, place))
    return known


def asked_address() -> tuple[str, int]:
    """Where `bentoml serve` is about to listen: as it was told, or as it is configured."""
    context = click.get_current_context(silent=True)
    asked = context.params if context else {}
    configured = BentoMLContainer.http
    return str(asked.get("host") or configured.host.get()), int(asked.get("port") or configured.port.get())


def default_host() -> str:
    """Where `bentoml serve` listens unless it is told: on loopback while there is no key, except in a container."""
    if "BENTOML_CONTAINERIZED" in os.environ or os.environ.get("OCR_OPS_JWT_ISSUER"):
        return "0.0.0.0"  # noqa: S104  with a key, or not at all: `auth.require_access` sees to it
    return "127.0.0.1" if absent(Workspace.current().api_keys) else "0.0.0.0"  # noqa: S104


def require_port() -> None:
    """Ends the process with one line when the address `bentoml serve` is about to listen on is taken."""
    host, port = asked_address()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server itself will bind it: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            end(PortOccupied(f"{host}:{port}", found, "a free address", "stop what listens there, or pass --port"))


def workers(service: str) -> int:
    """How many workers a service has here: `ServingSettings.workers_on`."""
    return serving().workers_on(thread_count())[service]


def model_threads(settings: ServingSettings, workers: int) -> int:
    """Threads for a model in each of its `workers`: an even part of the CPU share.

    Either model may have all of it: what the one has to do and what the other has is never half and half, and a core
    that waits for a thread is lost. None of them spins, so a thread with nothing to do costs nothing.
    """
    return settings.threads or max(1, int(cpu_share() / workers))


def setting(name: str, default: int, least: int = 1) -> int:
    """A whole number from the environment; anything else ends the process with one line."""
    value = os.environ.get(name, str(default))
    if not (value.isascii() and value.isdigit() and int(value) >= least):
        end(UsageError(name, repr(value), f"a whole number from {least}", "correct the variable"))
    return int(value)


def switch(name: str) -> bool:
    """A switch from the environment, on unless it is `off`; anything else ends the process with one line."""
    return choice(name, "on", "off") == "on"


def choice(name: str, default: str, *others: str) -> str:
    """One of some words from the environment; anything else ends the process with one line."""
    value = os.environ.get(name, default)
    if value not in (default, *others):
        end(UsageError(name, repr(value), " or ".join((default, *others)), "correct the variable"))
    return value


def apart(name: str) -> str | None:
    """Where a model is deployed that is not beside the gateway; what is no URL ends the process with one line."""
    url = os.environ.get(name) or None
    if url is not None and not re.fullmatch(r"https?://\S+", url):
        end(UsageError(name, repr(url), "an http or https URL, such as http://detection:3001", "correct the variable"))
    return url


def secret(name: str) -> str | None:
    """A value from the environment, or from the file that `NAME_FILE` names, as containers are handed theirs.

    None without either; a file that cannot be read, or both, ends the process with one line.
    """
    value, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value and file:
        end(UsageError(name, f"set, and {name}_FILE too", "one of them", "unset the other"))
    if not file:
        return value or None
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "no text"
        end(UsageError(f"{name}_FILE", f"{file}: {found}", "a file with the value", "correct the path"))
    if not text:
        end(UsageError(f"{name}_FILE", f"{file}: empty", "a file with the value", "write it there"))
    return text


def _workspace() -> Workspace:
    # A Bento is a promise: it serves what it carries, wherever it is started and whatever OCR_OPS_HOME says.
    carried = (_SOURCE.parent / "bento.yaml").is_file()
    return Workspace(_SOURCE / ".ocr-ops") if carried else Workspace.current()


def _unattested(release: Release, task: Task, place: Place) -> NotProven:
    known = "; ".join(str(one.place) for one in release.attested.attestations if one.task == task) or "nowhere yet"
    return NotProven(
        f"{task} of release {short(release.digest)}",
        f"never admitted on {place}",
        f"one of the places it was: {known}",
        f"run `ocr-ops attest` on this machine; {UNATTESTED}=warn serves all the same, refuse does not",
    )


def end(error: OcrOpsError) -> NoReturn:
    """Ends the process with one line and the error's exit code."""
    print(f"error: {error}", file=sys.stderr)  # noqa: T201  the log is no place for last words
    raise SystemExit(error.exit_code)
