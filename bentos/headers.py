"""Headers: what every answer tells browsers to keep to, and which other sites may call."""

import os
import re

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.champion import end
from bentos.deadline import HEADER
from ocr_ops.core.errors import UsageError

ORIGINS = "OCR_OPS_CORS_ORIGINS"
"""Origins whose pages may call, with commas between; none unless set."""

POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For whatever has no policy of its own, as pages have: what a document says is never run, also where a browser shows
an answer."""
_ASKED = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "X-Request-ID", "Cache-Control")
"""What a request may say, beside its deadline: pages of other sites too."""
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Middleware: adds them, where an answer does not have its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        data = scope["path"].startswith("/v1/")

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", POLICY)
                if data:
                    headers.setdefault("Cache-Control", "no-store")
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        await self.app(scope, receive, told)


def secured(app: ASGIApp) -> ASGIApp:
    """An app whose answers carry the headers above, and which pages of other sites may call only if they are named."""
    origins = cors_origins()
    if origins:
        app = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=(*_ASKED, HEADER),
            expose_headers=("X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "Location"),
        )
    return SecurityHeaders(app)


def cors_origins() -> tuple[str, ...]:
    """What `OCR_OPS_CORS_ORIGINS` names; anything that is no origin ends the process with one line."""
    origins = tuple(part.strip() for part in os.environ.get(ORIGINS, "").split(",") if part.strip())
    for origin in origins:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+", origin):
            end(UsageError(ORIGINS, repr(origin), "origins such as https://scans.example.com", "correct it"))
    return origins
