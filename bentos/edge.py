"""The edge: where BentoML hands the entry service's requests over to the API."""

from typing import Any

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.champion import switch, workers
from bentos.connections import watch_connections
from bentos.evenly import evenly
from bentos.layers import step_over_layers

LOGGED = switch("OCR_OPS_ACCESS_LOG")


def edged(service: Any) -> Any:
    """Decorator of the entry service: puts `Edge` around it."""
    step_over_layers()
    watch_connections()
    service.add_asgi_middleware(Edge)
    return service


class Edge:
    """The entry service's own middleware: the API answers, BentoML's app only what is not in it."""

    def __init__(self, app: ASGIApp) -> None:
        from bentos.api.app import around  # where it is needed alone, as in `Gateway`

        self.others = app
        self.api = evenly(around(app, logged=LOGGED), workers("gateway"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.others(scope, receive, send)
            return
        state = {**scope.get("state", {}), "gateway": bentoml.get_current_service()}
        await self.api({**scope, "state": state}, receive, send)
