"""Operations: every call the API answers, told once. Routes, roles, metrics' labels and OpenAPI are made of this."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.api.problems import Refusal
from ocr_ops.core.keys import Role
from ocr_ops.core.record import Value

Method = Literal["GET", "POST", "PUT", "DELETE"]
Schema = Mapping[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Operation:
    method: Method
    path: str
    """With parameters in braces: `/v1/jobs/{id}`. It labels metrics and logs, so that labels are bounded."""
    handler: Handler
    summary: str
    role: Role | None
    """What a caller must be to be answered; None: anyone."""
    answers: Mapping[int, Mapping[str, type[Value] | None]]
    """Of success: by status and media type what the answer holds; None: what no schema tells."""
    problems: tuple[int, ...] = ()
    """Statuses it may refuse with, beyond those every operation may."""
    parameters: tuple[Schema, ...] = ()
    """As OpenAPI has them."""
    body: Mapping[str, type[Value] | Schema] | None = None
    """By media type."""
    models: tuple[type[Value], ...] = ()
    """What its answers are made of, where a media type does not tell."""
    description: str = ""
    tag: str = "documents"
    reads: bool = False
    """Whether it reads pages, at once or later, which the caller's quota must hold."""
    probe: bool = False
    """Asked by machines every few seconds: its successes are not logged."""
    told: bool = True
    """Whether it is a part of the API, which OpenAPI tells, or of the page that people see."""

    @property
    def name(self) -> str:
        return self.handler.__name__


@dataclass(frozen=True, slots=True)
class Match:
    """What a request asks for."""

    operation: Operation | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the path."""
    path: str | None = None
    """As operations have it; None: as `allow`."""
    allow: str | None = None
    """The methods of its path; None: it is not ours."""


class Table:
    """Finds the operation a request asks for."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)
        paths: dict[str, dict[str, Operation]] = {}
        for operation in self.operations:
            paths.setdefault(operation.path, {})[operation.method] = operation
        self._paths = [(path, compile_path(path), methods) for path, methods in paths.items()]

    def match(self, method: str, path: str) -> Match:
        if _CONTROL.search(path):
            return Match()
        for ours, (regex, _, convertors), methods in self._paths:
            if found := regex.match(path):
                parameters = {name: convertors[name].convert(text) for name, text in found.groupdict().items()}
                allow = ", ".join(sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])}))
                return Match(methods.get("GET" if method == "HEAD" else method), parameters, ours, allow)
        return Match()


class Dispatch:
    """The innermost app: runs the operation that was found; paths that are not ours go to `others`.

    A path with a control character is nobody's: a router's `$` matches before a line feed, too, and what stands in
    front of the service and keeps a path from strangers may not know it so spelt.
    """

    def __init__(self, others: ASGIApp) -> None:
        self.others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match: Match = scope["state"]["match"]
        if match.allow is None:
            if _CONTROL.search(scope["path"]):
                raise HTTPException(404)
            await self.others(scope, receive, send)
        elif match.operation is not None:
            answer = await match.operation.handler(Request(scope, receive))
            await answer(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(status_code=204, headers={"Allow": match.allow})(scope, receive, send)
        else:
            found, headers = scope["method"][:20], {"Allow": match.allow}
            kind = "method-not-allowed"
            raise Refusal(scope["path"][:200], found, match.allow, "use one of these methods", 405, kind, headers)
