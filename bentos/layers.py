"""BentoML's layers around every request that cost here and give nothing: stepped over.

Its time limit sets a timer for every request and never takes it back, however soon the answer is there: at a hundred
calls a second, and ten minutes, gigabytes. Our deadlines end what takes too long, and go with their requests.

Its tracing records three spans or more of each request, also where they are sent nowhere: of the 4.0 ms that
detection's event loop takes for a receipt, 0.8. Where an exporter is named it is left as it is.
"""

from typing import Any

from bentoml._internal.container import BentoMLContainer
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.types import Receive, Scope, Send


def step_over_layers() -> None:
    """From now on, in this process."""

    async def through(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    TimeoutMiddleware.__call__ = through
    if BentoMLContainer.tracing.exporter_type.get() is None:
        OpenTelemetryMiddleware.__call__ = through  # type: ignore[method-assign]
