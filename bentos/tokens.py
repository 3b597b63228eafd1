"""Tokens: JWTs of an identity provider (OIDC), checked against its public keys, which rotate."""

import asyncio
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args
from urllib.parse import urlsplit

import httpx
import jwt

from ocr_ops.core.errors import OutsideSystem, UsageError
from ocr_ops.core.keys import Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Asymmetric, all of them: with a public key nobody can sign, whatever the token says of itself."""
FRESH_SECONDS, STALE_SECONDS = 300.0, 86_400.0
"""How long keys are used before they are fetched anew, and how long while that fails."""
PAUSE_SECONDS = 10.0
"""Between two fetches, whatever keys tokens name: strangers cannot have the provider asked more often."""
FETCH_SECONDS = 5.0
_MAX_TOKEN, _MAX_JWKS = 8192, 2**20

log = logging.getLogger("bentoml.ocr_ops")


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token is about."""

    subject: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Which tokens are good, and what they let their bearer do."""

    issuer: str
    audience: str
    jwks: str | None
    """A URL or a file; None: what the issuer's discovery document says."""
    algorithms: tuple[str, ...]
    leeway: int
    """Seconds by which clocks may differ."""
    claim: str
    """Which claim holds the roles, with dots where it lies deeper: `realm_access.roles`."""
    roles: Mapping[str, Role]
    """What the provider calls each role."""

    @classmethod
    def from_environment(cls) -> Self | None:
        """None where `OCR_OPS_JWT_ISSUER` is not set. `UsageError` for what makes no sense."""
        issuer, audience = os.environ.get("OCR_OPS_JWT_ISSUER"), os.environ.get("OCR_OPS_JWT_AUDIENCE")
        if not issuer:
            return None
        if not audience:
            raise UsageError(
                "OCR_OPS_JWT_AUDIENCE", "not set", "the name tokens for this service are made out to", "set it"
            )
        algorithms = tuple(os.environ.get("OCR_OPS_JWT_ALGORITHMS", "RS256,ES256,EdDSA").split(","))
        if wrong := [name for name in algorithms if name not in ALGORITHMS]:
            raise UsageError("OCR_OPS_JWT_ALGORITHMS", repr(wrong[0]), f"some of {', '.join(ALGORITHMS)}", "correct it")
        leeway = os.environ.get("OCR_OPS_JWT_LEEWAY", "30")
        if not (leeway.isascii() and leeway.isdigit() and int(leeway) <= 300):
            raise UsageError("OCR_OPS_JWT_LEEWAY", repr(leeway), "seconds, from 0 to 300", "correct it")
        jwks = os.environ.get("OCR_OPS_JWT_JWKS") or None
        if not (jwks and "://" not in jwks) and not _safe(jwks or issuer):
            name = "OCR_OPS_JWT_JWKS" if jwks else "OCR_OPS_JWT_ISSUER"
            raise UsageError(name, jwks or issuer, "an https URL; http only on this machine", "correct it")
        roles = _role_names(os.environ.get("OCR_OPS_JWT_ROLES", ""))
        claim = os.environ.get("OCR_OPS_JWT_ROLES_CLAIM", "roles")
        return cls(issuer, audience, jwks, algorithms, int(leeway), claim, roles)


