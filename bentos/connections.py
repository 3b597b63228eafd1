"""Connections: kept for whoever comes back, closed once they bring nothing forward, and never before a client had its
answer. Many of them, held open by trickling bytes, would be all we have.

uvicorn alone closes an idle one after five seconds, as many clients and balancers let go of theirs: some then send on
one that is just being closed. One whose request never ends its head, or whose client never takes its answer, it keeps
for ever; and one that it closes with a body still coming is reset, which may take the answer along.

It is uvicorn's with h11 that is watched, also where httptools is installed. That is faster, but loses the body of a
client that offers HTTP/2 beside it, as Java's does with every request.
"""

import asyncio
import resource
import time
from asyncio import TimerHandle

import h11
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_SECONDS = 10.0
"""For the head of a request, between two times that a client takes of its answer, and between two parts of a body that
nobody needs."""
IDLE_SECONDS = 75
"""Between two requests: nginx lets go of a connection after 60 s, other balancers too, clients sooner."""
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2, unless `--ssl-ciphers` names others: BentoML's own choice is those of TLS 1.0 alone, CBC with SHA-1."""
UNHEARD_SECONDS = 60.0
"""For a body that nobody needs: as long as one that is read has."""
UNHEARD_BYTES = 128 * 2**20
"""Of such a body: twice the largest that is taken."""


class Watched(H11Protocol):
    """uvicorn's connection, watched. A body that does not come is the API's to give up on."""

    patience = PATIENCE_SECONDS
    idle = IDLE_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.timeout_keep_alive = max(self.timeout_keep_alive, self.idle)
        self._watch: TimerHandle = self.loop.call_later(self.patience, self._look, self._state())

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.cancel()
        self._unset_keepalive_if_required()  # after a reset, uvicorn would leave it, and all it holds
        super().connection_lost(exc)

    def _look(self, before: object) -> None:
        now = self._state()
        if now is not None and now == before:
            self.transport.abort()
        self._watch = self.loop.call_later(self.patience, self._look, now)

    def _state(self) -> object:
        """What must change for the connection to be worth its keep; None while it is ours, or uvicorn's, to go on."""
        if unsent := self.transport.get_write_buffer_size():
            return "unsent", unsent
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        # uvicorn's own limit runs until a byte comes, be it of a head that never ends.
        idle = self.timeout_keep_alive_task is not None and self.conn.their_state is h11.IDLE
        return None if idle else ("head", self.cycle)


class HeardOut:
    """Middleware: reads on what a client still sends once its answer is there, before the connection may be closed.

    One who is turned away before the document was received gets to see why: what comes in for a closed connection is
    answered with a reset, and many clients then forget what they have received.
    """

    def __init__(self, app: ASGIApp, seconds: float = UNHEARD_SECONDS, most: int = UNHEARD_BYTES) -> None:
        self.app = app
        self.seconds = seconds
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, more, held = False, True, False

        async def hear() -> Message:
            nonlocal begun, more
            message = await receive()
            begun, more = True, message.get("more_body", False)
            return message

        async def say(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and not begun and "expect" in Headers(scope=scope):
                # Who asked before sending need not send any more, and then could not go on with another request.
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            elif message["type"] == "http.response.body" and more and not message.get("more_body", False):
                held, message = True, {**message, "more_body": True}
            await send(message)

        await self.app(scope, hear, say)
        if held:
            left, until = self.most, time.monotonic() + self.seconds
            try:
                while more and left > 0 and time.monotonic() < until:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        left -= len((await hear()).get("body", b""))
            except TimeoutError:
                pass
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def watch_connections() -> None:
    """From now on, of this process's servers."""
    auto.AutoHTTPProtocol = Watched


def allow_many() -> None:
    """Lets this process, and those it starts, hold as many connections as the system allows it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
