"""The commands that make and move releases: release, package, attest, promote, rollback, pull, history, rules."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocr_ops.cli.options import (
    FILE,
    FOLDER,
    cli,
    data_option,
    json_option,
    policy_option,
    print_rows,
    reason_option,
    receipt_option,
)
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import short
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.release.promote import Promotion

MODELS = (Path("models/detection-small"), Path("models/recognition-small"))


@cli.command()
@click.argument("models", type=FOLDER, nargs=-1)
@data_option
@policy_option
@json_option
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
    print_rows(rows, as_json=as_json)
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


@cli.command()
@click.option("--detection", type=FOLDER, help="Bundle; the best variant benchmarked here without it.")
@click.option("--recognition", type=FOLDER, help="Bundle; the best variant benchmarked here without it.")
@json_option
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
    print_rows([row], as_json=as_json)


@cli.command()
@click.argument("release_dir", metavar="[RELEASE]", type=FOLDER, required=False)
@data_option
@policy_option
@json_option
def attest(release_dir: Path | None, data: Path | None, policy_file: Path | None, *, as_json: bool) -> None:
    r"""Measure a release on this machine too, and have it say that it was admitted here: CPU instructions, provider.

    Without RELEASE, the champion. A service warns where its release was never admitted; OCR_OPS_UNATTESTED=refuse
    keeps it from starting there. A Bento carries what was known when it was packaged.

    \b
    Example: ocr-ops pull && ocr-ops attest
    """
    from ocr_ops.core.release import Release
    from ocr_ops.data.pages import read_pages
    from ocr_ops.registry import Registry
    from ocr_ops.release.attest import attest as measured
    from ocr_ops.release.chain import bench_pages

    workspace = Workspace.current()
    made = Release.open(release_dir or workspace.champion)
    pages = read_pages(data) if data else bench_pages(workspace)
    known = measured(made, pages, Policy.read(policy_file), workspace, Registry.open(workspace))
    rows = [
        {
            "release": short(known.release),
            "task": one.task,
            "place": str(one.place),
            "cpu": one.cpu,
            "measured": one.created,
        }
        for one in known.attestations
    ]
    print_rows(rows, as_json=as_json)


@cli.command()
@click.option("--version", type=int, help="Version of the registered model `ocr`; the candidate without it.")
@click.option("--digest", help="The release's digest, instead of its version.")
@receipt_option
@reason_option
@json_option
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
    print_rows([_moved(moved)], as_json=as_json)


@cli.command()
@receipt_option
@reason_option
@json_option
def rollback(receipt: Path | None, reason: str, *, as_json: bool) -> None:
    r"""Return `champion` to `previous`.

    \b
    Example: ocr-ops rollback --reason "words lost on invoices"
    """
    from ocr_ops.registry import Registry
    from ocr_ops.release.promote import rollback as move

    workspace = Workspace.current()
    moved = move(Registry.open(workspace), workspace, receipt=receipt, reason=reason)
    print_rows([_moved(moved)], as_json=as_json)


@cli.command()
@receipt_option
@click.option("--force", is_flag=True, help="Do without a receipt; the ledger shows that there was none.")
@json_option
def pull(receipt: Path | None, *, force: bool, as_json: bool) -> None:
    r"""Fetch what the `champion` alias names now: after someone moved it in the MLflow UI.

    \b
    Example: ocr-ops pull && bentoml serve .
    """
    from ocr_ops.registry import Registry
    from ocr_ops.release.promote import pull as fetch

    workspace = Workspace.current()
    moved = fetch(Registry.open(workspace), workspace, receipt=receipt, force=force)
    print_rows([_moved(moved)], as_json=as_json)


@cli.command()
@json_option
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
    print_rows(rows, as_json=as_json)


@cli.command()
@click.option("--slo", type=FILE, default=Path("monitoring/slo.toml"), show_default=True)
@click.option("--out", type=FOLDER, default=Path("monitoring"), show_default=True)
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


def _moved(move: "Promotion") -> dict[str, Any]:
    return {
        "champion": str(move.version),
        "digest": move.version.digest,
        "moved from": move.entry.move.from_version if move.entry else "nothing moved",
    }
