"""Streams: what is sent while a document is read, and how it ends."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

import bentos.api.stream as streams
from bentos.api.accept import EVENTS, NDJSON
from bentos.api.ocr import DoneEvent
from bentos.api.stream import Stream
from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.record import Value

EVENT = DoneEvent(pages=3)


class Client:
    """One who hears a stream, and leaves once so many messages have come."""

    def __init__(self, patience: int = 1000) -> None:
        self.patience = patience
        self.heard: list[Message] = []
        self.gone = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.heard.append(message)
        if len(self.heard) >= self.patience:
            self.gone.set()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def hear(self, events: AsyncGenerator[Value, None], kind: str, held: AsyncExitStack) -> bytes:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "state": {"request_id": "r1"}}
        await Stream(Request(scope, self.receive), kind, events, held)(scope, self.receive, self.send)
        return b"".join(message.get("body", b"") for message in self.heard)


async def three(*, error: Exception | None = None) -> AsyncGenerator[Value, None]:
    for _ in range(3):
        yield EVENT
    if error is not None:
        raise error


async def endless(ended: asyncio.Event) -> AsyncGenerator[Value, None]:
    try:
        yield EVENT
        await asyncio.Event().wait()
    finally:
        ended.set()


def heard(events: AsyncGenerator[Value, None], kind: str = NDJSON) -> bytes:
    async def hear() -> bytes:
        return await Client().hear(events, kind, AsyncExitStack())

    return asyncio.run(hear())


def test_events_are_lines_or_server_sent() -> None:
    assert [json.loads(line) for line in heard(three()).splitlines()] == [{"event": "done", "pages": 3}] * 3
    assert heard(three(), EVENTS) == b'event: done\ndata: {"event":"done","pages":3}\n\n' * 3


@pytest.mark.parametrize(
    ("error", "status"), [(UnreadableDocument("a", "torn", "whole", "again", 413), 413), (RuntimeError("secret"), 500)]
)
def test_an_error_is_the_last_event(error: Exception, status: int) -> None:
    body = heard(three(error=error))
    last = json.loads(body.splitlines()[-1])
    assert (last["event"], last["problem"]["status"]) == ("problem", status)
    assert last["problem"]["instance"] == "urn:ocr-ops:request:r1"
    assert b"secret" not in body


def test_what_is_held_sees_how_it_ended() -> None:
    """Whoever counts documents counts this one as failed."""
    seen: list[BaseException | None] = []
    error = UnreadableDocument("a", "torn", "whole", "again")

    async def hear() -> None:
        held = AsyncExitStack()
        held.push(lambda *parts: seen.append(parts[1]))
        await Client().hear(three(error=error), NDJSON, held)

    asyncio.run(hear())
    assert seen == [error]


def test_a_caller_who_leaves_ends_the_work() -> None:
    async def hear() -> None:
        ended = asyncio.Event()
        with pytest.raises(ClientDisconnect):
            await Client(patience=2).hear(endless(ended), NDJSON, AsyncExitStack())
        assert ended.is_set()

    asyncio.run(hear())


def test_a_long_page_sends_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, which readers of server-sent events skip; a line of JSON would be an event."""
    monkeypatch.setattr(streams, "BEAT_SECONDS", 0.01)

    async def hear(kind: str, patience: int) -> list[bytes]:
        client = Client(patience)
        with pytest.raises(ClientDisconnect):
            async with asyncio.timeout(20):
                await client.hear(endless(asyncio.Event()), kind, AsyncExitStack())
        return [message["body"] for message in client.heard[2:]]

    assert set(asyncio.run(hear(EVENTS, 6))) == {b": still reading\n\n"}
    assert asyncio.run(hear(NDJSON, 2)) == []
