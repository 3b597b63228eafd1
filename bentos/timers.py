"""BentoML's own time limit, taken out: each request would hold what it had until the limit has passed.

Its middleware sets a timer for every request and never takes it back, however soon the answer is there: at a hundred
calls a second, and ten minutes, gigabytes. Our deadlines end what takes too long, and go with their requests.
"""

from typing import Any

from bentoml._internal.server.http.traffic import TimeoutMiddleware
from starlette.types import Receive, Scope, Send


def hold_no_timers() -> None:
    """From now on, in this process."""

    async def through(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    TimeoutMiddleware.__call__ = through
