"""Webhooks reach who they are for, signed, and nobody they are not for."""

import asyncio
import base64
import hashlib
import hmac
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bentos.jobs.webhook import URL_PATTERN, Webhooks, signed
from ocr_ops.core.errors import UsageError

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
TOLD = {"type": "job.done", "job": "a", "pages": 3, "tries": 1}


class Receiver:
    """A web server that writes down what it is sent."""

    def __init__(self, *statuses: int, location: str = "") -> None:
        self.statuses, self.location = list(statuses), location
        self.got: list[tuple[dict[str, str], bytes]] = []

    @contextmanager
    def running(self) -> Iterator[str]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 204)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}/hook"
            server.shutdown()
            thread.join()


def verified(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """As the specification has it, written anew."""
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mac = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), text, hashlib.sha256).digest()
    return headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of https://www.standardwebhooks.com's own libraries."""
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_it_is_sent_signed() -> None:
    receiver = Receiver(200)
    with receiver.running() as url:
        assert asyncio.run(Webhooks(anywhere=True).send(url, SECRET, "a", TOLD))
    [(headers, body)] = receiver.got
    assert verified(headers, body, SECRET)
    assert not verified(headers, body + b" ", SECRET)
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500, 503])
def test_anything_but_success_is_none(status: int) -> None:
    """A redirection is not followed."""
    elsewhere = Receiver()
    with elsewhere.running() as other, (receiver := Receiver(status, location=other)).running() as url:
        assert not asyncio.run(Webhooks(anywhere=True).send(url, SECRET, "a", TOLD))
    assert (len(receiver.got), len(elsewhere.got)) == (1, 0)


def test_nobody_there_is_none() -> None:
    with Receiver().running() as url:
        pass
    assert not asyncio.run(Webhooks(anywhere=True).send(url, SECRET, "a", TOLD))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/",
        "https://[2002:0a00:0001::]/",
        "https://[fec0::1]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://user:pass@example.org/",
        "ftp://example.org/",
        "https://",
        "example.org",
        "https://example.org:port/",
        "https://example.org*",
        "https://example.org\n",
        "https://exa mple.org/",
        "https://example.org:70000/",
        "https://a..b/",
        "https://.example.org/",
        "https://example.org../",
        "https://./",
        f"https://{'a' * 64}.org/",
        f"https://example.{'a' * 64}",
        "https://xn--a-/",
        "https://xn--a-.org:8443/",
        "https://example.org/" + "a" * 3000,
        "javascript:alert(1)",
    ],
)
def test_what_may_not_be_called_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="webhook"):
        Webhooks().check(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook?a=b",
        "https://example.org.",
        f"https://{'a' * 63}.example.org/",
        "https://xn--bcher-kva.example:8443/",
        "https://93.184.216.34:8443/",
        "https://[2606:4700::1]/",
    ],
)
def test_public_places_may_be_called(url: str) -> None:
    """As the API's document says, too."""
    assert Webhooks().check(url) == url
    assert re.search(URL_PATTERN, url)


class Unchecked(Webhooks):
    """Calls whatever it was given once."""

    def check(self, text: str) -> str:
        return text


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "xn--a-"])
def test_a_name_that_is_none_is_nobody(host: str) -> None:
    """Where it was taken before it was known to be none."""
    assert not asyncio.run(Unchecked(anywhere=True).send(f"http://{host}/", SECRET, "a", TOLD))
    assert not asyncio.run(Webhooks(anywhere=True).send(f"http://{host}/", SECRET, "a", TOLD))


def test_names_are_looked_up_beside_what_documents_need() -> None:
    """A name whose servers are silent takes no thread of theirs, nor needs one."""

    async def work(url: str) -> bool:
        taken = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        document = asyncio.create_task(asyncio.to_thread(taken.wait))
        try:
            return await Webhooks(anywhere=True).send(url.replace("127.0.0.1", "localhost"), SECRET, "a", TOLD)
        finally:
            taken.set()
            await document

    with Receiver().running() as url:
        assert asyncio.run(work(url))


def test_a_public_name_with_a_private_address_is_not_called() -> None:
    """As a name looks that changes its address once it was checked: what is connected to decides."""
    receiver = Receiver()
    with receiver.running() as url:
        told = url.replace("http://127.0.0.1", "https://localhost")
        assert not asyncio.run(Webhooks().send(told, SECRET, "a", TOLD))
    assert receiver.got == []
