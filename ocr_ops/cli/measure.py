"""The commands that measure: bench and gate."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocr_ops.cli.options import FOLDER, cli, data_option, json_option, policy_option, print_rows, report_row
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, UsageError
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import short, write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.core.verdict import require_pass
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.bench.peers import Systems
    from ocr_ops.data.lines import LineSet
    from ocr_ops.data.pages import PageSet

CURVE_PAGES = 4
"""Each is read at some thirty strengths by every system."""


@cli.command()
@click.argument("subjects", type=FOLDER, nargs=-1)
@data_option
@click.option(
    "--pages", "count", type=click.IntRange(min=1), help="Only the first N pages; for --curves 4 unless told."
)
@click.option("--peers", multiple=True, help="Read the same pages: rapidocr,tesseract, cmd:PROGRAM {image}, http://...")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Each system's, with --peers."
)
@click.option("--curves", is_flag=True, help="How accuracy falls as pages get worse; a picture and figures in --out.")
@click.option("--out", type=FOLDER, default=Path("bench"), show_default=True, help="Folder --curves writes into.")
@click.option(
    "--lines", "lines_dir", type=FOLDER, help="Folder of labelled line crops for recognition bundles to read."
)
@click.option("--held-out", is_flag=True, help="Of --lines only the documents that training keeps off.")
@policy_option
@json_option
def bench(
    *,
    subjects: tuple[Path, ...],
    data: Path | None,
    count: int | None,
    peers: tuple[str, ...],
    threads: int,
    out: Path,
    lines_dir: Path | None,
    policy_file: Path | None,
    curves: bool,
    held_out: bool,
    as_json: bool,
) -> None:
    r"""Measure accuracy and cost: of variants of one model, the float bundle first, or of releases end to end.

    Without a subject, the champion. A detection and a recognition bundle with --peers or --curves are the release
    they make.

    \b
    Example: ocr-ops bench --data DIR --peers rapidocr,tesseract
             ocr-ops bench --data DIR --peers rapidocr,tesseract --curves --out DIR
             ocr-ops bench .ocr-ops/bundles/detection-tiny-fp32 .ocr-ops/bundles/detection-tiny-int8
             ocr-ops bench .ocr-ops/bundles/recognition-tiny-int8 --lines DIR --held-out
    """
    from ocr_ops.data.pages import read_pages
    from ocr_ops.release.chain import bench_pages, benchmarked, benchmarked_lines, benchmarked_whole

    workspace, policy = Workspace.current(), Policy.read(policy_file)
    if lines_dir and (peers or curves or data or count):
        raise UsageError("--lines", "with pages to read", "line crops alone", "drop --data, --pages, --peers, --curves")
    if lines_dir:
        bundles = [ModelBundle.open(folder) for folder in subjects or (workspace.champion / "recognition",)]
        _judge(benchmarked_lines(bundles, _lines(lines_dir, held_out=held_out), policy, workspace), as_json=as_json)
        return
    folders = subjects or (workspace.champion,)
    systems = _systems(folders, peers, threads, workspace) if peers or curves else None
    pages = (read_pages(data) if data else bench_pages(workspace)).head(count or (CURVE_PAGES if curves else None))
    if systems and curves:
        _curves(systems, pages, out, as_json=as_json)
    elif systems:
        _comparison(systems, pages, policy, workspace, as_json=as_json)
    elif len(folders) == 1 and not (folders[0] / "manifest.json").is_file():
        _judge([benchmarked_whole(Release.open(folders[0]), pages, policy, workspace)[0]], as_json=as_json)
    else:
        bundles = [ModelBundle.open(folder) for folder in folders]
        _judge(benchmarked(bundles, pages, policy, workspace)[0], as_json=as_json)


def _judge(reports: Sequence[Report], *, as_json: bool) -> None:
    print_rows([report_row(report) for report in reports], as_json=as_json)
    require_pass("bench", [check for report in reports for check in report.checks])


def _lines(folder: Path, *, held_out: bool) -> "LineSet":
    from ocr_ops.data.lines import held_out as kept_from_training
    from ocr_ops.data.lines import read_lines

    found = read_lines(folder)
    if not held_out:
        return found
    kept = tuple(line for line in found.lines if kept_from_training(line.document))
    if not kept:
        raise BadInput(folder, "no document that training keeps off", "at least one", "leave out --held-out")
    return replace(found, lines=kept)


def _systems(
    folders: Sequence[Path], peers: Sequence[str], threads: int, workspace: Workspace
) -> AbstractContextManager["Systems"]:
    from ocr_ops.bench.peers import opened
    from ocr_ops.release.chain import paired

    bundles = [ModelBundle.open(folder) for folder in folders if (folder / "manifest.json").is_file()]
    by_task = {bundle.manifest.task: bundle for bundle in bundles}
    if not bundles:
        releases = [Release.open(folder) for folder in folders]
    elif len(bundles) == len(folders) == len(by_task) == 2:
        releases = [paired(by_task["detection"], by_task["recognition"], workspace)]
    else:
        expected = "releases, or one detection and one recognition bundle"
        raise UsageError("bench", f"{len(bundles)} bundles", expected, "name the bundle that goes with it")
    # A command may hold commas.
    names = [name for given in peers for name in ([given] if given.startswith("cmd:") else given.split(","))]
    return opened(releases, names, threads)


def _comparison(
    opening: AbstractContextManager["Systems"], pages: "PageSet", policy: Policy, workspace: Workspace, *, as_json: bool
) -> None:
    from ocr_ops.bench.compare import compare

    with opening as systems:
        found = compare(systems, pages, policy)
    path = found.save(workspace.reports / f"compare-{short(found.dataset)}.json")
    print_rows(found.rows, as_json=as_json)
    click.echo(f"{len(pages.pages)} pages, threads each: {found.threads}; samples in {shown(path)}", err=True)
    require_pass("bench", [check for score in found.scores for check in score.checks])


def _curves(opening: AbstractContextManager["Systems"], pages: "PageSet", out: Path, *, as_json: bool) -> None:
    from ocr_ops.bench.curves import measure_curves
    from ocr_ops.bench.picture import draw

    with opening as systems:
        found = measure_curves(systems, pages)
    found.save(out / "curves.json")
    write_atomic(out / "curves.png", draw(found))
    print_rows(found.rows, as_json=as_json)
    click.echo(f"{len(pages.pages)} pages; see {shown(out / 'curves.png')} and curves.json beside it", err=True)
    if found.falls:
        require_pass("curves", [fall.check for fall in found.falls])


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
    path, digest = receipt(registry, made, report, pages, policy=policy, workspace=workspace)
    print_rows([report_row(report) | {"receipt": str(path), "receipt digest": digest}], as_json=as_json)
    require_pass("load gate", report.checks)
