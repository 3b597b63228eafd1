"""Connections that bring nothing forward are closed: many of them, held open by trickling bytes, would be all we have.

uvicorn closes those that are idle between two requests; not those whose request never ends its head, nor those whose
client never takes its answer. A body that does not come is the API's to give up on.
"""

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

PATIENCE_SECONDS = 10.0
"""For the head of a request, and between two times that a client takes of its answer."""


def close_stalled(patience: float = PATIENCE_SECONDS) -> None:
    """From now on, of this process's servers."""
    protocol: Any = AutoHTTPProtocol
    made = protocol.connection_made

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        made(self, transport)
        _look_later(self, patience, _state(self))

    protocol.connection_made = connection_made


def allow_many() -> None:
    """Lets this process, and those it starts, hold as many connections as the system allows it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _look_later(connection: Any, patience: float, before: object) -> None:
    asyncio.get_running_loop().call_later(patience, _look, connection, patience, before)


def _look(connection: Any, patience: float, before: object) -> None:
    if connection.transport.is_closing():
        return
    now = _state(connection)
    if now is not None and now == before:
        connection.transport.abort()
    else:
        _look_later(connection, patience, now)


def _state(connection: Any) -> object:
    """What must change for the connection to be worth its keep; None while it is ours to go on."""
    if unsent := connection.transport.get_write_buffer_size():
        return "unsent", unsent
    cycle = connection.cycle
    return ("head", id(cycle)) if cycle is None or cycle.response_complete else None
