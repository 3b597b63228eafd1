"""Webhooks: telling a URL that a job is over, signed, without a word of its document, and only where that is safe.

As Standard Webhooks (https://www.standardwebhooks.com) has them: their libraries verify the signature.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import logging
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ocr_ops.core.errors import UsageError
from ocr_ops.core.record import canonical_json

SECRET_PREFIX = "whsec_"  # noqa: S105  it says that one follows
BACK_OFF = (5.0, 30.0, 120.0, 600.0, 1800.0)
"""Seconds after each try that failed; after the last there is none."""
_SECONDS = 10.0
_LOOKUPS = 128
"""Names that are looked up at a time: one whose servers are silent is, for half a minute after its delivery."""
MAX_URL = 2000
"""Characters."""
_PORT = "[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_LABEL = "[A-Za-z0-9-]{1,63}"
"""Longer ones, and empty ones, have no address anywhere."""
_HOST = rf"({_LABEL}([.]{_LABEL})*[.]?|\[[0-9A-Fa-f:.]+\])"
URL_PATTERN = f"^https://{_HOST}(:({_PORT}))?([/?#]|$)"
"""What a URL may look like, as JSON Schema has it. Addresses among them must be public, and punycode must stand for
something, which no pattern tells.
"""

_URL = re.compile(rf"https?://{_HOST}(:({_PORT}))?([/?#]|\Z)")
"""The same, and what else is taken: http where `Webhooks.anywhere` is."""

log = logging.getLogger("bentoml.ocr_ops")


class Webhooks:
    """Sends them. `anywhere` also over http, and to addresses that are not public."""

    def __init__(self, *, anywhere: bool = False) -> None:
        self.anywhere = anywhere
        # The event loop's own threads, a handful, are for documents.
        self._names = ThreadPoolExecutor(_LOOKUPS, "webhooks")

    def check(self, text: str) -> str:
        """A URL that may be called, as far as it tells by itself. `UsageError` for any other."""
        schemes = ("https", "http") if self.anywhere else ("https",)
        try:
            url = URL(text)
            host = url.host  # only here is punycode looked at
        except ValueError:
            raise _refused("no URL") from None
        if len(text) > MAX_URL or not host or url.scheme not in schemes:
            raise _refused(f"a URL of {len(text)} characters, `{url.scheme[:20]}`", f"{' or '.join(schemes)}://")
        if url.user is not None or url.password is not None:
            raise _refused("a URL with a name or a password")
        if not self.anywhere and _is_address(host) and not _public(host):
            raise _refused("an address that is not public")
        if not _URL.match(text):  # what takes more than it says would be another place to somebody else
            raise _refused("a URL with a host or a port that no place has")
        return text

    async def send(self, url: str, secret: str, identity: str, told: dict[str, Any]) -> bool:
        """Whether whoever is there took it. A redirection is not followed, an answer not read."""
        body = canonical_json(told).encode()
        headers = {"Content-Type": "application/json", **signed(secret, identity, int(time.time()), body)}
        resolver = _Resolver(self._names, anywhere=self.anywhere)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(resolver=resolver),
                    timeout=aiohttp.ClientTimeout(total=_SECONDS),
                    trust_env=False,
                ) as session,
                session.post(self.check(url), data=body, headers=headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, OSError, UsageError, ValueError) as error:  # the last: a name that is none
            log.warning("webhook of job %s: %s", identity, type(error).__name__)
            return False
        if not 200 <= status < 300:
            log.warning("webhook of job %s: status %d", identity, status)
        return 200 <= status < 300


def signed(secret: str, identity: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove who sent this, when, and that it was not altered."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    mac = hmac.digest(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


class _Resolver(AbstractResolver):
    """The addresses that are connected to are the very ones that were checked: a name cannot change in between."""

    def __init__(self, threads: ThreadPoolExecutor, *, anywhere: bool) -> None:
        self.threads, self.anywhere = threads, anywhere

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self.threads, look)
        addresses = [(kind, str(address[0])) for kind, _, _, _, address in found]
        if not self.anywhere and not (addresses and all(_public(address) for _, address in addresses)):
            msg = "not a public address"
            raise OSError(msg)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """The threads are everybody's."""


def _public(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    site_local = isinstance(mapped, ipaddress.IPv6Address) and mapped.is_site_local
    return bool(mapped.is_global and not (mapped.is_multicast or mapped.is_reserved or site_local))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refused(found: str, expected: str = "the URL of a public place, such as https://example.org/hook") -> UsageError:
    return UsageError("field `webhook`", found, expected, "correct it, or leave it out")
