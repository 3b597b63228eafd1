"""What commands share: the group, options, types, and how rows are printed."""

import errno
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from ocr_ops import __version__
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import OutsideSystem
from ocr_ops.core.report import Report

F = TypeVar("F", bound=Callable[..., Any])
_FULL = (errno.ENOSPC, errno.EDQUOT)

POSITIVE = click.FloatRange(min=0, min_open=True)
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")(command)


def policy_option(command: F) -> F:
    return click.option("--policy", "policy_file", type=FILE, help="Policy in TOML; built-in defaults without it.")(
        command
    )


def data_option(command: F) -> F:
    text = "Folder of labelled pages; pages rendered here without it."
    return click.option("--data", type=click.Path(path_type=Path), help=text)(command)


def receipt_option(command: F) -> F:
    return click.option("--receipt", type=FILE, help="Where its receipt lies, if not in the workspace.")(command)


def reason_option(command: F) -> F:
    return click.option("--reason", default="unstated", show_default=True, help="Why; kept in the ledger.")(command)


class Command(click.Command):
    """Its help is a raw docstring, in which click's mark for lines that stay as they are is two characters."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.help = (self.help or "").replace(r"\b", "\b")


class ReaderGone(Exception):  # noqa: N818  nobody is there to be told of an error
    """Whoever read our output went away (`| head`)."""


@contextmanager
def _piped() -> Iterator[None]:
    """Click would end with code 1 for it, which is that of a gate. A full disk, under what is printed or anything else
    that is written, is no defect of ours.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        found = (error.strerror or str(error)).lower()
        raise OutsideSystem(
            error.filename or "output", found, "room for it", "make room, or choose another place"
        ) from None


class Group(Command, click.Group):
    """Commands, and groups of them, whose examples keep their lines."""

    command_class = Command
    group_class = type

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        with _piped():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _piped():
            return super().invoke(ctx)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ocr-ops")
def cli() -> None:
    r"""Take OCR models from training output to a promoted, monitored service.

    \b
    Example:
      ocr-ops release                 the whole chain, on the models this repository ships
      ocr-ops read receipt.jpg        read a file with the promoted release

    Exit codes: 0 pass, 1 gate failed, 2 usage, 3 inconclusive or invalid, 4 bad input, 5 outside system.
    """


def print_rows(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """A table, or one JSON object a line. Rows of unlike keys start a new table."""
    heads: list[str] = []
    group: list[list[str]] = []
    for row in rows:
        if as_json:
            click.echo(json.dumps(row, ensure_ascii=False))
            continue
        if list(row) != heads:
            _table(heads, group)
            heads, group = list(row), []
        group.append([_cell(value) for value in row.values()])
    _table(heads, group)


def _cell(value: Any) -> str:
    if value is None:  # not measured
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def bundle_row(bundle: ModelBundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {"bundle": str(bundle.path), "precision": manifest.precision, "digest": bundle.digest, **manifest.facts}


def report_row(report: Report) -> dict[str, Any]:
    return {"subject": report.name, **report.metrics, "verdict": str(report.verdict)}
