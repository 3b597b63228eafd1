"""What a client is told once: where the service is, with which key, and how patiently."""

import math
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from ocr_ops import __version__
from ocr_ops.client.flows import Service
from ocr_ops.client.retry import Retry
from ocr_ops.core.errors import UsageError

KEY = "OCR_OPS_API_KEY"
TIMEOUT = 300.0
"""Seconds that a call may take, all attempts together."""

WAIT = 3600.0
"""Seconds that a job is waited for."""


@dataclass(frozen=True, slots=True)
class Settings:
    url: str
    key: str | None = field(repr=False)
    timeout: float
    retry: Retry
    verify: ssl.SSLContext | bool

    @classmethod
    def of(
        cls, url: str, key: str | None, timeout: float, retry: Retry | None, verify: ssl.SSLContext | bool
    ) -> "Settings":
        """`UsageError` for what is no URL of a service, or no key."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise UsageError(url, str(error).lower(), "a URL", "such as http://localhost:3000") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise UsageError(url, "no http or https URL", "one", "such as http://localhost:3000")
        return cls(url.rstrip("/"), _key(key), timeout, retry or Retry(), verify)

    @property
    def http(self) -> dict[str, Any]:
        """For httpx's clients."""
        # Reading the machine's certificates takes a moment, and plain HTTP asks for none.
        verify = self.verify if self.url.startswith("https:") else False
        return {"headers": self._headers, "verify": verify, "follow_redirects": False}

    @property
    def _headers(self) -> Mapping[str, str]:
        named = {"User-Agent": f"ocr-ops/{__version__}"}
        return named if self.key is None else {**named, "Authorization": f"Bearer {self.key}"}

    def service(
        self, builder: httpx.Client | httpx.AsyncClient, timeout: float | None, each: float = math.inf
    ) -> Service:
        """For one call, which begins now, and of which an attempt may take `each` seconds."""
        seconds = timeout or self.timeout
        return Service(self.url, builder, self.retry, seconds, time.monotonic() + seconds, each)


def _key(given: str | None) -> str | None:
    """The key given, or else that of the environment, without white space around it, as files that hold one have. One
    that is empty is none. What is wrong with it is told without it.
    """
    for name, value in (("key", given), (KEY, os.environ.get(KEY))):
        if key := (value or "").strip():
            if not (key.isascii() and key.isprintable()):
                remedy = "give it as it was shown when it was made"
                raise UsageError(name, "characters that no key has", "printable ASCII", remedy)
            return key
    return None
