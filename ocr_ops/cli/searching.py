"""The command that looks for the settings to serve with: search."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ocr_ops.cli.options import FOLDER, POSITIVE, cli, data_option, json_option, print_rows
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import UsageError
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace, shown

if TYPE_CHECKING:
    from ocr_ops.release.findings import Findings
    from ocr_ops.release.search import Plan

PAGES, SEARCH_SEED, FRESH_SEED = 12, 23, 29
"""Pages rendered for a search, and for what it is held against afterwards."""


@cli.command()
@click.argument("subjects", type=FOLDER, nargs=-1)
@data_option
@click.option(
    "--slo", default="p95_ms=2000,failed_share=0", show_default=True, help="What throughput must not be bought with."
)
@click.option("--budget-cpu", type=click.IntRange(min=1), help="Cores of the service; half of those here without it.")
@click.option("--budget-mb", type=POSITIVE, help="Memory of the service; without it any.")
@click.option("--trials", type=click.IntRange(min=1), default=24, show_default=True, help="To add to the study.")
@click.option("--minutes", type=POSITIVE, help="Begin no trial after so long.")
@click.option("--seconds", type=POSITIVE, default=8.0, show_default=True, help="Of load, for each number of users.")
@click.option(
    "--replicates", type=click.IntRange(min=1), default=2, show_default=True, help="Of the best few, and of the winner."
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Each on cores of its own.")
@click.option("--study", help="Name of the study; that of the first release unless told.")
@click.option("--storage", help="Database all workers share; else OCR_OPS_STUDY_URL, else sqlite in the workspace.")
@click.option("--no-mlflow", is_flag=True, help="Keep the study in its database alone.")
@json_option
def search(
    *,
    subjects: tuple[Path, ...],
    data: Path | None,
    slo: str,
    budget_cpu: int | None,
    budget_mb: float | None,
    trials: int,
    minutes: float | None,
    seconds: float,
    replicates: int,
    workers: int,
    study: str | None,
    storage: str | None,
    no_mlflow: bool,
    as_json: bool,
) -> None:
    r"""Search the settings to serve with: most pages a second within an SLO and a budget, losing no accuracy.

    SUBJECTS are releases, or bundles of both tasks that are paired in every way; the champion without any. The first
    is what serves today. Prints the front of throughput, accuracy and memory, and then the winner, measured again on
    pages the search never saw; its settings are kept where `bentoml serve`, `ocr-ops package` and `ocr-ops gate` find
    them. Exit code 3 when nothing is proven better, and then nothing is kept. A study goes on where it stands.

    \b
    Example: ocr-ops search --slo p95_ms=1500 --budget-cpu 1 --budget-mb 1500 --trials 24
             ocr-ops search .ocr-ops/bundles/detection-small-* .ocr-ops/bundles/recognition-small-*
    """
    from ocr_ops.core.record import short
    from ocr_ops.release.search import Plan, adopt, default_cores
    from ocr_ops.release.search import search as run
    from ocr_ops.release.trial import Budget, Slo
    from ocr_ops.train.study import store_url

    workspace = Workspace.current()
    releases = _releases(subjects or (workspace.champion,), workspace)
    pages, fresh = _pages(data, workspace)
    workspace.home.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        home=workspace.home,
        study=study or f"serving-{short(next(iter(releases.values())).digest)}",
        url=store_url(workspace.home, storage),
        releases=releases,
        pages=pages,
        fresh=fresh,
        slo=Slo.parse(slo),
        budget=Budget(cores=budget_cpu or default_cores(), memory_mb=budget_mb),
        seconds=seconds,
    )
    found = run(plan, trials=trials, workers=workers, minutes=minutes, replicates=replicates)
    logged = "none" if no_mlflow else _logged(found, plan, workspace)
    print_rows([look.row for look in found.front], as_json=as_json)
    print_rows([_winner(found)], as_json=as_json)
    told = ", ".join(f"{count} {state}" for state, count in found.trials.items() if count)
    given_up = ", ".join(f"{count} for {reason}" for reason, count in found.given_up.items())
    click.echo(
        f"{told} of {found.size} points{f'; given up: {given_up}' if given_up else ''}; "
        f"mlflow run {logged}; see {shown(plan.folder / 'study.png')}",
        err=True,
    )
    path = adopt(found, plan)
    click.echo(f"settings kept in {shown(path)}" if path else "today's settings are the best found", err=True)


def _releases(folders: tuple[Path, ...], workspace: Workspace) -> dict[str, Release]:
    """The variants by name: releases as they are, bundles paired in every way."""
    from ocr_ops.release.chain import paired

    bundles = [ModelBundle.open(folder) for folder in folders if (folder / "manifest.json").is_file()]
    if bundles and len(bundles) < len(folders):
        raise UsageError("search", "releases and bundles", "one or the other", "name releases alone, or bundles alone")
    if bundles:
        tasks = {task: [b for b in bundles if b.manifest.task == task] for task in ("detection", "recognition")}
        if not all(tasks.values()):
            raise UsageError("search", "bundles of one task", "some of both", "name bundles of the other task, too")
        releases = [paired(d, r, workspace) for d in tasks["detection"] for r in tasks["recognition"]]
    else:
        releases = [Release.open(folder) for folder in folders]
    return {_name(release): release for release in releases}


def _name(release: Release) -> str:
    return " + ".join(f"{b.manifest.model} {b.manifest.variant}" for b in (release.detection, release.recognition))


def _pages(data: Path | None, workspace: Workspace) -> tuple[Any, Any]:
    """Pages to search on and pages kept from it: every other one of a folder, or rendered from other seeds."""
    from ocr_ops.data.documents import rendered_pages
    from ocr_ops.data.pages import read_pages
    from ocr_ops.release.search import split

    if data:
        return split(read_pages(data))
    return rendered_pages(workspace, PAGES, SEARCH_SEED), rendered_pages(workspace, PAGES, FRESH_SEED)


def _winner(found: "Findings") -> dict[str, Any]:
    settings = {name: value for name, value in found.winner.point.items() if found.today.point[name] != value}
    return {
        "winner": found.winner.trial,
        "gain searched": found.searched_gain,
        "gain fresh": found.fresh_gain,
        "optimism": found.optimism,
        "unlike today": ", ".join(f"{name} {value}" for name, value in settings.items()) or "nothing",
        "verdict": "PASS" if found.proven else "INCONCLUSIVE",
    }


def _logged(found: "Findings", plan: "Plan", workspace: Workspace) -> str:
    """The id of the study's run in MLflow, which gets its figures, picture and record; `none` without MLflow."""
    from ocr_ops.registry import Registry
    from ocr_ops.registry.study import conclude_study, log_study

    if not Registry.installed():
        return "none"
    registry = Registry.open(workspace)
    opened = plan.open()
    run = log_study(registry, plan.study, "serving", opened.user_attrs.get("mlflow_run"))
    opened.set_user_attr("mlflow_run", run)
    gains = {"searched_gain": found.searched_gain, "fresh_gain": found.fresh_gain, "optimism": found.optimism}
    best = {"throughput": found.winner.outcome.throughput, "accuracy": found.winner.outcome.accuracy}
    figures = {**best, **{name: value for name, value in gains.items() if value is not None}}
    conclude_study(registry, run, figures, plan.folder)
    return run
