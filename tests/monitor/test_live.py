"""Rules and dashboard against a live Prometheus that scrapes the toolkit's own telemetry."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ocr_ops.core.release import Release
from ocr_ops.monitor.dashboard import RATE
from ocr_ops.monitor.generate import DASHBOARD_FILE, PROMETHEUS_FILE, generate
from ocr_ops.monitor.rules import indicators
from tests.monitor.promises import ROOT, SLO

DEADLINE = 60.0
"""Seconds; it takes about six."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str
    folder: Path

    def api(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expr: str) -> list[Any]:
        result: list[Any] = self.api("query", query=expr.replace(RATE, "30s"))["result"]
        return result


@pytest.fixture(scope="module")
def prometheus(tiny_release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that has scraped the exporter and evaluated every rule at least twice."""
    program = shutil.which("prometheus")
    assert program, "no prometheus; `make test` installs it (Debian: apt-get install prometheus)"
    folder = tmp_path_factory.mktemp("prometheus")
    with contextlib.ExitStack() as stack:
        exporter = stack.enter_context(_running(sys.executable, "-m", "tests.monitor.exporter", str(tiny_release.path)))
        assert exporter.stdout
        target = f"127.0.0.1:{int(exporter.stdout.readline())}"
        scrape = SLO.scrape.model_copy(update={"targets": (target,), "alertmanagers": (), "interval": "1s"})
        generate(SLO.model_copy(update={"scrape": scrape}), folder)
        port = _free_port()
        stack.enter_context(
            _running(
                program,
                f"--config.file={folder / PROMETHEUS_FILE}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            )
        )
        server = Prometheus(f"http://127.0.0.1:{port}", folder)
        # Each group of rules has its own clock: wait for the last rule of every objective.
        _until(lambda: len(server.query("ocr:budget_left:ratio")) == len(indicators(SLO)))
        _until(lambda: all(rule["health"] == "ok" for rule in _rules(server)))
        yield server


def test_every_rule_evaluates(prometheus: Prometheus) -> None:
    """Prometheus loaded all rules and evaluated each without an error."""
    rules = _rules(prometheus)

    assert len(rules) > 20
    assert [rule for rule in rules if rule.get("lastError")] == []


def test_every_recorded_share_has_a_value(prometheus: Prometheus) -> None:
    """A third of the documents failed, none was late, half the lines were doubtful."""
    shares = {series["metric"]["slo"]: float(series["value"][1]) for series in prometheus.query("ocr:bad_share:rate5m")}

    assert shares == pytest.approx({"availability": 1 / 3, "latency": 0.0, "confidence": 1 / 2})


def test_only_what_is_wrong_alerts(prometheus: Prometheus) -> None:
    """The failures set the availability alerts off, lost entries theirs; nothing else is wrong with this service."""
    names = {"OcrAuditLost", "OcrAvailabilityBurnFast", "OcrAvailabilityBurnSlow", "OcrConfidenceBurnSlow"}
    _until(lambda: _alerts(prometheus) == names)


def test_every_panel_shows_something(prometheus: Prometheus) -> None:
    """Each query of the dashboard parses, and finds series in what the services expose."""
    board = json.loads((prometheus.folder / DASHBOARD_FILE).read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    queries = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]

    assert len(queries) >= len(panels) > 15
    empty = [title for title, expr in queries if not prometheus.query(expr)]
    assert empty == []


def _rules(server: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in server.api("rules")["groups"] for rule in group["rules"]]


def _alerts(server: Prometheus) -> set[str]:
    return {alert["labels"]["alertname"] for alert in server.api("alerts")["alerts"]}


@contextlib.contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until(condition: Callable[[], object]) -> None:
    """Polls until the condition holds; the deadline is an error."""
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(httpx.TransportError, AssertionError):
            if condition():
                return
        assert time.monotonic() < deadline, "the deadline passed"
        time.sleep(0.2)
