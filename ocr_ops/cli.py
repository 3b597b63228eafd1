"""`ocr-ops`: one thin subcommand a stage. Each parses, calls one function, prints the artefact, exits with its code.

stdout carries the artefact, stderr the progress. Imports wait inside the commands: `ocr-ops --help` and `ocr-ops
read` must not pay for torch or MLflow.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ocr_ops import __version__
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import ExitCode, OcrOpsError, UnreadableDocument
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.core.verdict import require_pass
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.release.promote import Promotion

MODELS = (Path("models/detection-tiny"), Path("models/recognition-tiny"))

F = TypeVar("F", bound=Callable[..., Any])

_positive = click.FloatRange(min=0, min_open=True)
_folder = click.Path(path_type=Path, file_okay=False)
_file = click.Path(path_type=Path, dir_okay=False)


def _json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")(command)


def _policy_option(command: F) -> F:
    return click.option("--policy", "policy_file", type=_file, help="Policy in TOML; built-in defaults without it.")(
        command
    )


def _data_option(command: F) -> F:
    text = "Folder of labelled pages; pages rendered here without it."
    return click.option("--data", type=_folder, help=text)(command)


def _receipt_option(command: F) -> F:
    return click.option("--receipt", type=_file, help="Where its receipt lies, if not in the workspace.")(command)


def _reason_option(command: F) -> F:
    return click.option("--reason", default="unstated", show_default=True, help="Why; kept in the ledger.")(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="ocr-ops")
def cli() -> None:
    r"""Take OCR models from training output to a promoted, monitored service.

    \b
    Example:
      ocr-ops release                 the whole chain, on the models this repository ships
      ocr-ops read receipt.jpg        read a file with the promoted release

    Exit codes: 0 pass, 1 gate failed, 2 usage, 3 inconclusive or invalid, 4 bad input, 5 outside system.
    """


@cli.command()
@click.argument("model", type=_folder)
@click.option("--minutes", type=_positive, help="Stop after so long; the next call resumes.")
@click.option("--horizon", type=_positive, help="End the schedule after so many minutes, not after the recipe's steps.")
@click.option("--real", type=_folder, help="Folder of real line crops with labels.tsv, mixed in (case-folded).")
@click.option("--fresh", is_flag=True, help="Start over instead of resuming the run of that name.")
@click.option("--publish", is_flag=True, help="Put the best weights so far into the model's folder.")
@_json_option
def train(
    model: Path,
    minutes: float | None,
    horizon: float | None,
    real: Path | None,
    *,
    fresh: bool,
    publish: bool,
    as_json: bool,
) -> None:
    r"""Train a model, or go on where its run stopped; the run is logged in MLflow.

    \b
    Example: ocr-ops train models/recognition-tiny --minutes 30 --publish
    """
    from ocr_ops.registry import Registry
    from ocr_ops.train.fit import fit

    workspace = Workspace.current()
    registry = Registry.open(workspace)
    made = fit(model, workspace.runs, minutes=minutes, horizon=horizon, real=real, fresh=fresh, publish=publish)
    folder = workspace.runs / made.model
    run = registry.log_training(model, folder)
    _print([{"folder": str(folder), "mlflow run": run, "step": made.step, **made.figures}], as_json=as_json)


@cli.command()
@click.argument("model", type=_folder)
@click.option("--trials", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--minutes", type=_positive, default=1.0, show_default=True, help="Training time of a trial.")
@click.option("--real", type=_folder, help="Folder of real line crops with labels.tsv, mixed in (case-folded).")
def tune(model: Path, trials: int, minutes: float, real: Path | None) -> None:
    r"""Search learning rate, width and augmentation with Optuna; prints the best settings as JSON.

    \b
    Example: ocr-ops tune models/recognition-tiny --trials 8 --minutes 2
    """
    from ocr_ops.train.tune import tune as search

    click.echo(json.dumps(search(model, Workspace.current().home, trials=trials, minutes=minutes, real=real)))


@cli.command()
@click.argument("models", type=_folder, nargs=-1, required=True)
@_json_option
def register(models: tuple[Path, ...], *, as_json: bool) -> None:
    r"""Register training outputs in MLflow; a known one keeps its version.

    \b
    Example: ocr-ops register models/detection-tiny models/recognition-tiny
    """
    from ocr_ops.registry import Registry

    registry = Registry.open(Workspace.current())
    versions = [registry.register(folder) for folder in models]
    rows = [{"model": v.name, "version": v.version, "digest": v.digest, "run": v.run_id} for v in versions]
    _print(rows, as_json=as_json)


@cli.command()
@click.argument("model", type=_folder)
@_json_option
def export(model: Path, *, as_json: bool) -> None:
    r"""Export a training output to an ONNX bundle, parity with torch proven.

    \b
    Example: ocr-ops export models/detection-tiny
    """
    from ocr_ops.release.chain import exported

    bundle, _ = exported(model, Workspace.current())
    _print([_bundle_row(bundle)], as_json=as_json)


@cli.command()
@click.argument("bundle", type=_folder)
@click.option("--data", type=_folder, help="Folder of labelled pages to calibrate on; rendered ones without it.")
@_json_option
def quantize(bundle: Path, data: Path | None, *, as_json: bool) -> None:
    r"""Make the static INT8 variant of a float bundle.

    \b
    Example: ocr-ops quantize .ocr-ops/bundles/detection-tiny-fp32
    """
    from ocr_ops.data.pages import read_pages
    from ocr_ops.release.chain import calibration_pages, quantized

    workspace = Workspace.current()
    parent = ModelBundle.open(bundle)
    pages = read_pages(data) if data else calibration_pages(workspace)
    made, _ = quantized(parent, pages, workspace)
    _print([_bundle_row(made)], as_json=as_json)


@cli.command()
@click.argument("subjects", type=_folder, nargs=-1)
@_data_option
@click.option("--pages", "count", type=click.IntRange(min=1), help="Only the first N pages.")
@_policy_option
@_json_option
def bench(
    subjects: tuple[Path, ...], data: Path | None, count: int | None, policy_file: Path | None, *, as_json: bool
) -> None:
    r"""Measure accuracy and cost: of variants of one model, the float bundle first, or of a release end to end.

    Without a subject, the champion.

    \b
    Example: ocr-ops bench --data DIR
             ocr-ops bench .ocr-ops/bundles/detection-tiny-fp32 .ocr-ops/bundles/detection-tiny-int8
    """
    from ocr_ops.data.pages import read_pages
    from ocr_ops.release.chain import bench_pages, benchmarked, benchmarked_whole

    workspace, policy = Workspace.current(), Policy.read(policy_file)
    pages = (read_pages(data) if data else bench_pages(workspace)).head(count)
    folders = subjects or (workspace.champion,)
    if len(folders) == 1 and not (folders[0] / "manifest.json").is_file():
        report, _ = benchmarked_whole(Release.open(folders[0]), pages, policy, workspace)
        reports = [report]
    else:
        reports, _ = benchmarked([ModelBundle.open(folder) for folder in folders], pages, policy, workspace)
    _print([_report_row(report) for report in reports], as_json=as_json)
    require_pass("bench", [check for report in reports for check in report.checks])


@cli.command()
@click.option("--detection", type=_folder, help="Bundle; the best variant benchmarked here without it.")
@click.option("--recognition", type=_folder, help="Bundle; the best variant benchmarked here without it.")
@_json_option
def package(detection: Path | None, recognition: Path | None, *, as_json: bool) -> None:
    r"""Pair two bundles into a release, register it as `ocr`, and build its Bento.

    \b
    Example: ocr-ops package
    """
    from ocr_ops.registry import Registry
    from ocr_ops.release.chain import best_variant, paired, registered
    from ocr_ops.release.package import package as build

    workspace = Workspace.current()
    made = paired(
        ModelBundle.open(detection) if detection else best_variant("detection", workspace),
        ModelBundle.open(recognition) if recognition else best_variant("recognition", workspace),
        workspace,
    )
    version = registered(Registry.open(workspace), made, workspace)
    packed = build(made, workspace)
    row = {"release": str(made.path), "digest": made.digest, "bento": packed.tag, "version": version.version}
    _print([row], as_json=as_json)


@cli.command()
@click.argument("release_dir", metavar="[RELEASE]", type=_folder, required=False)
@_data_option
@_policy_option
@_json_option
def gate(release_dir: Path | None, data: Path | None, policy_file: Path | None, *, as_json: bool) -> None:
    r"""Serve a release, put load on it with Locust, judge the raw samples, and sign a receipt.

    Without RELEASE, the newest packaged one (the registry's `candidate`).

    \b
    Example: ocr-ops gate .ocr-ops/releases/0123456789ab
    """
    from ocr_ops.data.pages import read_pages
    from ocr_ops.registry import Registry
    from ocr_ops.release.chain import bench_pages, candidate, gated, receipt
    from ocr_ops.release.package import package

    workspace, policy = Workspace.current(), Policy.read(policy_file)
    registry = Registry.open(workspace)
    made = Release.open(release_dir) if release_dir else candidate(registry, workspace)
    pages = read_pages(data) if data else bench_pages(workspace)
    report, _ = gated(made, package(made, workspace), pages, policy, workspace)
    path, digest = receipt(registry, made, report, policy, workspace)
    _print([_report_row(report) | {"receipt": str(path), "receipt digest": digest}], as_json=as_json)
    require_pass("load gate", report.checks)


@cli.command()
@click.option("--version", type=int, help="Version of the registered model `ocr`; the candidate without it.")
@click.option("--digest", help="The release's digest, instead of its version.")
@_receipt_option
@_reason_option
@_json_option
def promote(version: int | None, digest: str | None, receipt: Path | None, reason: str, *, as_json: bool) -> None:
    r"""Move the `champion` alias; refused without a passing receipt for exactly these digests.

    \b
    Example: ocr-ops promote --reason "faster detector"
    """
    from ocr_ops.registry import Registry
    from ocr_ops.release.promote import promote as move

    workspace = Workspace.current()
    registry = Registry.open(workspace)
    moved = move(registry, workspace, digest=digest, version=version, receipt=receipt, reason=reason)
    _print([_moved(moved)], as_json=as_json)


@cli.command()
@_receipt_option
@_reason_option
@_json_option
def rollback(receipt: Path | None, reason: str, *, as_json: bool) -> None:
    r"""Return `champion` to `previous`.

    \b
    Example: ocr-ops rollback --reason "words lost on invoices"
    """
    from ocr_ops.registry import Registry
    from ocr_ops.release.promote import rollback as move

    workspace = Workspace.current()
    moved = move(Registry.open(workspace), workspace, receipt=receipt, reason=reason)
    _print([_moved(moved)], as_json=as_json)


@cli.command()
@_receipt_option
@click.option("--force", is_flag=True, help="Do without a receipt; the ledger shows that there was none.")
@_json_option
def pull(receipt: Path | None, *, force: bool, as_json: bool) -> None:
    r"""Fetch what the `champion` alias names now: after someone moved it in the MLflow UI.

    \b
    Example: ocr-ops pull && bentoml serve .
    """
    from ocr_ops.registry import Registry
    from ocr_ops.release.promote import pull as fetch

    workspace = Workspace.current()
    moved = fetch(Registry.open(workspace), workspace, receipt=receipt, force=force)
    _print([_moved(moved)], as_json=as_json)


@cli.command()
@_json_option
def history(*, as_json: bool) -> None:
    r"""Print the ledger: who moved what, from where to where, why, on which receipts.

    \b
    Example: ocr-ops history --json
    """
    from ocr_ops.release.promote import history as entries

    rows = [
        {"entry": entry.sequence, **entry.move.model_dump(mode="json", exclude={"schema_version"})}
        for entry in entries(Workspace.current())
    ]
    if not as_json:
        rows = [
            {key: short(value) if "digest" in key and value else value for key, value in row.items()} for row in rows
        ]
    _print(rows, as_json=as_json)


@cli.command()
@click.option("--slo", type=_file, default=Path("monitoring/slo.toml"), show_default=True)
@click.option("--out", type=_folder, default=Path("monitoring"), show_default=True)
@click.option("--check", is_flag=True, help="Write nothing: hold what is there against the SLO file and promtool.")
def rules(slo: Path, out: Path, *, check: bool) -> None:
    r"""Generate alert rules, their tests, the dashboard and a Prometheus configuration from the SLO file.

    \b
    Example: ocr-ops rules --check
    """
    from ocr_ops.monitor.generate import check as hold
    from ocr_ops.monitor.generate import generate
    from ocr_ops.monitor.slo import SloFile

    objectives = SloFile.read(slo)
    if check:
        hold(objectives, out)
    else:
        for path in generate(objectives, out):
            click.echo(path)


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
@_json_option
def doctor(*, as_json: bool) -> None:
    r"""Say what of the machine, the packages and the workspace is in order, and what to do about the rest.

    \b
    Example: ocr-ops doctor
    """
    from ocr_ops.doctor import examine

    findings = examine(Workspace.current())
    _print(
        [{"check": f.name, "state": f.state, "found": f.found, "remedy": f.remedy} for f in findings], as_json=as_json
    )
    if any(f.state == "missing" for f in findings):
        raise SystemExit(ExitCode.OUTSIDE)


@cli.command()
@click.argument("models", type=_folder, nargs=-1)
@_data_option
@_policy_option
@_json_option
def release(models: tuple[Path, ...], data: Path | None, policy_file: Path | None, *, as_json: bool) -> None:
    r"""The whole chain: register, export, quantize, bench, choose, package, gate, promote, rules.

    Stages whose result is already there for the same digests are not done again.

    \b
    Example: ocr-ops release models/detection-tiny models/recognition-tiny
    """
    from ocr_ops.data.pages import read_pages
    from ocr_ops.release.chain import bench_pages
    from ocr_ops.release.chain import release as run

    workspace = Workspace.current()
    rows = []
    for stage in run(models or MODELS, workspace, Policy.read(policy_file), data):
        row = {
            "stage": stage.name,
            "artefact": stage.artefact,
            "digest": stage.digest if as_json else short(stage.digest),
            "verdict": stage.verdict,
            "took": "kept" if stage.reused else f"{stage.seconds:.1f} s",
        }
        rows.append(row)
    _print(rows, as_json=as_json)
    pages = read_pages(data) if data else bench_pages(workspace)
    example, program = shown(pages.folder / pages.pages[0].image), shown(Path(sys.argv[0]))
    port = os.environ.get("PORT", "3000")
    lines = (
        "",
        "Read a file now:",
        f"  {program} read {example}",
        "Serve it with `make serve`, and when it is up:",
        f"  curl -F file=@{example} http://localhost:{port}/v1/ocr",
    )
    click.echo("\n".join(lines), err=as_json)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: errors become one line on stderr and an exit code."""
    try:
        cli.main(arguments, prog_name="ocr-ops", standalone_mode=False)
    except OcrOpsError as error:
        click.echo(f"ocr-ops: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        click.echo("ocr-ops: interrupted; run it again to go on", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if os.environ.get("OCR_OPS_DEBUG"):
            raise
        kind = f"{type(error).__module__}.{type(error).__name__}"
        click.echo(f"ocr-ops: a defect of ocr-ops itself: {kind}: {error}; OCR_OPS_DEBUG=1 shows where", err=True)
        sys.exit(70)


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


def _print(rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
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
        group.append([f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()])
    _table(heads, group)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _bundle_row(bundle: ModelBundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {"bundle": str(bundle.path), "precision": manifest.precision, "digest": bundle.digest, **manifest.facts}


def _report_row(report: Report) -> dict[str, Any]:
    return {"subject": report.name, **report.metrics, "verdict": str(report.verdict)}


def _moved(move: "Promotion") -> dict[str, Any]:
    return {
        "champion": str(move.version),
        "digest": move.version.digest,
        "moved from": move.entry.move.from_version if move.entry else "nothing moved",
    }
