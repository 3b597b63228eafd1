"""Who calls, and what they may: every operation's role, held against an API key, a token, or this machine's loopback.

Without keys and tokens the service is open, to this machine alone: it does not start on another address, and answers
nobody who came through a proxy, under a foreign host name (DNS rebinding) or from a page of another origin.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Self, get_args

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.api.operations import Match
from bentos.api.problems import Refusal
from bentos.api_keys import ApiKeys
from bentos.champion import asked_address, choice, end, switch
from bentos.tokens import Tokens, TokenSettings
from ocr_ops.core.errors import OcrOpsError, UsageError
from ocr_ops.core.keys import Limits, Role, read_keys
from ocr_ops.core.workspace import Workspace

AUTH = "OCR_OPS_AUTH"
"""`on` (unless set): callers are asked for a key where there are any. `off`: on loopback nobody is."""
METRICS = "OCR_OPS_METRICS"
"""`role` (unless set): from other machines /metrics is for the role `metrics`; `open`: for anyone."""
LOCAL = "local"
"""Id of callers on this machine who need no key."""

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
_REALM = 'Bearer realm="ocr-ops"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, what they may do and how much. The id stays when a key is rotated."""

    id: str
    roles: frozenset[Role]
    limits: Limits = field(default_factory=Limits)

    def may(self, role: Role) -> bool:
        return role in self.roles or "admin" in self.roles


NOBODY = Caller("anonymous", frozenset())


@dataclass(frozen=True, slots=True)
class Access:
    """Whom this process knows."""

    keys: ApiKeys
    tokens: Tokens | None
    wanted: bool
    """False: on loopback nobody is asked for a key, even where there are some."""
    open_metrics: bool

    @classmethod
    def from_environment(cls) -> Self:
        """What makes no sense ends the process with one line."""
        try:
            settings = TokenSettings.from_environment()
        except OcrOpsError as error:
            end(error)
        keys = ApiKeys(Workspace.current().api_keys)
        open_metrics = choice(METRICS, "role", "open") == "open"
        return cls(keys, Tokens(settings) if settings else None, switch(AUTH), open_metrics)

    @property
    def closed(self) -> bool:
        """Whether callers must say who they are: once a key has been made, all must, from the next request on."""
        return self.wanted and (self.tokens is not None or self.keys.any)

    async def caller(self, scope: Scope) -> Caller:
        """Who sent this request; `Refusal` for those it does not know."""
        if not self.closed:
            _require_local(scope)
            return Caller(LOCAL, frozenset(get_args(Role)))
        headers = Headers(scope=scope)
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        word = sent.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not word:
            raise _unknown("no key", _REALM)
        if word.startswith("ocr_"):
            client = scope.get("client")
            key = await self.keys.key(word, client[0] if client else "")
            if key is not None:
                return Caller(key.id, frozenset(key.roles), key.limits)
        elif self.tokens is not None:
            identity = await self.tokens.identity(word)
            if identity is not None:
                return Caller(f"jwt:{identity.subject}", identity.roles)
        raise _unknown("a key or token that is not good, or is no longer", f'{_REALM}, error="invalid_token"')


class Guard:
    """Middleware: puts the caller into `scope["state"]["caller"]`, and lets pass whom the operation is for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        access: Access = scope["state"]["gateway"].access
        role = _role(scope, access)
        caller = scope["state"]["caller"] = NOBODY if role is None else await access.caller(scope)
        if role is not None and not caller.may(role):
            found = f"a key for {', '.join(sorted(caller.roles)) or 'nothing'}"
            headers = {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{role}"'}
            remedy = f"ask whoever runs the service for a key with the role {role}"
            raise Refusal("request", found, f"the role {role}", remedy, 403, "forbidden", headers)
        await self.app(scope, receive, send)


def _role(scope: Scope, access: Access) -> Role | None:
    """What a caller must be. Paths that are not ours are for readers; what methods ours have, anyone may know."""
    match: Match = scope["state"]["match"]
    if match.operation is None:
        return None if match.allow else "read"
    if match.operation.role == "metrics" and (access.open_metrics or (_direct(scope) and _by_name(scope))):
        return None
    return match.operation.role


def require_access() -> None:
    """Ends the process with one line where strangers could reach the service and nobody would be asked for a key, or
    where nobody can tell which keys there are.
    """
    access = Access.from_environment()
    host, port = asked_address()
    here = ipaddress.ip_address(host).is_loopback
    if not access.wanted:
        if here:
            return
        end(UsageError(AUTH, f"off, on {host}", "off on loopback alone", "unset it, or pass --host 127.0.0.1"))
    try:
        usable = bool(read_keys(access.keys.path).keys) or access.tokens is not None
    except OcrOpsError as error:
        end(error)
    if not here and not usable:
        end(
            UsageError(
                f"{host}:{port}",
                f"others can reach it, and there is no API key in {access.keys.path}",
                "a key, or OCR_OPS_JWT_ISSUER",
                "make one: `ocr-ops keys create NAME`; or serve this machine alone: `bentoml serve . --host 127.0.0.1`",
            )
        )


def _require_local(scope: Scope) -> None:
    """`Refusal` unless the request was sent on this machine, to it by name, and not for another site."""
    if not _direct(scope):
        raise _unknown("from another machine, or through a proxy", _REALM)
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not _by_name(scope):
        expected = "localhost, 127.0.0.1 or [::1], while no key is asked for"
        raise Refusal("header `Host`", host[:100] or "none", expected, "use one of these", 421, "misdirected-request")
    origin = headers.get("origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        expected = f"a page of http://{host}, while no key is asked for"
        raise Refusal("header `Origin`", origin[:100], expected, "call it from its own page", 403, "foreign-origin")


def _direct(scope: Scope) -> bool:
    """Whether both ends of the connection are on this machine, and nobody says to have passed the request on."""
    ends = [scope.get(end) for end in ("server", "client")]
    headers = Headers(scope=scope)
    return all(one and _loopback(one[0]) for one in ends) and not any(name in headers for name in _FORWARDED)


def _by_name(scope: Scope) -> bool:
    """Whether it was sent to this machine by a name that no website can have (DNS rebinding)."""
    host = Headers(scope=scope).get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower() in _LOCAL_NAMES


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unknown(found: str, challenge: str) -> Refusal:
    remedy = "send `Authorization: Bearer KEY`; whoever runs the service makes a key with `ocr-ops keys create`"
    return Refusal(
        "request", found, "an API key or a token", remedy, 401, "unauthorized", {"WWW-Authenticate": challenge}
    )
