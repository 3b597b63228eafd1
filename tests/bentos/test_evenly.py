import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from bentos.evenly import FILE, Evenly, Shares, evenly
from bentos.lending import GROUP


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """As the group has it before any worker starts."""
    made = tmp_path / FILE
    made.touch()
    return made


OTHER = """
import sys
from pathlib import Path
from bentos.evenly import Shares
shares = Shares(Path(sys.argv[1]), 2)
for line in sys.stdin:
    shares.add(int(line))
    print(shares.too_many(), flush=True)
"""


class Other:
    """Another worker of the group, in a process of its own."""

    def __init__(self, file: Path) -> None:
        command = [sys.executable, "-c", OTHER, str(file)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.add(0) is False

    def add(self, requests: int) -> bool:
        """And whether it has too many then."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(requests, file=self.process.stdin, flush=True)
        return self.process.stdout.readline() == "True\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_worker_has_too_many_while_the_other_has_room(file: Path) -> None:
    shares, other = Shares(file, 2), Other(file)
    try:
        shares.add(2)
        assert not shares.too_many()  # too few to send anybody away
        shares.add(10)
        assert shares.too_many()
        assert other.add(12) is False
        assert not shares.too_many()
        shares.add(-12)
        assert other.add(0) is True
    finally:
        other.kill()


def test_what_a_killed_worker_had_is_forgotten_by_the_one_in_its_place(file: Path) -> None:
    shares, other = Shares(file, 2), Other(file)
    other.add(100)
    shares.add(10)
    assert not shares.too_many()
    other.kill()
    other = Other(file)
    try:
        assert shares.too_many()
    finally:
        other.kill()


def test_an_answer_of_a_worker_with_too_many_ends_its_connection(file: Path) -> None:
    shares = Shares(file, 2)
    app = Evenly(PlainTextResponse("read"), shares)
    assert b"connection" not in asyncio.run(answered(app))
    shares.add(10)
    assert asyncio.run(answered(app))[b"connection"] == b"close"
    shares.add(-10)
    assert b"connection" not in asyncio.run(answered(app))


def test_a_worker_alone_keeps_everybody(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv(GROUP, str(file.parent))
    app = PlainTextResponse("read")
    assert evenly(app, 1) is app
    assert isinstance(evenly(app, 2), Evenly)


async def answered(app: Evenly) -> dict[bytes, bytes]:
    """The head of an answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    async def receive() -> Message:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b""}

    await app({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
    return dict(sent[0]["headers"])
