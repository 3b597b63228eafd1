"""The hop between the services of one Bento, set up so that no call is lost on it.

BentoML's client behind `bentoml.depends` loses calls in two ways (1.4.31 to 1.4.39 at least; measured here
with 1.4.39: 463 of 2,000 at concurrency 32):

- Every `max_requests` (100) calls, or `max_age` (300 s), it closes its session with calls in flight. Both are
  settings of the service that is called: `CONNECTION` puts them beyond reach.
- It keeps idle connections for 15 s, the server for 5 s: a call may go out on one that is just being closed,
  and a POST is not tried again. `OneCallAConnection` lets the server close each after its answer: a Unix
  socket is cheap to open, next to a model call.
"""

from typing import Any

from _bentoml_impl.client import RemoteProxy
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ocr_ops.core.errors import OutsideSystem

CONNECTION = {"max_requests": 2**31 - 1, "max_age": 1e9}
"""For `@bentoml.service(runner_connection=...)` of every service that others depend on."""


class OneCallAConnection:
    """Middleware: each answer ends its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self.app(scope, receive, send_and_close if scope["type"] == "http" else send)


def one_call_a_connection(service: Any) -> Any:
    """Decorator of every service that others depend on: one call a connection."""
    service.add_asgi_middleware(OneCallAConnection)
    return service


def calls(dependency: Any) -> Any:
    """The async client of a dependency, known to keep its session for good.

    Raises `OutsideSystem` when the installed BentoML, or a configuration file, would have it rotate.
    """
    client = dependency.to_async
    if isinstance(dependency, RemoteProxy):  # else both services share a process, and there is no hop
        sessions = getattr(client, "_session_manager", None)
        found = {name: getattr(sessions, name, None) for name in CONNECTION}
        if found != CONNECTION:
            raise OutsideSystem(
                f"BentoML's client of {client.url}",
                f"{found}",
                f"{CONNECTION}: a rotating session loses calls",
                "install the pinned BentoML, and leave runner_connection alone in BENTOML_CONFIG",
            )
    return client
