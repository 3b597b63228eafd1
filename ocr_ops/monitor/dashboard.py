"""Objectives and metrics -> the Grafana dashboard. Its queries are checked against a live Prometheus in the tests."""

from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from ocr_ops.core import metrics
from ocr_ops.monitor.rules import JOB, indicators
from ocr_ops.monitor.slo import SloFile

RATE = "$__rate_interval"
"""Grafana puts in a window that fits the zoom and the scrape interval."""


@dataclass(frozen=True, slots=True)
class PanelSpec:
    """A panel: what it shows, in which unit, and its queries by legend."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """(legend, PromQL)"""
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 8
    """Of 24 columns."""
    alarm: tuple[tuple[float | None, str], ...] = ()
    """Colour from a value on; the first has no lower end."""
    top: float | None = None


def panels(slo: SloFile) -> dict[str, tuple[PanelSpec, ...]]:
    """The panels by row."""
    requests, seconds, confidence = metrics.REQUESTS, metrics.REQUEST_SECONDS, metrics.LINE_CONFIDENCE
    left = ((None, "red"), (0.0, "orange"), (0.25, "green"))
    objectives = indicators(slo)
    return {
        "Objectives": (
            *(
                PanelSpec(
                    f"{i.name.capitalize()}: budget left of {i.objective.window}",
                    "percentunit",
                    (("left", f'ocr:budget_left:ratio{{slo="{i.name}"}}'),),
                    kind="stat",
                    width=4,
                    alarm=left,
                )
                for i in objectives
            ),
            PanelSpec(
                "Burn rate over an hour (1 spends the budget just in time)",
                "none",
                tuple((i.name, f"{i.recorded('1h')} / {i.objective.budget:.9g}") for i in objectives),
                width=12,
            ),
        ),
        "Traffic": (
            PanelSpec("Documents by status", "reqps", (("{{status}}", f"sum by (status) (rate({requests}[{RATE}]))"),)),
            PanelSpec("Failed share", "percentunit", (("5xx", indicators(slo)[0].bad_share(RATE)),), top=1.0),
            PanelSpec("Documents in flight", "short", (("in flight", f"sum({metrics.IN_FLIGHT})"),)),
            PanelSpec(
                f"Latency (objective: {slo.latency.objective:.3%} within {slo.latency.seconds:g} s)",
                "s",
                tuple((f"p{q:g}", _quantile(q, seconds)) for q in (50, 95, 99)),
            ),
            PanelSpec(
                "Pages and lines a second",
                "short",
                (
                    ("pages", f"sum(rate({metrics.PAGES}[{RATE}]))"),
                    ("lines", f"sum(rate({metrics.LINES}[{RATE}]))"),
                ),
            ),
            PanelSpec(
                "Requests by route",
                "reqps",
                (("{{route}} {{status}}", f"sum by (route, status) (rate({metrics.HTTP_REQUESTS}[{RATE}]))"),),
                width=12,
            ),
            PanelSpec(
                "Latency by route, p95",
                "s",
                (("{{route}}", _quantile(95, metrics.HTTP_SECONDS, "route")),),
                width=12,
            ),
            PanelSpec("Services that answer scrapes", "short", (("up", f'sum(up{{job="{JOB}"}})'),)),
        ),
        "Reading": (
            PanelSpec(
                "Confidence of a line",
                "percentunit",
                tuple((f"p{q:g}", _quantile(q, confidence)) for q in (5, 25, 50)),
                top=1.0,
            ),
            PanelSpec(
                f"Lines at or below {slo.confidence.above:g}",
                "percentunit",
                (("share", indicators(slo)[2].bad_share(RATE)),),
                top=1.0,
            ),
            PanelSpec(
                "Mean items of a model call",
                "short",
                (("{{task}}", _mean(metrics.BATCH_ITEMS, "task")),),
            ),
            PanelSpec(
                "Stage duration, p95",
                "s",
                (("{{stage}}", _quantile(95, metrics.STAGE_SECONDS, "stage")),),
                width=12,
            ),
            PanelSpec("Stage duration, mean", "s", (("{{stage}}", _mean(metrics.STAGE_SECONDS, "stage")),), width=12),
        ),
        "Cache, jobs and what is depended on": (
            PanelSpec(
                "Readings by where they come from",
                "reqps",
                (("{{result}}", f"sum by (result) (rate({metrics.CACHE_ASKED}[{RATE}]))"),),
            ),
            PanelSpec("Bytes in the processes' caches", "bytes", (("cache", f"sum({metrics.CACHE_BYTES})"),)),
            PanelSpec(
                "Jobs and webhooks a second",
                "short",
                (
                    ("jobs {{state}}", f"sum by (state) (rate({metrics.JOBS_OVER}[{RATE}]))"),
                    ("webhooks {{result}}", f"sum by (result) (rate({metrics.WEBHOOKS}[{RATE}]))"),
                ),
            ),
            PanelSpec(
                "Redis answers",
                "none",
                (("redis", f"min({metrics.STORE_UP})"),),
                kind="stat",
                width=4,
                alarm=((None, "red"), (1.0, "green")),
            ),
            PanelSpec(
                "Redis found away, by reason",
                "short",
                (("{{reason}}", f"sum by (reason) (increase({metrics.STORE_LEFT}[{RATE}]))"),),
                width=10,
            ),
            PanelSpec(
                "Audit entries lost",
                "short",
                (("lost", f"sum(increase({metrics.AUDIT_LOST}[{RATE}]))"),),
                width=10,
            ),
        ),
        "What is served": (
            PanelSpec("Release", "none", (("", f"count by (digest) ({metrics.RELEASE_INFO})"),), kind="table", width=8),
            PanelSpec(
                "Admitted on this CPU and provider",
                "none",
                (("{{task}}", f"min by (task) ({metrics.MODEL_ATTESTED})"),),
                kind="stat",
                width=4,
                alarm=((None, "red"), (1.0, "green")),
            ),
            PanelSpec(
                "Models",
                "none",
                (("", f"count by (task, model, precision, provider, digest) ({metrics.MODEL_INFO})"),),
                kind="table",
                width=12,
            ),
        ),
    }


def dashboard_json(slo: SloFile) -> str:
    """The dashboard as JSON that Grafana 11 imports."""
    board = (
        Dashboard("OCR service")
        .uid("ocr-ops")
        .description("Generated by ocr-ops rules; do not edit.")
        .tags(["ocr", "generated"])
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for row, specs in panels(slo).items():
        board = board.with_row(Row(row))
        for spec in specs:
            board = board.with_panel(_panel(spec))
    return str(JSONEncoder(sort_keys=True, indent=2).encode(board.build())) + "\n"


def _panel(spec: PanelSpec) -> Any:
    panel = {"timeseries": TimeSeries, "stat": Stat, "table": Table}[spec.kind]()
    panel = panel.title(spec.title).unit(spec.unit).span(spec.width).height(7).datasource(_source())
    for ref, (legend, expr) in zip("ABCDEFGH", spec.queries, strict=False):
        query = Dataquery().ref_id(ref).expr(expr).legend_format(legend).datasource(_source())
        panel = panel.with_target(query.instant().format(PromQueryFormat.TABLE) if spec.kind == "table" else query)
    if spec.alarm:
        steps = [Threshold(value=value, color=colour) for value, colour in spec.alarm]
        panel = panel.thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if spec.kind == "timeseries":
        panel = panel.min(0)
    return panel if spec.top is None else panel.max(spec.top)


def _source() -> DataSourceRef:
    return DataSourceRef(type_val="prometheus", uid="${datasource}")


def _quantile(percent: float, histogram: str, *by: str) -> str:
    """Linear within a bucket, so only as fine as the edges."""
    return (
        f"histogram_quantile({percent / 100:g}, sum by ({', '.join(('le', *by))}) (rate({histogram}_bucket[{RATE}])))"
    )


def _mean(histogram: str, by: str) -> str:
    return f"sum by ({by}) (rate({histogram}_sum[{RATE}])) / sum by ({by}) (rate({histogram}_count[{RATE}]))"
