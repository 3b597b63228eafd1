"""What is measured of a release end to end."""

from ocr_ops.bench.cells import Settings, opened, plan_releases
from ocr_ops.bench.items import of_pages
from ocr_ops.bench.measure import measure
from ocr_ops.bench.run import Result, Run
from ocr_ops.core.policy import Policy
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.data.pages import PageSet


def bench_release(release: Release, pages: PageSet, policy: Policy) -> Report:
    """Reads every page end to end, on one CPU thread; metrics as `Result`, of texts of pages."""
    with opened(plan_releases([release], Settings())) as cells:
        run = measure(cells, of_pages(pages), policy, title="end to end", command="ocr-ops release")
    return whole_report(run, run.results[0])


def whole_report(run: Run, result: Result) -> Report:
    """What a run says of a release, as the evidence a promotion rests on."""
    return Report(
        kind="bench",
        name="end to end",
        subject=result.cell.subject or "",
        dataset=run.dataset,
        created=run.created,
        environment=run.environment.model_copy(update={"provider": result.cell.provider}),
        metrics=result.metrics,
        samples={name: result.samples[name] for name in ("wall_ms", "cpu_ms")},
        checks=result.checks,
    )
