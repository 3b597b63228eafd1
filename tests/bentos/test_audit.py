"""The auditor: events are on the disk in their order, and a disk that takes none stops nobody."""

import asyncio
import logging
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bentos.api.operations import Dispatch, Operation, Table
from bentos.api.problems import Problems
from bentos.audit import Audited, Auditor
from bentos.usage import Usage
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


def filled(disk: Path) -> Path:
    """The file that takes all its room."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while free := shutil.disk_usage(disk).free:
            file.write(bytes(free))
    return filler


def test_a_full_disk_loses_events_and_counts_them(disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log tells, though not of each; what is on the disk stays sound, and the log goes on once there is room."""
    log = AuditLog(disk / "audit")
    recorded(log, 0, 1)
    filler = filled(disk)
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


async def read(_: Request) -> Response:
    return PlainTextResponse("what was read")


async def pages(request: Request) -> Response:
    usage: Usage = request.state.usage

    async def told() -> AsyncIterator[str]:
        for page in ("one", "two"):
            await usage.read()
            yield page

    return StreamingResponse(told())


TABLE = Table(
    Operation("GET", f"/{handler.__name__}", handler, "", role="read", answers={}) for handler in (read, pages)
)


async def asked(auditor: Auditor, path: str) -> httpx.Response:
    """Of a service whose auditor it is."""
    audited = Audited(Problems(Dispatch(PlainTextResponse())))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        match = TABLE.match("GET", path)
        state = {"match": match, "request_id": "a", "gateway": SimpleNamespace(auditor=auditor)}
        await audited({**scope, "state": state}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        return await client.get(path)


def test_nobody_is_answered_unrecorded_where_that_is_required(disk: Path) -> None:
    """A full disk is a problem told without a word of the answer, or a path; once there is room all goes on."""
    auditor = Auditor(AuditLog(disk / "audit"), required=True)
    assert asyncio.run(asked(auditor, "/read")).text == "what was read"
    filler = filled(disk)
    answers = [asyncio.run(asked(auditor, path)) for path in ("/read", "/pages") * 20]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused
    for answer in refused:
        assert answer.json()["subject"] == "audit log"
        assert "No space" in answer.json()["detail"]
        assert str(disk) not in answer.text
        assert answer.headers["retry-after"] == "1"
    filler.unlink()
    assert asyncio.run(asked(auditor, "/read")).status_code == 200
    auditor._pool.shutdown(wait=True)
    answered = [entry for entry in auditor.log.entries() if entry.event.status == 200]
    assert len(answered) >= 2 + len(answers) - len(refused)
    auditor.log.verify()


def test_an_entry_is_there_before_the_answer_and_what_became_of_it_follows(tmp_path: Path) -> None:
    """Of a stream, whose pages are still to be read when it begins; a whole answer has one."""
    auditor = Auditor(AuditLog(tmp_path / "audit"), required=True)
    for path in ("/read", "/pages"):
        assert asyncio.run(asked(auditor, path)).status_code == 200
    auditor._pool.shutdown(wait=True)
    told = [(entry.event.action, entry.event.outcome, entry.event.pages) for entry in auditor.log.entries()]
    assert told == [("GET /read", "done", 0), ("GET /pages", "done", 0), ("GET /pages", "done", 2)]
