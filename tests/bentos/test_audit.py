"""The auditor: events are on the disk in their order, and a disk that takes none stops nobody."""

import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from bentos.audit import Auditor
from ocr_ops.core import metrics
from ocr_ops.core.audit import AuditLog, Event


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def event(number: int) -> Event:
    return Event(caller="key", action="POST /v1/ocr", outcome="done", status=200, pages=number)


def lost() -> float:
    return REGISTRY.get_sample_value(metrics.AUDIT_LOST) or 0


def recorded(log: AuditLog, *numbers: int) -> None:
    """As a service that ends: it waits for what is to be written."""
    auditor = Auditor(log)
    for number in numbers:
        auditor.record(event(number))
    auditor._pool.shutdown(wait=True)


def test_a_full_disk_loses_events_and_counts_them(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log tells, though not of each; what is on the disk stays sound, and the log goes on once there is room."""
    log = AuditLog(disk / "audit")
    recorded(log, 0, 1)
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while free := shutil.disk_usage(disk).free:
            file.write(bytes(free))
    before = lost()
    with caplog.at_level(logging.ERROR):
        recorded(log, *range(2, 202))
    kept = [entry.event.pages for entry in log.entries()]
    assert kept == sorted(kept)
    assert lost() - before >= 202 - len(kept) > 0
    assert "No space" in caplog.text
    assert len(caplog.records) < 20
    filler.unlink()
    recorded(log, 202)
    assert [entry.event.pages for entry in log.entries()] == [*kept, 202]
    assert log.verify().last == len(kept) + 1
