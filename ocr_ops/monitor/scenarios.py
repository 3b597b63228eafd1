"""Made-up histories that each alert must, or must not, answer: the unit tests that promtool runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from ocr_ops.core import metrics
from ocr_ops.monitor.rules import JOB, Alert, burn_alerts, edge, health_alerts, indicators
from ocr_ops.monitor.slo import SloFile

PER_MINUTE = 1000
"""Events a minute in every history with traffic."""

EVALUATED = 60
"""Minutes between evaluations; every history is a multiple of it. Finer takes promtool minutes over three days."""

Phase = tuple[float, int]
"""A bad share, and for how many minutes."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A history of series, and whether the alert fires at its end."""

    title: str
    alert: Alert
    fires: bool
    series: Mapping[str, str]
    minutes: int
    step: int = 1
    """Minutes between samples."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels the expression itself leaves on the alert."""

    def as_yaml(self) -> dict[str, Any]:
        expected = {
            "exp_labels": {**self.alert.all_labels, **self.labels},
            "exp_annotations": self.alert.annotations,
        }
        return {
            "name": f"{self.alert.name} {'fires' if self.fires else 'does not fire'}: {self.title}",
            "interval": f"{self.step}m",
            "input_series": [{"series": name, "values": values} for name, values in self.series.items()],
            "alert_rule_test": [
                {
                    "eval_time": f"{self.minutes}m",
                    "alertname": self.alert.name,
                    "exp_alerts": [expected] if self.fires else [],
                }
            ],
        }


def scenarios(slo: SloFile) -> tuple[Scenario, ...]:
    """Every alert at least once fires and once does not."""
    return (*_burn_scenarios(slo), *_health_scenarios(slo))


def _burn_scenarios(slo: SloFile) -> list[Scenario]:
    """Around the limits: a steady share just above and below, a recovery, a sudden failure, health and silence."""
    found = []
    by_name = {indicator.name: indicator for indicator in indicators(slo)}
    for alert in burn_alerts(slo):
        indicator = by_name[dict(alert.labels)["slo"]]
        burns = indicator.burns(alert.severity)
        fast, slow = burns[0], burns[-1]
        high, low = fast.threshold(indicator.objective), slow.threshold(indicator.objective)
        span = 60 * slow.long_hours
        sudden = EVALUATED * ceil(1.1 * high * 60 * fast.long_hours / EVALUATED)
        calm = EVALUATED * (1 + ceil(slow.short_minutes / EVALUATED))
        step = 1 if alert.severity == "page" else 30
        histories: tuple[tuple[str, bool, list[Phase]], ...] = (
            ("a share just above the limit", True, [(low * 1.05, span)]),
            ("a share just below the limit", False, [(low * 0.95, span)]),
            ("total failure after long health", True, [(0.0, span), (1.0, sudden)]),
            ("failure that is over", False, [(min(1.0, high * 1.05), span), (0.0, calm)]),
            ("nothing but good events", False, [(0.0, span)]),
        )
        for title, fires, phases in histories:
            minutes = sum(length for _, length in phases)
            series = _history(slo, indicator.name, phases, step)
            found.append(Scenario(title, alert, fires, series, minutes, step))
        still = dict.fromkeys(_history(slo, indicator.name, [(0.0, span)], step), f"5x{span // step}")
        found.append(Scenario("no traffic", alert, False, still, span, step))
    return found


def _history(slo: SloFile, name: str, phases: Sequence[Phase], step: int) -> dict[str, str]:
    """The counters behind an indicator, one sample every `step` minutes, as its bad share goes through `phases`."""

    def counter(shares: Sequence[float]) -> str:
        parts, value = ["0"], 0.0
        for share, (_, length) in zip(shares, phases, strict=True):
            rise, count = share * PER_MINUTE * step, length // step
            parts.append(f"{value + rise:.3f}+{rise:.3f}x{count - 1}")  # `a+bxn` are n + 1 samples
            value += rise * count
        return " ".join(parts)

    bad = counter([share for share, _ in phases])
    good = counter([1 - share for share, _ in phases])
    every = counter([1.0 for _ in phases])
    if name == "availability":
        return {f'{metrics.REQUESTS}{{status="200"}}': good, f'{metrics.REQUESTS}{{status="503"}}': bad}
    if name == "latency":
        in_time = f'{metrics.REQUEST_SECONDS}_bucket{{le="{edge(slo.latency.seconds)}"}}'
        return {in_time: good, f"{metrics.REQUEST_SECONDS}_count": every}
    unsure = f'{metrics.LINE_CONFIDENCE}_bucket{{le="{edge(slo.confidence.above)}"}}'
    return {unsure: bad, f"{metrics.LINE_CONFIDENCE}_count": every}


