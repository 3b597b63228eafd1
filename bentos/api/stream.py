"""Streams: answers that come in parts, as lines of JSON or as server-sent events."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bentos.api.accept import EVENTS
from bentos.api.problems import Problem, failed, problem_of
from bentos.api.serving import left
from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.record import Told, Value

log = logging.getLogger("bentoml.ocr_ops")

BEAT_SECONDS = 10.0
"""Between two signs of life, so that nothing on the way takes a long page for a dead connection."""


class ProblemEvent(Told):
    """Ends a stream that cannot go on. What came before it stands."""

    event: Literal["problem"] = "problem"
    problem: Problem


class Stream(Response):
    """Sends events as they come. What they come from, and all that `held` holds, ends with it, also when the caller
    leaves; an error becomes the last event.
    """

    def __init__(
        self,
        request: Request,
        kind: str,
        events: AsyncGenerator[Value, None],
        held: AsyncExitStack,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # nginx would hold events back until it has a buffer full of them.
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})}, kind)
        del self.headers["content-length"]
        self.request = request
        self.kind = kind
        self.events = events
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        watch = asyncio.create_task(left(self.request))
        try:
            async with self.held, aclosing(self.events):
                while (event := await self._next(send, watch)) is not None:
                    await self._send(send, encoded(event, self.kind))
        except OcrOpsError as error:
            await self._send(send, encoded(self._problem(error), self.kind))
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("request %s failed in its stream", self.request.state.request_id)
            await self._send(send, encoded(self._problem(failed()), self.kind))
        finally:
            watch.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _next(self, send: Send, watch: asyncio.Task[None]) -> Value | None:
        """The next event; `ClientDisconnect` when the caller leaves while it is awaited."""
        coming = asyncio.create_task(_taken(self.events))
        try:
            while not coming.done():
                done, _ = await asyncio.wait((coming, watch), timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if watch in done:
                    raise ClientDisconnect
                if not done and self.kind == EVENTS:
                    await self._send(send, b": still reading\n\n")
            return coming.result()
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    def _problem(self, error: OcrOpsError) -> ProblemEvent:
        return ProblemEvent(problem=problem_of(error, self.request.state.request_id))

    async def _send(self, send: Send, data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _taken(events: AsyncGenerator[Value, None]) -> Value | None:
    return await anext(events, None)


def encoded(event: Value, kind: str) -> bytes:
    """An event as a line, or as a server-sent event of its name."""
    text = event.model_dump_json(exclude_none=True).encode()
    name = getattr(event, "event", "message").encode()
    return b"event: " + name + b"\ndata: " + text + b"\n\n" if kind == EVENTS else text + b"\n"
