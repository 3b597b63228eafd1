import asyncio

import pytest
from bentoml._internal.container import BentoMLContainer
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

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


@pytest.mark.parametrize("exporter", [None, "zipkin"])
def test_nothing_is_traced_where_traces_are_sent_nowhere(monkeypatch: pytest.MonkeyPatch, exporter: str | None) -> None:
    """And all is, where they are sent somewhere."""

    async def traced(_: object, scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("traced")(scope, receive, send)

    monkeypatch.setattr(OpenTelemetryMiddleware, "__call__", traced)
    setting = BentoMLContainer.tracing.exporter_type
    setting.set(exporter)
    try:
        step_over_layers()
    finally:
        setting.set(None)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(OpenTelemetryMiddleware(PlainTextResponse("read"))({"type": "http"}, receive, send))
    assert sent[-1]["body"] == (b"traced" if exporter else b"read")
