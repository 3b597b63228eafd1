"""Objectives for the tests: those of the repository, and made-up ones."""

from pathlib import Path
from typing import Any

from ocr_ops.monitor.slo import SloFile

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"
SLO = SloFile.read(MONITORING / "slo.toml")


def promise(**changes: Any) -> SloFile:
    """Sound objectives, with some tables replaced."""
    data = {
        "runbook": "runbook.md",
        "availability": {"objective": 0.995},
        "latency": {"objective": 0.95, "seconds": 5.0},
        "confidence": {"objective": 0.8, "above": 0.8},
        "scrape": {"targets": ["localhost:3000"]},
        **changes,
    }
    return SloFile.parse(data, "slo.toml")