class Tokens:
    """Checks tokens. Its keys are fetched when a token first needs them, and when they are old or one is missing."""

    def __init__(self, settings: TokenSettings) -> None:
        self.settings = settings
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._fetched = self._tried = float("-inf")
        self._lock = asyncio.Lock()
        self._fetching: asyncio.Task[None] | None = None

    async def identity(self, token: str) -> Identity | None:
        """Whom a token is about, if it is good now; None for any other. `OutsideSystem` without the provider's keys."""
        if len(token) > _MAX_TOKEN:
            return None
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return None
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm not in self.settings.algorithms:
            return None
        key = await self._key(name, algorithm)
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                key.key,
                [algorithm],
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                leeway=self.settings.leeway,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError):
            return None
        return Identity(claims["sub"], self._roles(claims))

    def _roles(self, claims: Mapping[str, Any]) -> frozenset[Role]:
        value: Any = claims
        for part in self.settings.claim.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        names = value.split() if isinstance(value, str) else value if isinstance(value, list) else ()
        return frozenset(
            self.settings.roles[name] for name in names if isinstance(name, str) and name in self.settings.roles
        )

    async def _key(self, name: object, algorithm: str) -> jwt.PyJWK | None:
        if self._find(name, algorithm) is None:
            await self._refresh()
        elif time.monotonic() - self._fetched > FRESH_SECONDS and (self._fetching is None or self._fetching.done()):
            # The one at hand is good: nobody waits for a provider that may be slow.
            self._fetching = asyncio.create_task(self._refresh())
        if time.monotonic() - self._fetched > STALE_SECONDS:
            subject = f"keys of {self.settings.issuer}"
            raise OutsideSystem(subject, "not to be had", "its JSON Web Key Set", "try again; the log has the cause")
        return self._find(name, algorithm)

    def _find(self, name: object, algorithm: str) -> jwt.PyJWK | None:
        """The key of this name; without a name, the only one there is. None where it is for another algorithm."""
        named = [key for key in self._keys if key.key_id == name] if name is not None else list(self._keys)
        if len(named) != 1:
            return None
        [key] = named
        told = key._jwk_data.get("alg")  # noqa: SLF001  PyJWT tells only what it made of it
        kinds = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
        fits = key.key_type == kinds[algorithm[:2]] and told in (None, algorithm)
        return key if fits and key.public_key_use in (None, "sig") else None

    async def _refresh(self) -> None:
        """Fetches the keys, unless someone did a moment ago."""
        async with self._lock:
            if time.monotonic() - self._tried < PAUSE_SECONDS:
                return
            self._tried = time.monotonic()
            try:
                self._keys = _parsed(await self._read())
                self._fetched = time.monotonic()
            except (OSError, httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                log.warning("keys of %s: %s: %s", self.settings.issuer, type(error).__name__, error)

    async def _read(self) -> Any:
        source = self.settings.jwks
        if source and "://" not in source:
            return json.loads(await asyncio.to_thread(Path(source).read_bytes))
        # No redirects: what was configured is what is asked.
        async with httpx.AsyncClient(timeout=FETCH_SECONDS) as client:
            if not source:
                told = await _fetch(client, self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
                source = str(told["jwks_uri"]) if isinstance(told, dict) else ""
                if not _safe(source):
                    msg = f"its discovery document names {source!r}"
                    raise ValueError(msg)
            return await _fetch(client, source)


async def _fetch(client: httpx.AsyncClient, url: str) -> Any:
    async with asyncio.timeout(2 * FETCH_SECONDS), client.stream("GET", url) as answer:
        answer.raise_for_status()
        body = b""
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > _MAX_JWKS:
                msg = f"more than {_MAX_JWKS:,} bytes"
                raise ValueError(msg)
    return json.loads(body)


def _parsed(data: Any) -> tuple[jwt.PyJWK, ...]:
    """The keys of a set that may verify signatures; those of kinds we do not know are passed over."""
    found = []
    for one in data["keys"] if isinstance(data, dict) and isinstance(data.get("keys"), list) else ():
        if isinstance(one, dict) and one.get("kty") in ("RSA", "EC", "OKP"):
            try:
                found.append(jwt.PyJWK(one))
            except jwt.PyJWTError:
                continue
    if not found:
        msg = "no JSON Web Key Set with a public key"
        raise ValueError(msg)
    return tuple(found)


def _safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1"))


def _role_names(text: str) -> dict[str, Role]:
    """`ocr-reader=read,ocr-boss=admin` as what the provider's names mean; without it, each role by its own name."""
    known: dict[str, Role] = {role: role for role in get_args(Role)}
    if not text:
        return known
    found: dict[str, Role] = {}
    for pair in text.split(","):
        name, _, role = pair.strip().rpartition("=")
        if not name or role not in known:
            raise UsageError(
                "OCR_OPS_JWT_ROLES", repr(pair), f"NAME={'|'.join(known)}, with commas between", "correct it"
            )
        found[name] = known[role]
    return found