def _health_scenarios(slo: SloFile) -> list[Scenario]:
    up, requests, waiting = f'up{{job="{JOB}",instance="a:3000"}}', metrics.REQUESTS, metrics.IN_FLIGHT
    down = {"job": JOB, "instance": "a:3000"}
    alerts = {(alert.name, dict(alert.labels).get("slo")): alert for alert in health_alerts(slo)}

    def release(digest: str, instance: str) -> str:
        return f'{metrics.RELEASE_INFO}{{digest="{digest}",instance="{instance}"}}'

    def model(digest: str) -> str:
        return f'{metrics.MODEL_INFO}{{task="detection",digest="{digest}"}}'

    def attested(task: str, instance: str) -> str:
        return f'{metrics.MODEL_ATTESTED}{{task="{task}",provider="cpu",instance="{instance}"}}'

    def scene(
        name: str, title: str, series: Mapping[str, str], *, fires: bool, slo: str | None = None, **labels: str
    ) -> Scenario:
        return Scenario(title, alerts[name, slo], fires, series, 3 * EVALUATED, labels=labels)

    answered = {requests: "0+9x190", metrics.LINES: "0+90x190"}
    measured = {
        f"{metrics.REQUEST_SECONDS}_{part}": "0+9x190"
        for part in ("count", f'bucket{{le="{edge(slo.latency.seconds)}"}}')
    }
    read = {
        f"{metrics.LINE_CONFIDENCE}_{part}": "0+90x190"
        for part in ("count", f'bucket{{le="{edge(slo.confidence.above)}"}}')
    }
    return [
        scene("OcrTargetDown", "down for minutes", {up: "1x90 0x100"}, fires=True, **down),
        scene("OcrTargetDown", "up", {up: "1x190"}, fires=False),
        scene("OcrTargetDown", "one scrape missed", {up: "1x179 0x10"}, fires=False),
        scene("OcrNoTarget", "no target at all", {}, fires=True, job=JOB),
        scene("OcrNoTarget", "a target, though down", {up: "0x190"}, fires=False),
        scene("OcrAbsent", "no metrics at all", {}, fires=True),
        scene("OcrAbsent", "metrics that vanished", {release("x", "a"): "1x60 _x130"}, fires=True),
        scene("OcrAbsent", "served, without traffic", {release("x", "a"): "1x190"}, fires=False),
        scene("OcrStuck", "documents wait", {waiting: "3x190", requests: "50x190"}, fires=True),
        scene("OcrStuck", "none was ever answered", {waiting: "3x190"}, fires=True),
        scene("OcrStuck", "busy", {waiting: "3x190", requests: "0+9x190"}, fires=False),
        scene("OcrStuck", "idle", {waiting: "0x190", requests: "50x190"}, fires=False),
        scene("OcrReleaseMismatch", "two", {release("x", "a"): "1x190", release("y", "b"): "1x190"}, fires=True),
        scene("OcrReleaseMismatch", "one", {release("x", "a"): "1x190", release("x", "b"): "1x190"}, fires=False),
        scene(
            "OcrReleaseMismatch", "roll-out", {release("x", "a"): "1x179", release("y", "a"): "_x170 1x20"}, fires=False
        ),
        scene("OcrModelMismatch", "two", {model("x"): "1x190", model("y"): "1x190"}, fires=True, task="detection"),
        scene("OcrModelMismatch", "one", {model("x"): "1x190"}, fires=False),
        scene(
            "OcrUnattested",
            "one of two machines",
            {attested("detection", "a"): "1x190", attested("detection", "b"): "0x190"},
            fires=True,
            task="detection",
            provider="cpu",
        ),
        scene("OcrUnattested", "all are", {attested("detection", "a"): "1x190"}, fires=False),
        scene("OcrUnattested", "mended", {attested("recognition", "a"): "0x90 1x100"}, fires=False),
        scene("OcrAuditLost", "a disk that fills", {metrics.AUDIT_LOST: "0x175 7x15"}, fires=True),
        scene("OcrAuditLost", "nothing lost", {metrics.AUDIT_LOST: "0x190"}, fires=False),
        scene("OcrAuditLost", "room again for an hour", {metrics.AUDIT_LOST: "0x90 7x100"}, fires=False),
        scene("OcrUnmeasured", "no durations", answered | read, fires=True, slo="latency"),
        scene("OcrUnmeasured", "no confidences", answered | measured, fires=True, slo="confidence"),
        scene("OcrUnmeasured", "all measured", answered | measured | read, fires=False, slo="latency"),
        scene("OcrUnmeasured", "no traffic", {requests: "50x190"}, fires=False, slo="latency"),
    ]
