"""Objectives -> recording rules and alerts, as objects that know how to become Prometheus YAML.

Burn-rate alerts follow the Site Reliability Workbook, chapter 5 ("Alerting on SLOs", multiwindow, multi-burn-rate).
Everything is stated as a share of bad events, so availability, latency and confidence share one shape.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ocr_ops.core import metrics
from ocr_ops.monitor.slo import Objective, SloFile

Severity = Literal["page", "ticket"]
JOB = "ocr"
"""The scrape job, as `up` labels it."""


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """Alerts when a share `budget` of the whole error budget is spent within `long`, and still is being in `short`."""

    severity: Severity
    budget: float
    long: str
    long_hours: int
    short: str
    short_minutes: int

    def threshold(self, objective: Objective) -> float:
        """The bad share to exceed: (budget * objective's hours / long hours) times the error budget."""
        return round(self.budget * objective.hours / self.long_hours * objective.budget, 9)


BURN_WINDOWS = (
    BurnWindow("page", 0.02, "1h", 1, "5m", 5),
    BurnWindow("page", 0.05, "6h", 6, "30m", 30),
    BurnWindow("ticket", 0.10, "1d", 24, "2h", 120),
    BurnWindow("ticket", 0.10, "3d", 72, "6h", 360),
)
PACES: dict[Severity, str] = {"page": "Fast", "ticket": "Slow"}
RATE_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


@dataclass(frozen=True, slots=True)
class Indicator:
    """One objective and the PromQL of its bad share over a window."""

    name: str
    objective: Objective
    bad_share: Callable[[str], str]
    traffic: str
    """The counter that moves when there is something to measure."""

    def recorded(self, window: str) -> str:
        """The recorded bad share over `window`."""
        return f'ocr:bad_share:rate{window}{{slo="{self.name}"}}'

    def burns(self, severity: Severity) -> tuple[BurnWindow, ...]:
        """The windows that can fire. A bad share never exceeds 1: a threshold there would only look like an alert."""
        return tuple(w for w in BURN_WINDOWS if w.severity == severity and w.threshold(self.objective) < 1)


@dataclass(frozen=True, slots=True)
class Recording:
    record: str
    expr: str
    labels: tuple[tuple[str, str], ...]

    def as_yaml(self) -> dict[str, Any]:
        return {"record": self.record, "expr": self.expr, "labels": dict(self.labels)}


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    expr: str
    wait: str
    """How long the expression must hold: Prometheus' `for`."""
    severity: Severity
    summary: str
    runbook: str
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def all_labels(self) -> dict[str, str]:
        return {"severity": self.severity, **dict(self.labels)}

    @property
    def annotations(self) -> dict[str, str]:
        return {"summary": self.summary, "runbook_url": f"{self.runbook}#{self.name.lower()}"}

    def as_yaml(self) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "labels": self.all_labels,
            "annotations": self.annotations,
        }


@dataclass(frozen=True, slots=True)
class RuleGroup:
    name: str
    rules: tuple[Recording | Alert, ...]

    def as_yaml(self) -> dict[str, Any]:
        return {"name": self.name, "rules": [rule.as_yaml() for rule in self.rules]}


def indicators(slo: SloFile) -> tuple[Indicator, Indicator, Indicator]:
    """Availability, latency, confidence. Without traffic a share has no value, and nothing fires."""
    requests, seconds, confidence = metrics.REQUESTS, metrics.REQUEST_SECONDS, metrics.LINE_CONFIDENCE
    in_time, unsure = edge(slo.latency.seconds), edge(slo.confidence.above)

    def failed(window: str) -> str:
        total = f"sum(rate({requests}[{window}]))"
        # The series of 5xx appears with the first failure: until then there are none, not no data.
        return f'(sum(rate({requests}{{status=~"5.."}}[{window}])) or {total} * 0) / ({total} > 0)'

    def late(window: str) -> str:
        good = f'sum(rate({seconds}_bucket{{le="{in_time}"}}[{window}]))'
        return f"1 - {good} / (sum(rate({seconds}_count[{window}])) > 0)"

    def doubtful(window: str) -> str:
        bad = f'sum(rate({confidence}_bucket{{le="{unsure}"}}[{window}]))'
        return f"{bad} / (sum(rate({confidence}_count[{window}])) > 0)"

    return (
        Indicator("availability", slo.availability, failed, requests),
        Indicator("latency", slo.latency, late, requests),
        Indicator("confidence", slo.confidence, doubtful, metrics.LINES),
    )


