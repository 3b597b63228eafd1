"""Where a run of the benchmark goes: its record and its report into a folder, and both into MLflow."""

from pathlib import Path
from typing import TYPE_CHECKING

from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.record import short, write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace

if TYPE_CHECKING:
    from ocr_ops.bench.items import Items
    from ocr_ops.bench.run import Run

RUN_FILE, PAGE_FILE, TEXT_FILE = "run.json", "report.html", "report.md"


def publish(run: "Run", items: "Items", folder: Path, workspace: Workspace) -> None:
    """Writes the record, and the report as HTML and Markdown."""
    from ocr_ops.bench.report import markdown, page

    numbers = {name: number for number, name in enumerate(items.names)}
    champion, layers = _champion(run, workspace), _layers(run, workspace)
    run.save(folder / RUN_FILE)
    html = page(run, lambda place: items.load(numbers[run.items[place]]), layers, champion)
    write_atomic(folder / PAGE_FILE, html.encode())
    write_atomic(folder / TEXT_FILE, markdown(run, layers, champion).encode())


def log(run: "Run", folder: Path, workspace: Workspace) -> str | None:
    """Logs what `publish` wrote in MLflow, where that is installed. Its run's id."""
    from ocr_ops.bench.standing import verdict
    from ocr_ops.registry import Registry
    from ocr_ops.registry.bench import log_bench

    if not Registry.installed():
        return None
    return log_bench(
        Registry.open(workspace),
        title=run.title,
        record=(folder / RUN_FILE).read_text(encoding="utf-8"),
        html=(folder / PAGE_FILE).read_text(encoding="utf-8"),
        markdown=(folder / TEXT_FILE).read_text(encoding="utf-8"),
        metrics={result.cell.name: result.metrics for result in run.results},
        subjects=[result.cell.subject for result in run.results if result.cell.subject],
        facts={
            "verdict": str(verdict(run.results) or "not judged"),
            "dataset": run.dataset,
            "digest": run.digest,
            "command": run.command,
        },
    )


def _champion(run: "Run", workspace: Workspace) -> str | None:
    """The digest of what serves now, among what was measured."""
    try:
        serving = Release.open(workspace.champion)
    except OcrOpsError:
        return None
    known = {result.cell.subject for result in run.results}
    digests = (serving.digest, serving.detection.digest, serving.recognition.digest)
    return next((digest for digest in digests if digest in known), None)


def _layers(run: "Run", workspace: Workspace) -> list[tuple[str, float]]:
    """What `ocr-ops sensitivity` found of a float bundle that was measured, if it did."""
    for result in run.results:
        kept = sorted(workspace.reports.glob(f"sensitivity-{short(result.cell.subject or '-')}-*.json"))
        if kept:
            from ocr_ops.optimize.sensitivity import Sensitivity

            return [(layer.name, layer.loss) for layer in Sensitivity.from_file(kept[-1]).ranked]
    return []
