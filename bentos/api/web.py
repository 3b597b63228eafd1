"""The web page at `/` and the API's page at `/docs`: files that are read once, and sent to anyone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from bentos.api.problems import Refusal

_FOLDER = Path(__file__).resolve().parent.parent / "web"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes
    headers: Mapping[str, str]


def _read(path: Path) -> _File:
    data = path.read_bytes()
    headers = {
        "Content-Type": _KINDS[path.suffix],
        "Content-Security-Policy": _POLICY,
        "Cache-Control": "no-cache",  # asked about each time, and mostly answered with 304
        "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return _File(data, headers)


_FILES = {path.name: _read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _KINDS}


async def page(request: Request) -> Response:
    return _sent(request, "index.html")


async def docs_page(request: Request) -> Response:
    return _sent(request, "docs.html")


async def web_file(request: Request) -> Response:
    return _sent(request, request.path_params["name"])


def _sent(request: Request, name: str) -> Response:
    file = _FILES.get(name)
    if file is None:
        raise Refusal(request.url.path[:200], "no such file", "a part of the page at /", "open /", 404, "not-found")
    if file.headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=file.headers)
    return Response(file.data, headers=file.headers)
