"""The commands about the audit log: verify that it is whole, show what it holds."""

from collections import deque
from typing import Any

import click

from ocr_ops.cli.options import FOLDER, F, cli, json_option, print_rows
from ocr_ops.core.audit import AuditLog, Entry
from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import short
from ocr_ops.core.workspace import Workspace


def folder_option(command: F) -> F:
    text = "Where it lies, if not in the workspace or OCR_OPS_AUDIT_FOLDER."
    return click.option("--folder", type=FOLDER, help=text)(command)


def opened(folder: Any) -> AuditLog:
    """The log there: where there is none, nothing can be said of it, least of all that it is whole."""
    log = AuditLog(folder or Workspace.current().audit)
    if not log.folder.is_dir():
        raise BadRecord(log.folder, "no such folder", "an audit log", "check the path; a service makes it, or a key")
    return log


@cli.group()
def audit() -> None:
    r"""Who asked the service for what, and what came of it. docs/security.md tells what an entry holds.

    \b
    Example: ocr-ops audit verify
    """


@audit.command()
@folder_option
@json_option
def verify(*, folder: Any, as_json: bool) -> None:
    r"""Read the whole log; exit code 4 names the first line that is altered, removed, added or moved.

    \b
    Example: ocr-ops audit verify --json
    """
    log = opened(folder)
    sound = log.verify()
    row = {"entries": sound.entries, "first": sound.first, "last": sound.last, "torn_bytes": sound.torn}
    print_rows([{"folder": str(log.folder), **row}], as_json=as_json)


@audit.command()
@click.option("--caller", help="Only what this key, by its id, or subject did.")
@click.option("--document", help="Only what was done with the document of this digest.")
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many, the newest.")
@folder_option
@json_option
def show(*, caller: str | None, document: str | None, last: int, folder: Any, as_json: bool) -> None:
    r"""Print entries, each verified before it is shown.

    \b
    Example: ocr-ops audit show --caller k7Q2m9xD --last 100
    """
    log = opened(folder)
    found = (
        entry
        for entry in log.entries()
        if (caller is None or entry.event.caller == caller)
        and (document is None or any(document in digest for digest in entry.event.documents))
    )
    print_rows([_row(entry, whole=as_json) for entry in deque(found, maxlen=last)], as_json=as_json)


def _row(entry: Entry, *, whole: bool) -> dict[str, Any]:
    fields = entry.event.model_dump(mode="json")
    if not whole:
        fields["documents"] = ",".join(map(short, entry.event.documents)) or None
    return {"entry": entry.sequence, **fields}
