"""The commands that make a model cheaper and tell what that costs: quantize, sensitivity, invariance."""

from pathlib import Path
from typing import Any

import click

from ocr_ops.cli.options import FOLDER, bundle_row, cli, json_option, policy_option, print_rows
from ocr_ops.core.bundle import ModelBundle, Precision, Quantization
from ocr_ops.core.errors import UsageError
from ocr_ops.core.policy import Policy
from ocr_ops.core.verdict import require_pass
from ocr_ops.core.workspace import Workspace

SHORT: dict[str, Precision] = {"fp16": "fp16", "bf16": "bf16"}

calibration_option = click.option(
    "--calibration",
    type=click.Choice(["minmax", "entropy", "percentile"]),
    default="minmax",
    show_default=True,
    help="What of the values seen a scale covers.",
)
budget_option = click.option(
    "--budget", type=click.FloatRange(min=0), help="Loss that layers left in float bring it down to."
)
material_option = click.option(
    "--data", type=FOLDER, help="Labelled pages, or line crops of a recogniser, to calibrate on; rendered ones without."
)


@cli.command()
@click.argument("bundle", type=FOLDER)
@click.option("--method", type=click.Choice(["static", "dynamic", "fp16", "bf16"]), default="static", show_default=True)
@calibration_option
@click.option("--mixed", is_flag=True, help="Leave in float what `ocr-ops sensitivity` finds to hurt, and no more.")
@budget_option
@material_option
@click.option("--compare", is_flag=True, help="Try every calibration, judge on other pages, take the best.")
@click.option("--judge", type=FOLDER, help="With --compare: pages to judge by; else those of --data that are left.")
@policy_option
@json_option
def quantize(
    *,
    bundle: Path,
    method: str,
    calibration: Any,
    mixed: bool,
    budget: float | None,
    data: Path | None,
    compare: bool,
    judge: Path | None,
    policy_file: Path | None,
    as_json: bool,
) -> None:
    r"""Make a variant of a float bundle: static or dynamic INT8, FP16 or BF16.

    \b
    Example: ocr-ops quantize .ocr-ops/bundles/detection-tiny-fp32
             ocr-ops quantize .ocr-ops/bundles/recognition-tiny-fp32 --data my-pages --compare
             ocr-ops quantize .ocr-ops/bundles/recognition-tiny-fp32 --mixed --budget 0.002
    """
    from ocr_ops.optimize.calibration import read_material
    from ocr_ops.optimize.cast import lacking
    from ocr_ops.optimize.quantize import CAST, DYNAMIC
    from ocr_ops.release.chain import calibration_pages, quantized
    from ocr_ops.release.refine import sensed

    if (budget is not None and not mixed) or (judge and not compare) or (mixed and compare):
        expected = "--budget with --mixed, --judge with --compare, --mixed without --compare"
        raise UsageError("quantize", "options that do not go together", expected, "see --help")
    if method != "static" and (mixed or compare or data or calibration != "minmax"):
        raise UsageError(f"--method {method}", "options of calibration", "none: it takes no data", "leave them out")
    workspace = Workspace.current()
    parent = ModelBundle.open(bundle)
    if compare:
        _compare(parent, data, judge, Policy.read(policy_file), workspace, as_json=as_json)
        return
    if method in SHORT:
        if missing := lacking(SHORT[method]):
            click.echo(f"{method}: {missing}", err=True)
        made, _ = quantized(parent, None, workspace, CAST, SHORT[method])
    elif method == "dynamic":
        made, _ = quantized(parent, None, workspace, DYNAMIC)
    else:
        material = read_material(data, parent.manifest.task) if data else calibration_pages(workspace)
        recipe = Quantization(calibration=calibration)
        if mixed:
            recipe = sensed(parent, material, workspace, calibration, budget)[0].recipe
            click.echo(f"left in float: {', '.join(recipe.kept or ()) or 'nothing'}", err=True)
        made, _ = quantized(parent, material, workspace, recipe)
    print_rows([bundle_row(made)], as_json=as_json)


