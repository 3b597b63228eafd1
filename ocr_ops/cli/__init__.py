"""`ocr-ops`: one thin subcommand a stage. Each parses, calls one function, prints the artefact, exits with its code.

stdout carries the artefact, stderr the progress. Imports wait inside the commands: `ocr-ops --help` and `ocr-ops
read` must not pay for torch or MLflow.
"""

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from ocr_ops.cli import auditing, data, importing, keys, measure, models, optimizing, reading, releases, searching
from ocr_ops.cli.options import ReaderGone, cli
from ocr_ops.core.errors import ExitCode, OcrOpsError
from ocr_ops.core.workspace import printable

__all__ = [
    "auditing",
    "cli",
    "data",
    "importing",
    "keys",
    "main",
    "measure",
    "models",
    "optimizing",
    "reading",
    "releases",
    "searching",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: errors become one line on stderr and an exit code."""
    atexit.register(gc.freeze)  # what is left goes with the process: after MLflow, to look through it takes a second
    try:
        cli.main(arguments, prog_name="ocr-ops", standalone_mode=False)
    except OcrOpsError as error:
        _say(printable(str(error)))
        _leave(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted; run it again to go on")
        _leave(130)
    except ReaderGone:
        _leave(141)  # there is nobody left to tell
    except Exception as error:
        if os.environ.get("OCR_OPS_DEBUG"):
            raise
        kind = f"{type(error).__module__}.{type(error).__name__}"
        _say(f"a defect of ocr-ops itself: {kind}: {error}; OCR_OPS_DEBUG=1 shows where")
        sys.exit(70)


def _say(line: str) -> None:
    with suppress(OSError):  # stderr may be as full as stdout
        click.echo(f"ocr-ops: {line}", err=True)


def _leave(code: int) -> NoReturn:
    """Ends the process without the documents that are still being read, for which `sys.exit` would wait. Nobody takes
    what they come to, and nothing is half-written: files are whole or not there.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python would try again at its end, and say so
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if reading.still_reads():
        os._exit(code)
    sys.exit(code)
