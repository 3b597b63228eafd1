import asyncio

from bentoml._internal.server.http.traffic import TimeoutMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope

from bentos.timers import hold_no_timers


def test_a_request_that_was_answered_leaves_no_timer() -> None:
    """It would hold the request's memory for as long as BentoML lets requests take."""
    scope: Scope = {"type": "http"}
    hold_no_timers()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def ask() -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await TimeoutMiddleware(PlainTextResponse("read"), 600)(scope, receive, send)
        assert sent[-1]["body"] == b"read"
        return len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    assert asyncio.run(ask()) == 0