def _compare(
    parent: ModelBundle, data: Path | None, judge: Path | None, policy: Policy, workspace: Workspace, *, as_json: bool
) -> None:
    from ocr_ops.data.pages import PageSet, read_pages
    from ocr_ops.optimize.calibration import read_material
    from ocr_ops.release.chain import bench_pages, calibration_pages
    from ocr_ops.release.refine import compared, divided

    material = read_material(data, parent.manifest.task) if data else calibration_pages(workspace)
    if judge:
        judged = read_pages(judge)
    elif data and isinstance(material, PageSet):
        material, judged = divided(material)
    else:
        judged = bench_pages(workspace)
    chosen, found = compared(parent, material, judged, policy, workspace)
    rows = [
        {
            "bundle": str(bundle.path),
            "variant": bundle.manifest.variant,
            **{name: report.metrics.get(name) for name in ("accuracy", "accuracy_drop", "cpu_ms", "speedup")},
            "verdict": str(report.verdict),
            "chosen": "yes" if bundle == chosen else "no",
        }
        for bundle, report in found
    ]
    print_rows(rows, as_json=as_json)


@cli.command()
@click.argument("bundle", type=FOLDER)
@calibration_option
@budget_option
@material_option
@json_option
def sensitivity(*, bundle: Path, calibration: Any, budget: float | None, data: Path | None, as_json: bool) -> None:
    r"""Tell what each layer of a float bundle loses when it alone is INT8, the most harmful first.

    Those marked `float` are what `ocr-ops quantize --mixed` leaves in float for the budget.

    \b
    Example: ocr-ops sensitivity .ocr-ops/bundles/recognition-tiny-fp32
    """
    from ocr_ops.optimize.calibration import read_material
    from ocr_ops.release.chain import calibration_pages
    from ocr_ops.release.refine import sensed

    workspace = Workspace.current()
    parent = ModelBundle.open(bundle)
    material = read_material(data, parent.manifest.task) if data else calibration_pages(workspace)
    found, _ = sensed(parent, material, workspace, calibration, budget)
    kept = len(found.steps) - 1
    rows = [
        {
            "layer": layer.name,
            "operator": layer.operator,
            "loss": layer.loss,
            "changed": layer.changed,
            "precision": "float" if place < kept else "int8",
        }
        for place, layer in enumerate(found.ranked)
    ]
    print_rows(rows, as_json=as_json)
    told = f"all in INT8 {found.steps[0]:.3g}, all but the first and the last {found.edges:.3g}"
    click.echo(f"loss: {told}, mixed {found.steps[-1]:.3g} of at most {found.budget:.3g}", err=True)


@cli.command()
@click.argument("bundle", type=FOLDER)
@click.option("--lines", type=FOLDER, help="Line crops, or labelled pages, to read; rendered pages without it.")
@click.option("--count", type=click.IntRange(min=1), default=500, show_default=True, help="Lines at most.")
@policy_option
@json_option
def invariance(*, bundle: Path, lines: Path | None, count: int, policy_file: Path | None, as_json: bool) -> None:
    r"""Prove that a recogniser's text does not depend on what else is read, and write the widths it may be padded to.

    The cheapest set of widths whose flips are proven to be few goes into the bundle's manifest: its digest changes, and
    serving pads accordingly. Exit code 1 when neighbours change texts, 3 when there are too few lines to tell.

    \b
    Example: ocr-ops invariance .ocr-ops/bundles/recognition-tiny-int8 --lines my-lines
    """
    from ocr_ops.optimize.calibration import read_material
    from ocr_ops.release.chain import calibration_pages
    from ocr_ops.release.refine import proven

    workspace = Workspace.current()
    opened = ModelBundle.open(bundle)
    material = read_material(lines, "recognition") if lines else calibration_pages(workspace)
    made, found = proven(opened, material, Policy.read(policy_file), workspace, count)
    rows = [
        {
            "condition": entry.name,
            "lines": entry.lines,
            "flips": entry.flips,
            "bound": entry.bound,
            "cost": entry.cost,
            "chosen": "yes" if entry.buckets and entry.buckets == found.buckets else "",
        }
        for entry in (*found.padding, *found.company)
    ]
    print_rows(rows, as_json=as_json)
    require_pass(bundle, found.checks)
    click.echo(f"{found.verdict}: {made.digest}, buckets {made.manifest.buckets or 'every 32'}", err=True)
