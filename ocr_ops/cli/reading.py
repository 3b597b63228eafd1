"""The commands that look: read and doctor."""

import json
from pathlib import Path

import click

from ocr_ops.cli.options import (
    cli,
    json_option,
    print_rows,
)
from ocr_ops.core.errors import ExitCode, OcrOpsError, UnreadableDocument
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace


@cli.command()
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def read(paths: tuple[Path, ...], form: str) -> None:
    r"""Read images and PDFs with the champion, in this process.

    A file that cannot be read gets its line on stderr, and the others are still read.

    \b
    Example: ocr-ops read receipt.jpg invoice.pdf --format json
    """
    from ocr_ops.runtime.pipeline import Reader

    reader = Reader(Release.open(Workspace.current().champion))
    failed: ExitCode | None = None
    for path in paths:
        try:
            reading = reader.read(_bytes(path), str(path))
        except OcrOpsError as error:
            click.echo(f"ocr-ops: {error}", err=True)
            failed = failed or error.exit_code
            continue
        if form == "json":
            line = {"path": str(path), **reading.model_dump(mode="json")}
            click.echo(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
        else:
            click.echo(reading.text)
    if failed is not None:
        raise SystemExit(failed)


@cli.command()
@json_option
def doctor(*, as_json: bool) -> None:
    r"""Say what of the machine, the packages and the workspace is in order, and what to do about the rest.

    \b
    Example: ocr-ops doctor
    """
    from ocr_ops.doctor import examine

    findings = examine(Workspace.current())
    print_rows(
        [{"check": f.name, "state": f.state, "found": f.found, "remedy": f.remedy} for f in findings], as_json=as_json
    )
    if any(f.state == "missing" for f in findings):
        raise SystemExit(ExitCode.OUTSIDE)


def _bytes(path: Path) -> bytes:
    """The bytes of a document; `UnreadableDocument` for what is no readable file, or too large to be looked at."""
    from ocr_ops.runtime.documents import LIMITS

    try:
        size = path.stat().st_size
        if size > LIMITS.max_bytes:
            found, expected = f"{size:,} bytes", f"at most {LIMITS.max_bytes:,}"
            raise UnreadableDocument(path, found, expected, "split it, or save it smaller", 413)
        return path.read_bytes()
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise UnreadableDocument(path, found, "a readable image or PDF", "check the path") from None
