"""The commands that make models: train, prune, tune, register, export."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocr_ops.cli.options import (
    FOLDER,
    POSITIVE,
    F,
    bundle_row,
    cli,
    json_option,
    print_rows,
)
from ocr_ops.core.spec import WEIGHTS_FILE, ModelSpec
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.registry import Registry


def _material_options(command: F) -> F:
    lines = "Folder of labelled line crops, mixed in; may be given several times."
    pages = "Folder of labelled pages, mixed in; may be given several times."
    corpus = "Folder of .txt files the renderer takes its words from."
    backgrounds = "Folder of images of empty paper the renderer writes on."
    options = (("--backgrounds", backgrounds), ("--corpus", corpus), ("--pages", pages), ("--lines", lines))
    for name, text in options:
        several = text.endswith("several times.")
        command = click.option(name, type=FOLDER, multiple=several, help=text)(command)
    return command


@cli.command()
@click.argument("model", type=FOLDER, required=False)
@click.option(
    "--from", "source", type=FOLDER, help="Go on from this model folder's weights; with --data, fine-tune them."
)
@click.option(
    "--data", type=FOLDER, help="Your labelled lines (pages for a detector): all it learns beside rendered ones."
)
@click.option(
    "--teacher", type=FOLDER, help="A better model to learn from beside the labels: a bundle or a model folder."
)
@click.option(
    "--along",
    type=FOLDER,
    multiple=True,
    help="Another model that learns from the same batches, taught by MODEL; may be given several times.",
)
@click.option("--name", help="With --from: the new model's name, beside its source, in place of MODEL.")
@click.option(
    "--steps", type=click.IntRange(min=1), help="With --from: how long; the recipe of MODEL says it otherwise."
)
@click.option("--minutes", type=POSITIVE, help="Stop after so long; the next call resumes.")
@click.option("--horizon", type=POSITIVE, help="End the schedule after so many minutes, not after the recipe's steps.")
@click.option("--evaluate-every", type=click.IntRange(min=1), help="Steps between evaluations; else 4 minutes.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@_material_options
@click.option("--fresh", is_flag=True, help="Start over instead of resuming the run of that name.")
@click.option(
    "--publish", is_flag=True, help="Put the best weights into MODEL's folder, with --from even if they hurt."
)
@click.option("--no-mlflow", is_flag=True, help="Keep the run folder only; `ocr-ops register` takes it later.")
@json_option
def train(
    *,
    model: Path | None,
    source: Path | None,
    data: Path | None,
    teacher: Path | None,
    along: tuple[Path, ...],
    name: str | None,
    steps: int | None,
    minutes: float | None,
    horizon: float | None,
    evaluate_every: int | None,
    device: str,
    lines: tuple[Path, ...],
    pages: tuple[Path, ...],
    corpus: Path | None,
    backgrounds: Path | None,
    fresh: bool,
    publish: bool,
    no_mlflow: bool,
    as_json: bool,
) -> None:
    r"""Train a model, or go on where its run stopped; the run is logged in MLflow.

    With --from, MODEL starts from another model's weights, and may be wider, deeper, or have more characters. With
    --from and --data these weights are fine-tuned instead, judged on documents kept apart, and put into MODEL's folder
    when that helped (exit code 0; 1 when it hurt, 3 when neither is shown).

    \b
    Example: ocr-ops train models/recognition-tiny --minutes 30 --publish
             ocr-ops train models/recognition-small --from models/recognition-tiny --lines DIR --publish
             ocr-ops train models/recognition-tiny --teacher models/recognition-small --lines DIR --publish
             ocr-ops train models/recognition-small --along models/recognition-tiny --lines DIR --publish
             ocr-ops train --from models/recognition-tiny --data my-lines --name my-reader
             torchrun --nproc-per-node 2 --no-python ocr-ops train models/recognition-tiny
    """
    from ocr_ops.train.devices import rank
    from ocr_ops.train.fit import fit
    from ocr_ops.train.material import Material

    workspace = Workspace.current()
    registry = None if no_mlflow or rank() else _registry(workspace)
    material = Material(lines, pages, corpus, backgrounds)
    if source is None or data is None:
        if model is None or name or steps:
            raise click.UsageError("give MODEL; --name and --steps go with --from and --data")
        if data and ModelSpec.read(model).task == "recognition":
            material = replace(material, lines=(data, *lines))
        elif data:
            material = replace(material, pages=(data, *pages))
        made = fit(
            model,
            workspace.runs,
            minutes=minutes,
            horizon=horizon,
            evaluate_steps=evaluate_every,
            device=device,
            material=material,
            source=source,
            teacher=teacher,
            along=along,
            fresh=fresh,
            publish=publish,
        )
        judgement = None
        rows: dict[Path, dict[str, Any]] = {
            workspace.runs / one.model: {"step": one.step, **one.figures} for one in made
        }
    else:
        if along or (model is None) == (name is None):
            raise click.UsageError("--from with --data needs MODEL or --name, and takes no --along")
        if horizon or evaluate_every:
            raise click.UsageError("--horizon and --evaluate-every do not go with --from: it counts steps")
        from ocr_ops.train.finetune import finetune

        tuned = finetune(
            source,
            data,
            model or source.parent / str(name),
            workspace.runs,
            material=material,
            steps=steps,
            minutes=minutes,
            device=device,
            teacher=teacher,
            fresh=fresh,
            publish=publish,
        )
        judgement = tuned.judgement
        own = judgement.own
        row: dict[str, Any] = {"published": shown(tuned.model) if tuned.published else "no", "verdict": judgement.words}
        row |= {"before": own.before, "after": own.after, "low": own.low, "high": own.high}
        rows = {tuned.run: row}
    if rank():
        return
    logged = {folder: registry.log_training(folder, folder) if registry else "none" for folder in rows}
    print_rows(
        [{"folder": str(folder), "mlflow run": logged[folder], **row} for folder, row in rows.items()], as_json=as_json
    )
    if registry is None:
        click.echo(f"not in MLflow yet: ocr-ops register {' '.join(shown(folder) for folder in rows)}", err=True)
    if judgement:
        click.echo(str(judgement), err=True)
        judgement.require(next(iter(rows)))


@cli.command()
@click.argument("source", type=FOLDER)
@click.option("--name", required=True, help="The smaller model's name; its folder is made beside SOURCE.")
@click.option(
    "--keep", type=click.FloatRange(0, 1, min_open=True), default=0.75, show_default=True, help="Share of channels."
)
@json_option
def prune(*, source: Path, name: str, keep: float, as_json: bool) -> None:
    r"""Make a smaller model of a trained one: the channels that say least leave it. Train it on from there.

    \b
    Example: ocr-ops prune models/recognition-small --name recognition-lean --keep 0.75
             ocr-ops train models/recognition-lean --from models/recognition-lean --teacher models/recognition-small
    """
    from ocr_ops.train import prune as pruning

    made = pruning.prune(source, source.parent / name, keep)
    row = {"model": shown(made.model), "parameters": made.after, "before": made.before}
    row |= {key: str(value) for key, value in made.spec.network.items() if key != "kind"}
    print_rows([row], as_json=as_json)


def _registry(workspace: Workspace) -> "Registry | None":
    """The registry, or none, said so, where MLflow is not installed."""
    from ocr_ops.registry import Registry

    if Registry.installed():
        return Registry.open(workspace)
    click.echo("MLflow is not installed here: the run folder keeps everything for `ocr-ops register`", err=True)
    return None


@cli.command()
@click.argument("model", type=FOLDER)
@click.option("--trials", type=click.IntRange(min=1), default=12, show_default=True, help="To add to the study.")
@click.option("--steps", type=click.IntRange(min=3), default=600, show_default=True, help="Of a trial's training.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--study", help="Name of the study; the model's unless told.")
@click.option("--storage", help="Database all workers share; else OCR_OPS_STUDY_URL, else sqlite in the workspace.")
@_material_options
@click.option("--no-mlflow", is_flag=True, help="Keep the study in its database alone.")
@json_option
def tune(
    *,
    model: Path,
    trials: int,
    steps: int,
    workers: int,
    study: str | None,
    storage: str | None,
    lines: tuple[Path, ...],
    pages: tuple[Path, ...],
    corpus: Path | None,
    backgrounds: Path | None,
    no_mlflow: bool,
    as_json: bool,
) -> None:
    r"""Search width, resolution, learning rate and augmentation; prints the front of accuracy against CPU time.

    A study goes on where it stands; the same command on other machines with the same --storage works on it, too.
    Its picture and the front's specs, ready for `ocr-ops train`, are in the workspace and in MLflow.

    \b
    Example: ocr-ops tune models/recognition-tiny --trials 16 --workers 2
             ocr-ops train .ocr-ops/studies/recognition-tiny/trial-7
    """
    from ocr_ops.train.material import Material
    from ocr_ops.train.tune import search

    workspace = Workspace.current()
    found = search(
        model,
        workspace.home,
        trials=trials,
        steps=steps,
        workers=workers,
        study=study,
        storage=storage,
        material=Material(lines, pages, corpus, backgrounds),
        registry=None if no_mlflow else _registry(workspace),
    )
    print_rows([one.row for one in found.front], as_json=as_json)
    told = ", ".join(f"{count} {state}" for state, count in found.counts.items() if count)
    click.echo(f"{told}; mlflow run {found.run or 'none'}; see {shown(found.folder / 'study.png')}", err=True)


@cli.command()
@click.argument("models", type=FOLDER, nargs=-1, required=True)
@json_option
def register(models: tuple[Path, ...], *, as_json: bool) -> None:
    r"""Register training outputs in MLflow: model folders, or run folders, also from elsewhere. A known one keeps its
    version.

    \b
    Example: ocr-ops register models/detection-tiny models/recognition-tiny
             ocr-ops register .ocr-ops/runs/recognition-tiny
    """
    from ocr_ops.registry import Registry
    from ocr_ops.registry.training import METRICS_FILE

    registry = Registry.open(Workspace.current())
    for folder in models:
        if (folder / METRICS_FILE).is_file() and not (folder / WEIGHTS_FILE).is_file():
            from ocr_ops.train.fit import publish_best

            publish_best(folder, folder)  # a leg that was cut off never came to it
    versions = [registry.register(folder) for folder in models]
    rows = [{"model": v.name, "version": v.version, "digest": v.digest, "run": v.run_id} for v in versions]
    print_rows(rows, as_json=as_json)


@cli.command()
@click.argument("model", type=FOLDER)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Labelled pages for the proof; a few rendered ones without it."
)
@json_option
def export(model: Path, data: Path | None, *, as_json: bool) -> None:
    r"""Export a training output to an ONNX bundle, parity with torch proven.

    On the pages the text of every labelled line has to come out the same, and every box within a pixel.

    \b
    Example: ocr-ops export models/detection-tiny
             ocr-ops export models/recognition-small --data ../shared/data/sroie
    """
    from ocr_ops.data.pages import read_pages
    from ocr_ops.release.chain import exported

    pages = read_pages(data) if data else None
    bundle, reused = exported(model, Workspace.current(), pages)
    row = bundle_row(bundle)
    if reused and pages and (model / WEIGHTS_FILE).is_file():
        from ocr_ops.train.export import prove

        row |= prove(model, bundle, pages)
    print_rows([row], as_json=as_json)


@cli.command()
@click.argument("bundle", type=FOLDER)
@click.option("--provider", default="cpu", show_default=True, help="Whose graph to keep: cpu or cuda.")
@json_option
def prepare(bundle: Path, provider: str, *, as_json: bool) -> None:
    r"""Make a bundle that also carries its graph as optimised for this machine; other machines use the plain one.

    It loads with less work, and computes the same bit for bit. See docs/providers.md for what that saves: little.

    \b
    Example: ocr-ops prepare .ocr-ops/bundles/recognition-small-int8
    """
    from ocr_ops.core.bundle import ModelBundle
    from ocr_ops.optimize.prepare import prepared

    made = prepared(ModelBundle.open(bundle), bundle.with_name(bundle.name + "-prepared"), provider)
    print_rows([bundle_row(made)], as_json=as_json)
