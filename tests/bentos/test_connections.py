"""Connections of a real server, on which nothing comes forward, or an answer comes early."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.connections import HeardOut, Watched
from ocr_ops.release.server import Server

LONG = 600
BODY = 16 * 2**20
"""Bytes: more than a connection's buffers hold."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Turns away what is posted before it is received; what is long is too long for those who do not read."""
    if scope["method"] == "POST" and scope["path"] == "/read":
        await Response(str(len(await Request(scope, receive).body())))(scope, receive, send)
    elif scope["method"] == "POST":
        await PlainTextResponse("not now", 503)(scope, receive, send)
    else:
        await Response(bytes(BODY) if scope["path"] == "/long" else b"well")(scope, receive, send)


@contextmanager
def serving(
    served: ASGIApp, *, patience: float = LONG, idle: int = LONG, kept: int = 0, held: list[set[object]] | None = None
) -> Iterator[tuple[str, int]]:
    """The address of a server whose connections have so much time; `held` gets those it holds."""
    protocol = type("Hasty", (Watched,), {"patience": patience, "idle": idle})
    server = uvicorn.Server(
        uvicorn.Config(served, http=protocol, lifespan="off", log_config=None, timeout_keep_alive=kept)
    )
    if held is not None:
        held.append(server.server_state.connections)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=60) as connection:
        yield connection


def ask(connection: socket.socket, path: str = "/") -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def heard(connection: socket.socket, ending: bytes) -> bytes:
    """What comes until `ending` has come."""
    found = b""
    while not found.endswith(ending):
        more = connection.recv(65536)
        assert more, found
        found += more
    return found


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def send_on(connection: socket.socket, part: bytes = b"10000\r\n" + bytes(65536) + b"\r\n") -> None:
    """Parts of a body, or of something else, until the connection ends."""
    for _ in count():
        connection.sendall(part)


def test_an_idle_connection_outlives_a_head_that_never_ends() -> None:
    """Also where both are used again, and one never was."""
    with serving(app, patience=0.1) as address, connected(address) as idle, connected(address) as slow:
        for connection in (idle, slow):
            ask(connection)
            heard(connection, b"well")
        slow.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        assert closed(slow)
        with connected(address) as silent:
            assert closed(silent)
        ask(idle)
        heard(idle, b"well")


@pytest.mark.parametrize("part", [b"a" * 1000, b"X-More: 1\r\n" * 100], ids=["one field", "many"])
def test_a_head_without_an_end_is_turned_away(part: bytes) -> None:
    """Long before it fills the memory."""
    with serving(app) as address, connected(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        with pytest.raises(ConnectionError):
            send_on(connection, part)


def test_who_offers_another_protocol_is_served_in_this_one() -> None:
    """As Java's client does with every request, on one connection."""
    head = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    with serving(app) as address, connected(address) as connection:
        for _ in range(2):
            connection.sendall(b"POST /read HTTP/1.1\r\n" + head + b"Content-Length: 3\r\n\r\nabc")
            heard(connection, b"\r\n\r\n3")
            connection.sendall(b"GET / HTTP/1.1\r\n" + head + b"\r\n")
            heard(connection, b"well")


@pytest.mark.parametrize(("idle", "kept"), [(1, 0), (0, 1)])
def test_an_idle_connection_is_closed_in_its_time(idle: int, kept: int) -> None:
    """In order, and not before: the longer of ours and what `bentoml serve --timeout-keep-alive` says."""
    with serving(app, idle=idle, kept=kept) as address, connected(address) as connection:
        ask(connection)
        start = time.monotonic()
        heard(connection, b"well")
        assert connection.recv(1) == b""
        assert time.monotonic() - start >= 0.9


@pytest.mark.parametrize("ends", [False, True], ids=["kept", "to be closed"])
def test_an_answer_that_nobody_takes_is_not_kept(ends: bool) -> None:
    """Neither on a connection that has been used before."""
    held: list[set[object]] = []
    with serving(app, patience=0.1, held=held) as address, connected(address) as connection:
        ask(connection)
        heard(connection, b"well")
        assert held[0]
        last = b"Connection: close\r\n" if ends else b""
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n" + last + b"\r\n")
        end = time.monotonic() + 60
        while held[0]:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_who_is_turned_away_while_sending_gets_to_see_why(connection: str) -> None:
    """However much is still to be sent, and then a new request is answered where the connection is kept."""
    with serving(HeardOut(app)) as address, connected(address) as client:
        head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\nContent-Length: {BODY}\r\n\r\n"
        client.sendall(head.encode())
        answer = heard(client, b"not now")
        assert answer.startswith(b"HTTP/1.1 503 ")
        client.sendall(bytes(BODY))
        if connection == "close":
            assert client.recv(1) == b""
        else:
            ask(client)
            heard(client, b"well")


def test_a_body_that_is_wanted_is_received_whole() -> None:
    with serving(HeardOut(app)) as address, connected(address) as client:
        client.sendall(f"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n".encode() + bytes(BODY))
        heard(client, str(BODY).encode())


def test_who_asked_before_sending_and_is_turned_away_is_told_that_the_connection_ends() -> None:
    """It will not send what it announced, and whatever it sent next would be taken for that."""
    with serving(HeardOut(app)) as address, connected(address) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert b"connection: close\r\n" in heard(client, b"not now")


@pytest.mark.parametrize("limit", [{"most": 2**20}, {"seconds": 0}], ids=["bytes", "seconds"])
def test_not_all_that_somebody_sends_is_heard_out(limit: dict[str, int]) -> None:
    """A body without an end, of one who has had an answer."""
    with serving(HeardOut(app, **limit), patience=0.1) as address, connected(address) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        heard(client, b"not now")
        with pytest.raises(ConnectionError):
            send_on(client)


def test_the_service_says_no_to_a_body_that_is_still_coming(server: Server) -> None:
    """To one it does not take, on a connection that then ends."""
    host, port = server.url.removeprefix("http://").split(":")
    with connected((host, int(port))) as client:
        head = (
            f"POST /v1/nothing HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nContent-Length: {BODY}\r\n\r\n"
        )
        client.sendall(head.encode() + bytes(BODY))
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"}")