def edge(value: float) -> str:
    """A bucket edge as the Python client writes it in the label `le`: 5.0, not 5."""
    return repr(float(value))


def groups(slo: SloFile) -> tuple[RuleGroup, ...]:
    """All rules, in the order Prometheus is to evaluate them."""
    every = indicators(slo)
    return (
        *(RuleGroup(f"ocr-slo-{indicator.name}", _recordings(indicator)) for indicator in every),
        RuleGroup("ocr-slo-alerts", burn_alerts(slo)),
        RuleGroup("ocr-alerts", health_alerts(slo)),
    )


def burn_alerts(slo: SloFile) -> tuple[Alert, ...]:
    """One alert an objective and severity: any of its windows burns too fast."""
    alerts = []
    for indicator in indicators(slo):
        for severity, pace in PACES.items():
            if burns := indicator.burns(severity):
                expr = "\nor\n".join(_burning(indicator, burn) for burn in burns)
                alerts.append(
                    Alert(
                        name=f"Ocr{indicator.name.title()}Burn{pace}",
                        expr=expr,
                        wait="0s",  # the windows are the patience
                        severity=severity,
                        summary=f"The error budget of the {indicator.name} objective is being spent too fast.",
                        runbook=slo.runbook,
                        labels=(("slo", indicator.name),),
                    )
                )
    return tuple(alerts)


def health_alerts(slo: SloFile) -> tuple[Alert, ...]:
    """What objectives cannot see: silence, hangs, and a fleet that disagrees with itself. No traffic is no failure."""
    release, model, requests = metrics.RELEASE_INFO, metrics.MODEL_INFO, metrics.REQUESTS

    def alert(name: str, expr: str, wait: str, severity: Severity, summary: str, *labels: tuple[str, str]) -> Alert:
        return Alert(name, expr, wait, severity, summary, slo.runbook, labels)

    return (
        alert("OcrTargetDown", f'up{{job="{JOB}"}} == 0', "2m", "page", "A service does not answer scrapes."),
        alert("OcrNoTarget", f'absent(up{{job="{JOB}"}})', "5m", "page", "Prometheus knows no OCR service."),
        alert("OcrAbsent", f"absent({release})", "5m", "page", "No service says which release it serves."),
        alert(
            "OcrStuck",
            f"(sum({metrics.IN_FLIGHT}) > 0) unless (sum(rate({requests}[10m])) > 0)",
            "10m",
            "page",
            "Documents wait and none is answered.",
        ),
        alert(
            "OcrReleaseMismatch",
            f"count(count by (digest) ({release})) > 1",
            "15m",
            "ticket",
            "Services run different releases.",
        ),
        alert(
            "OcrModelMismatch",
            f"count by (task) (count by (task, digest) ({model})) > 1",
            "15m",
            "ticket",
            "Services run different models for one task.",
        ),
        alert(
            "OcrUnattested",
            f"min by (task, provider) ({metrics.MODEL_ATTESTED}) == 0",
            "15m",
            "ticket",
            "A model runs on an instruction set or provider that it was never admitted on.",
        ),
        alert(
            "OcrAuditLost",
            f"sum(increase({metrics.AUDIT_LOST}[15m])) > 0",
            "0s",
            "ticket",
            "The audit log does not take what happens.",
        ),
        *(
            alert(
                "OcrUnmeasured",
                f"(sum(rate({indicator.traffic}[5m])) > 0) unless on () {indicator.recorded('5m')}",
                "15m",
                "ticket",
                f"There is traffic, but no figure for the {indicator.name} objective.",
                ("slo", indicator.name),
            )
            for indicator in indicators(slo)[1:]  # availability is its own traffic
        ),
    )


def _recordings(indicator: Indicator) -> tuple[Recording, ...]:
    labels = (("slo", indicator.name),)
    whole = indicator.objective.window
    windows = dict.fromkeys((*RATE_WINDOWS, whole))
    return (
        *(Recording(f"ocr:bad_share:rate{w}", indicator.bad_share(w), labels) for w in windows),
        Recording(
            "ocr:budget_left:ratio",
            f"1 - {indicator.recorded(whole)} / {indicator.objective.budget:.9g}",
            labels,
        ),
    )


def _burning(indicator: Indicator, burn: BurnWindow) -> str:
    limit = f"{burn.threshold(indicator.objective):.9g}"
    return f"({indicator.recorded(burn.long)} > {limit} and {indicator.recorded(burn.short)} > {limit})"
