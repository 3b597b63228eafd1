import asyncio

from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope

from bentos.layers import step_over_layers


def test_a_request_that_was_answered_leaves_no_timer() -> None:
    """It would hold the request's memory for as long as BentoML lets requests take."""
    scope: Scope = {"type": "http"}
    step_over_layers()

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


def test_nothing_is_traced_where_traces_are_sent_nowhere() -> None:
    step_over_layers()
    traced: list[object] = []

    async def ask() -> None:
        app = OpenTelemetryMiddleware(
            PlainTextResponse("read"), server_request_hook=lambda *about: traced.append(about)
        )
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        await app(scope, receive, send)
        assert sent[-1]["body"] == b"read"

    asyncio.run(ask())
    assert not traced
