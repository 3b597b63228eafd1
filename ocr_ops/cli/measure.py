"""The commands that measure: bench and gate."""

from pathlib import Path

import click

from ocr_ops.cli.options import FOLDER, cli, data_option, json_option, policy_option, print_rows, report_row
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.policy import Policy
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import require_pass
from ocr_ops.core.workspace import Workspace


@cli.command()
@click.argument("subjects", type=FOLDER, nargs=-1)
@data_option
@click.option("--pages", "count", type=click.IntRange(min=1), help="Only the first N pages.")
@policy_option
@json_option
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
    print_rows([report_row(report) for report in reports], as_json=as_json)
    require_pass("bench", [check for report in reports for check in report.checks])


@cli.command()
@click.argument("release_dir", metavar="[RELEASE]", type=FOLDER, required=False)
@data_option
@policy_option
@json_option
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
    print_rows([report_row(report) | {"receipt": str(path), "receipt digest": digest}], as_json=as_json)
    require_pass("load gate", report.checks)
