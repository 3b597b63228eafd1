"""The SLO file: what may be promised, and how a wrong promise is refused."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.utils import floatToGoString

from ocr_ops.core.errors import BadRecord
from ocr_ops.core.metrics import CONFIDENCE_BUCKETS, SECONDS_BUCKETS
from ocr_ops.monitor.rules import edge
from ocr_ops.monitor.slo import SloFile
from tests.monitor.promises import SLO, promise


def test_the_committed_file_is_sound() -> None:
    """monitoring/slo.toml reads."""
    assert SLO.availability.budget == pytest.approx(1 - SLO.availability.objective)


@pytest.mark.parametrize(
    "changes",
    [
        {"latency": {"objective": 0.95, "seconds": 4.0}},
        {"confidence": {"objective": 0.8, "above": 0.77}},
        {"confidence": {"objective": 0.8, "above": 1.0}},
        {"availability": {"objective": 1.0}},
        {"availability": {"objective": 0.9, "window": "30 days"}},
        {"scrape": {"targets": []}},
        {"scrape": {"targets": ["no port"]}},
        {"accuracy": {"objective": 0.9}},
    ],
)
def test_what_cannot_be_measured_cannot_be_promised(changes: dict[str, Any]) -> None:
    """A limit between two bucket edges, an objective without a budget or an unknown table is a `BadRecord`."""
    with pytest.raises(BadRecord):
        promise(**changes)


def test_the_refusal_names_the_edges() -> None:
    """Whoever names a limit between two edges is told which there are."""
    with pytest.raises(BadRecord, match=r"4\.0 is no bucket edge.*3\.0, 5\.0"):
        promise(latency={"objective": 0.95, "seconds": 4.0})


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    """A missing or broken file is one readable line."""
    (tmp_path / "slo.toml").write_text("[availability")
    for name in ("slo.toml", "absent.toml"):
        with pytest.raises(BadRecord, match=name):
            SloFile.read(tmp_path / name)


def test_edges_are_written_as_the_client_writes_them() -> None:
    """Rules select buckets by the very text of the label `le`."""
    for value in (*SECONDS_BUCKETS, *CONFIDENCE_BUCKETS):
        assert edge(value) == floatToGoString(value)  # type: ignore[no-untyped-call]
