"""The commands that make models: train, tune, register, export, quantize."""

import json
from pathlib import Path

import click

from ocr_ops.cli.options import (
    FOLDER,
    POSITIVE,
    bundle_row,
    cli,
    json_option,
    print_rows,
)
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.workspace import Workspace


@cli.command()
@click.argument("model", type=FOLDER)
@click.option("--minutes", type=POSITIVE, help="Stop after so long; the next call resumes.")
@click.option("--horizon", type=POSITIVE, help="End the schedule after so many minutes, not after the recipe's steps.")
@click.option("--real", type=FOLDER, help="Folder of real line crops with labels.tsv, mixed in (case-folded).")
@click.option("--fresh", is_flag=True, help="Start over instead of resuming the run of that name.")
@click.option("--publish", is_flag=True, help="Put the best weights so far into the model's folder.")
@json_option
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
    print_rows([{"folder": str(folder), "mlflow run": run, "step": made.step, **made.figures}], as_json=as_json)


@cli.command()
@click.argument("model", type=FOLDER)
@click.option("--trials", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--minutes", type=POSITIVE, default=1.0, show_default=True, help="Training time of a trial.")
@click.option("--real", type=FOLDER, help="Folder of real line crops with labels.tsv, mixed in (case-folded).")
def tune(model: Path, trials: int, minutes: float, real: Path | None) -> None:
    r"""Search learning rate, width and augmentation with Optuna; prints the best settings as JSON.

    \b
    Example: ocr-ops tune models/recognition-tiny --trials 8 --minutes 2
    """
    from ocr_ops.train.tune import tune as search

    click.echo(json.dumps(search(model, Workspace.current().home, trials=trials, minutes=minutes, real=real)))


@cli.command()
@click.argument("models", type=FOLDER, nargs=-1, required=True)
@json_option
def register(models: tuple[Path, ...], *, as_json: bool) -> None:
    r"""Register training outputs in MLflow; a known one keeps its version.

    \b
    Example: ocr-ops register models/detection-tiny models/recognition-tiny
    """
    from ocr_ops.registry import Registry

    registry = Registry.open(Workspace.current())
    versions = [registry.register(folder) for folder in models]
    rows = [{"model": v.name, "version": v.version, "digest": v.digest, "run": v.run_id} for v in versions]
    print_rows(rows, as_json=as_json)


@cli.command()
@click.argument("model", type=FOLDER)
@json_option
def export(model: Path, *, as_json: bool) -> None:
    r"""Export a training output to an ONNX bundle, parity with torch proven.

    \b
    Example: ocr-ops export models/detection-tiny
    """
    from ocr_ops.release.chain import exported

    bundle, _ = exported(model, Workspace.current())
    print_rows([bundle_row(bundle)], as_json=as_json)


@cli.command()
@click.argument("bundle", type=FOLDER)
@click.option("--data", type=FOLDER, help="Folder of labelled pages to calibrate on; rendered ones without it.")
@json_option
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
    print_rows([bundle_row(made)], as_json=as_json)
