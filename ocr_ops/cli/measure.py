"""The commands that measure: bench and gate."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ocr_ops.cli.options import (
    FOLDER,
    Command,
    cli,
    data_option,
    json_option,
    policy_option,
    print_rows,
    report_row,
)
from ocr_ops.cli.publishing import PAGE_FILE, RUN_FILE, log, publish
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, UsageError
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.verdict import Check, require_pass
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.bench.cells import Plan, Settings
    from ocr_ops.bench.items import Items
    from ocr_ops.bench.run import Run
    from ocr_ops.data.lines import LineSet
    from ocr_ops.data.pages import PageSet

CURVE_PAGES = 4
"""Each is read at some thirty strengths by every system."""
UNTOLD = ("pages", "lines", "word_precision", "word_recall", "precision", "recall", "p99_ms", "warm_up")
"""Metrics that are in the record and with --json, but not in the table people read."""


class _Bench(Command):
    """The measuring command, with `diff` before any subject as a command of its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == [diff.name]:
            return diff.make_context(f"{info_name} {diff.name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _counts(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Whole numbers from 1 on, parted by commas."""
    return tuple(click.IntRange(min=1)(part, param, ctx) for part in _names(ctx, param, value))


def _names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in value.split(",")))


@cli.command(cls=_Bench)
@click.argument("subjects", type=FOLDER, nargs=-1)
@data_option
@click.option(
    "--lines", "lines_dir", type=FOLDER, help="Folder of labelled line crops for recognition bundles to read."
)
@click.option("--held-out", is_flag=True, help="Of --lines only the documents that training keeps off.")
@click.option(
    "--pages",
    "count",
    type=click.IntRange(min=1),
    help="Only the first N pages (or lines); for --curves 4 unless told.",
)
@click.option("--peers", multiple=True, help="Read the same pages: rapidocr,tesseract, cmd:PROGRAM {image}, http://...")
@click.option("--threads", callback=_counts, default="1", show_default=True, help="Threads and cores of every cell.")
@click.option("--batch", callback=_counts, default="1", show_default=True, help="Lines given to a recogniser together.")
@click.option("--providers", callback=_names, default="cpu", show_default=True, help="Execution providers of ours.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the order of readings.")
@click.option("--curves", is_flag=True, help="How accuracy falls as pages get worse; a picture and figures in --out.")
@click.option("--out", type=FOLDER, help="Folder for the record and the report; one in the workspace without it.")
@click.option("--mlflow/--no-mlflow", default=True, help="Log both in MLflow as well, where it is installed.")
@policy_option
@json_option
@click.pass_context
def bench(
    ctx: click.Context,
    *,
    subjects: tuple[Path, ...],
    data: Path | None,
    lines_dir: Path | None,
    held_out: bool,
    count: int | None,
    peers: tuple[str, ...],
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    providers: tuple[str, ...],
    seed: int,
    curves: bool,
    out: Path | None,
    mlflow: bool,
    policy_file: Path | None,
    as_json: bool,
) -> None:
    r"""Measure accuracy and cost of every subject with every provider, number of threads and batch size, in turn.

    A subject is a release, or a bundle: variants of one model, the float one first. Bundles of both tasks are the
    releases they make. Without one, the champion. Reads rendered pages without --data or --lines.

    \b
    Example: ocr-ops bench --data DIR --peers rapidocr,tesseract
             ocr-ops bench .ocr-ops/bundles/recognition-small-* --lines DIR --held-out --batch 1,8 --threads 1,2
             ocr-ops bench .ocr-ops/bundles/detection-small-*
             ocr-ops bench --data DIR --peers rapidocr,tesseract --curves --out DIR
             ocr-ops bench diff RUN RUN       what changed between two runs, and whether it is real
    """
    from ocr_ops.bench.cells import Settings, opened, plan_peers
    from ocr_ops.bench.measure import measure

    workspace, policy = Workspace.current(), Policy.read(policy_file)
    if lines_dir and (peers or curves or data):
        raise UsageError("--lines", "with pages to read", "line crops alone", "drop --data, --peers, --curves")
    settings = Settings(providers=providers, threads=threads, batches=batch)
    # A command may hold commas.
    names = [name for given in peers for name in ([given] if given.startswith("cmd:") else given.split(","))]
    others = plan_peers(names, settings)
    if lines_dir:
        bundles = [ModelBundle.open(folder) for folder in subjects or (workspace.champion / "recognition",)]
        chosen = _of_lines(bundles, _head(_lines(lines_dir, held_out=held_out), count), settings)
    else:
        pages = _pages(data, workspace).head(count or (CURVE_PAGES if curves else None))
        chosen = _of_pages(subjects, pages, settings, policy, workspace, whole=bool(peers or curves))
        if curves:
            _curves([*chosen.plans, *others], pages, out or workspace.reports / "curves", as_json=as_json)
            return
    with opened([*chosen.plans, *others]) as cells:
        run = measure(
            cells,
            chosen.items,
            policy,
            title=", ".join(dict.fromkeys(plan.cell.name.partition(", ")[0] for plan in chosen.plans)),
            command=_command(ctx),
            seed=seed,
            judged=chosen.judged,
        )
    if not peers and chosen.items.unit == "page":
        from ocr_ops.release.chain import keep_whole

        keep_whole(run, policy, workspace)
    folder = out or workspace.reports / f"run-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    publish(run, chosen.items, folder, workspace)
    _tell(run, folder, as_json=as_json)
    if mlflow:
        log(run, folder, workspace)
    require_pass("bench", [check for result in run.results for check in result.checks])


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What is to be measured of ours, and on what."""

    plans: "Sequence[Plan]"
    items: "Items"
    judged: dict[str, tuple[Check, ...]] = field(default_factory=dict)


def _of_lines(bundles: Sequence[ModelBundle], lines: "LineSet", settings: "Settings") -> _Chosen:
    from ocr_ops.bench.cells import plan_bundles
    from ocr_ops.bench.items import of_lines

    for bundle in bundles:
        if bundle.manifest.task != "recognition":
            found = f"a {bundle.manifest.task} bundle"
            raise BadInput(bundle.path, found, "a recognition bundle", "leave it out, or drop --lines")
    return _Chosen(plan_bundles(bundles, settings), of_lines(lines))


def _of_pages(
    subjects: Sequence[Path],
    pages: "PageSet",
    settings: "Settings",
    policy: Policy,
    workspace: Workspace,
    *,
    whole: bool,
) -> _Chosen:
    """Releases, or variants of one model, which the policy judges first; `whole`: releases only."""
    from ocr_ops.bench.cells import plan_bundles, plan_releases
    from ocr_ops.bench.items import of_lines, of_pages
    from ocr_ops.data.lines import cut_pages
    from ocr_ops.release.chain import benchmarked, paired

    folders = subjects or (workspace.champion,)
    bundles = [ModelBundle.open(folder) for folder in folders if (folder / "manifest.json").is_file()]
    if not bundles:
        releases = [Release.open(folder) for folder in folders]
        return _Chosen(plan_releases(releases, settings), of_pages(pages))
    by_task = {task: [b for b in bundles if b.manifest.task == task] for task in ("detection", "recognition")}
    if len(bundles) == len(folders) and all(by_task.values()):
        releases = [paired(d, r, workspace) for d in by_task["detection"] for r in by_task["recognition"]]
        return _Chosen(plan_releases(releases, settings), of_pages(pages))
    if whole or len(bundles) != len(folders):
        expected = "releases, or detection and recognition bundles"
        raise UsageError("bench", f"{len(bundles)} bundles of one task", expected, "name the bundle that goes with it")
    reports, _ = benchmarked(bundles, pages, policy, workspace)
    judged = {report.subject: report.checks for report in reports}
    items = of_pages(pages) if by_task["detection"] else of_lines(cut_pages(pages))
    return _Chosen(plan_bundles(bundles, settings), items, judged)


def _pages(data: Path | None, workspace: Workspace) -> "PageSet":
    from ocr_ops.data.pages import read_pages
    from ocr_ops.release.chain import bench_pages

    return read_pages(data) if data else bench_pages(workspace)


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


def _head(lines: "LineSet", count: int | None) -> "LineSet":
    return replace(lines, lines=lines.lines[:count])


def _command(ctx: click.Context) -> str:
    """What was asked, as one would type it; where the result goes is left out."""
    words = ["ocr-ops", "bench"]
    for option in ctx.command.params:
        name = option.name or ""
        value = ctx.params.get(name)
        if name in {"as_json", "out", "mlflow"} or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        if isinstance(option, click.Argument):
            words += map(str, value or ())
        elif isinstance(option, click.Option) and option.is_flag:
            words.append(option.opts[0])
        else:
            for one in value if option.multiple and value else [value]:
                words += [option.opts[0], ",".join(map(str, one)) if isinstance(one, tuple) else str(one)]
    return shlex.join(words)


def _tell(run: "Run", folder: Path, *, as_json: bool) -> None:
    rows = run.rows
    if not as_json:
        told = [name for name in rows[0] if name not in UNTOLD and any(row[name] is not None for row in rows)]
        rows = [{name: _short(row[name]) for name in told} for row in rows]
    print_rows(rows, as_json=as_json)
    restless = [result.cell.name for result in run.results if "warm_up" not in result.metrics]
    if restless:
        click.echo(f"never steady while warming up, so take their costs with care: {'; '.join(restless)}", err=True)
    cores = max((result.cell.cores for result in run.results), key=len)
    held = f"cores {', '.join(map(str, cores))}" if cores else "no cores of ours"
    click.echo(
        f"{len(run.items)} {run.unit}s, {len(run.results)} cells, {held}; see {shown(folder / PAGE_FILE)}", err=True
    )


def _short(value: Any) -> Any:
    """Without decimals where there are thousands."""
    return round(value) if isinstance(value, float) and abs(value) >= 1000 else value


def _curves(plans: "Sequence[Plan]", pages: "PageSet", out: Path, *, as_json: bool) -> None:
    from ocr_ops.bench.cells import opened
    from ocr_ops.bench.curves import measure_curves
    from ocr_ops.bench.picture import draw

    with opened(plans) as cells:
        found = measure_curves(cells, pages)
    found.save(out / "curves.json")
    write_atomic(out / "curves.png", draw(found))
    print_rows(found.rows, as_json=as_json)
    click.echo(f"{len(pages.pages)} pages; see {shown(out / 'curves.png')} and curves.json beside it", err=True)
    if found.falls:
        require_pass("curves", [fall.check for fall in found.falls])


@click.command("diff", cls=Command)
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@json_option
def diff(before: Path, after: Path, *, as_json: bool) -> None:
    r"""Say in three sentences what changed between two runs, and whether it is real.

    A run is a folder that `ocr-ops bench` wrote, or the run.json in it.

    \b
    Example: ocr-ops bench diff .ocr-ops/reports/run-2026-11-01T08-00-00 .ocr-ops/reports/run-2026-11-02T08-00-00
    """
    from ocr_ops.bench.diff import diff as compared
    from ocr_ops.bench.run import Run

    runs = [Run.from_file(path / RUN_FILE if path.is_dir() else path) for path in (before, after)]
    found = compared(*runs)
    if as_json:
        changes = [change.row for change in found.changes]
        print_rows([{"sentences": found.sentences, "changes": changes, "unmatched": found.unmatched}], as_json=True)
    else:
        click.echo("\n".join(found.sentences))


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
