"""Alerts: the arithmetic of burn rates, names, scenarios and the runbook."""

import re

import pytest

from ocr_ops.core import metrics
from ocr_ops.monitor.dashboard import panels
from ocr_ops.monitor.rules import BURN_WINDOWS, Alert, Recording, burn_alerts, groups, health_alerts, indicators
from ocr_ops.monitor.scenarios import EVALUATED, scenarios
from ocr_ops.monitor.slo import Objective
from tests.monitor.promises import MONITORING, ROOT, SLO, promise

KNOWN = {value for name, value in vars(metrics).items() if name.isupper() and isinstance(value, str)}
PARTS = {f"{name}_{part}" for name in KNOWN for part in ("bucket", "sum", "count")}


def test_limits_are_those_of_the_workbook() -> None:
    """At 99.9 % over 30 days: 14.4, 6, 3 and 1 times the budget."""
    objective = Objective(objective=0.999, window="30d")

    assert [window.threshold(objective) for window in BURN_WINDOWS] == pytest.approx([0.0144, 0.006, 0.003, 0.001])


def test_an_alert_that_could_never_fire_is_not_written() -> None:
    """With 40 % to spare no share exceeds 14.4 or 6 or 3 times the budget: only the slowest window is left."""
    slo = promise(confidence={"objective": 0.6, "above": 0.8})
    confidence = [alert for alert in burn_alerts(slo) if ("slo", "confidence") in alert.labels]

    assert [alert.name for alert in confidence] == ["OcrConfidenceBurnSlow"]
    assert "rate3d" in confidence[0].expr
    assert "rate1d" not in confidence[0].expr


def test_every_alert_is_seen_to_fire_and_not_to_fire() -> None:
    """Each alert has histories of both kinds, at moments promtool evaluates."""
    seen = {(scene.alert.name, scene.fires) for scene in scenarios(SLO)}
    names = {alert.name for alert in (*burn_alerts(SLO), *health_alerts(SLO))}

    assert seen == {(name, fires) for name in names for fires in (True, False)}
    assert all(scene.minutes % EVALUATED == 0 for scene in scenarios(SLO))


def test_every_alert_has_its_section_in_the_runbook() -> None:
    """And the runbook has no section for an alert that is gone."""
    text = (MONITORING / "runbook.md").read_text()
    alerts = [rule for group in groups(SLO) for rule in group.rules if isinstance(rule, Alert)]
    sections = set(re.findall(r"^## (Ocr\w+)$", text, re.MULTILINE))

    paces = {f"Ocr{indicator.name.title()}Burn{pace}" for indicator in indicators(SLO) for pace in ("Fast", "Slow")}
    assert {alert.name for alert in alerts} <= sections
    assert sections - {alert.name for alert in alerts} <= paces
    assert all(alert.annotations["runbook_url"] == f"{SLO.runbook}#{alert.name.lower()}" for alert in alerts)
    assert (ROOT / SLO.runbook).is_file()


def test_expressions_name_only_metrics_the_services_have() -> None:
    """Rules and panels read what core/metrics.py lists, what the rules record, and `up`."""
    rules = [rule for group in groups(SLO) for rule in group.rules]
    recorded = {rule.record for rule in rules if isinstance(rule, Recording)}
    queries = [expr for row in panels(SLO).values() for panel in row for _, expr in panel.queries]

    for expr in [rule.expr for rule in rules] + queries:
        names = set(re.findall(r"\bocr[_:][\w:]+", expr))
        assert names <= KNOWN | PARTS | recorded, expr
        assert names or "up{" in expr


def test_every_metric_is_shown_somewhere() -> None:
    """What the services measure, the dashboard shows."""
    queries = " ".join(expr for row in panels(SLO).values() for panel in row for _, expr in panel.queries)

    assert {name for name in KNOWN if name not in queries} == set()


def test_windows_of_the_objectives_are_recorded() -> None:
    """The budget left is told over the objective's own window, whatever it is."""
    slo = promise(latency={"objective": 0.95, "seconds": 5.0, "window": "28d"})
    records = {rule.record for group in groups(slo) for rule in group.rules if isinstance(rule, Recording)}

    assert {"ocr:bad_share:rate28d", "ocr:bad_share:rate30d", "ocr:budget_left:ratio"} <= records
