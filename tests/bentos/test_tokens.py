"""Tokens of an identity provider on this machine: whom they name, how its keys rotate, and every forgery we know."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bentos import tokens
from bentos.tokens import Identity, Tokens, TokenSettings
from ocr_ops.core.errors import OutsideSystem, UsageError

AUDIENCE = "ocr"
DISCOVERY = "/.well-known/openid-configuration"
Work = Callable[[Tokens], Awaitable[None]]


class Provider:
    """Signs tokens, and tells its public keys over HTTP."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"first": rsa.generate_private_key(65537, 2048)}
        self.asked: list[str] = []
        self.broken = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                told = {
                    "/.well-known/openid-configuration": {"jwks_uri": f"{provider.url}/keys"},
                    "/keys": provider.jwks,
                }
                found = None if provider.broken else told.get(self.path)
                self.send_response(200 if found else 500)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [_public(key) | {"kid": name, "use": "sig"} for name, key in self.keys.items()]}

    def sign(self, name: str = "first", algorithm: str = "RS256", key: Any = None, **claims: Any) -> str:
        whole = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ann",
            "exp": time.time() + 60,
            "roles": ["read", "cook"],
            **claims,
        }
        payload = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(payload, key or self.keys[name], algorithm, {"kid": name})


def _public(key: Any) -> dict[str, Any]:
    kinds = (
        (rsa.RSAPrivateKey, jwt.algorithms.RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, jwt.algorithms.ECAlgorithm),
        (ed25519.Ed25519PrivateKey, jwt.algorithms.OKPAlgorithm),
    )
    algorithm: Any = next(algorithm for kind, algorithm in kinds if isinstance(key, kind))
    found: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return found


@pytest.fixture
def provider() -> Iterator[Provider]:
    with provider_running() as made:
        yield made


@contextmanager
def provider_running() -> Iterator[Provider]:
    made = Provider()
    thread = Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


@pytest.fixture
def run(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a test with the settings of an environment."""

    def call(work: Work, **environment: str) -> None:
        whole = {"ISSUER": provider.url, "AUDIENCE": AUDIENCE, **environment}
        for name, value in whole.items():
            monkeypatch.setenv(f"OCR_OPS_JWT_{name}", value)
        settings = TokenSettings.from_environment()
        assert settings

        async def all_of_it() -> None:
            await work(Tokens(settings))

        asyncio.run(all_of_it())

    return call


ANN = Identity("ann", frozenset({"read"}))


def test_a_token_names_whom_it_is_about_and_their_roles(provider: Provider, run: Callable[..., None]) -> None:
    """By discovery, once; roles we do not know give nothing."""

    async def work(found: Tokens) -> None:
        for _ in range(20):
            assert await found.identity(provider.sign()) == ANN
        assert provider.asked == [DISCOVERY, "/keys"]
        assert await found.identity(provider.sign(roles=None)) == Identity("ann", frozenset())
        assert await found.identity(provider.sign(roles="feedback read")) == Identity(
            "ann", frozenset({"read", "feedback"})
        )

    run(work)


def test_roles_are_found_where_the_provider_has_them(provider: Provider, run: Callable[..., None]) -> None:
    """Deep in the claims, by other names, among others that are no names."""

    async def work(found: Tokens) -> None:
        token = provider.sign(realm_access={"roles": ["ocr=boss", "read"]})
        assert await found.identity(token) == Identity("ann", frozenset({"admin"}))
        assert await found.identity(provider.sign(realm_access=3)) == Identity("ann", frozenset())
        told = [{"name": "read"}, ["read"], None, 3, "reader"]
        assert await found.identity(provider.sign(realm_access={"roles": told})) == Identity("ann", frozenset({"read"}))

    run(work, ROLES_CLAIM="realm_access.roles", ROLES="ocr=boss=admin, reader=read")


def test_subjects_are_told_apart_however_long_they_are(provider: Provider, run: Callable[..., None]) -> None:
    """Jobs, quotas and answers are by subject: OIDC lets one have 255 characters, and what signs for services more."""

    async def work(found: Tokens) -> None:
        subjects = [f"system:serviceaccount:{'n' * 250}:{name}" for name in ("a", "b")]
        told = [await found.identity(provider.sign(sub=subject)) for subject in subjects]
        assert [one.subject for one in told if one] == subjects

    run(work)


def test_keys_rotate(provider: Provider, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A new one is fetched when a token names it, at most every few seconds; one taken back is good no longer."""

    async def work(found: Tokens) -> None:
        first = provider.sign()
        assert await found.identity(first)
        provider.keys["second"] = ec.generate_private_key(ec.SECP256R1())
        second = provider.sign("second", "ES256")
        monkeypatch.setattr(tokens, "PAUSE_SECONDS", 1000)
        for _ in range(5):
            assert await found.identity(second) is None
        assert len(provider.asked) == 1
        monkeypatch.setattr(tokens, "PAUSE_SECONDS", 0)
        assert await found.identity(second) == ANN
        assert await found.identity(first) == ANN
        del provider.keys["first"]
        monkeypatch.setattr(tokens, "FRESH_SECONDS", 0)
        async with asyncio.timeout(20):
            while await found.identity(first):  # noqa: ASYNC110  nobody tells when keys were fetched anew
                await asyncio.sleep(0.01)
        assert await found.identity(second) == ANN

    run(work, JWKS=f"{provider.url}/keys")


def test_keys_come_from_a_file_too(provider: Provider, run: Callable[..., None], tmp_path: Path) -> None:
    """Also those of the Edwards curve; keys of kinds we do not know are passed over."""
    provider.keys["first"] = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "jwks.json"
    path.write_text(
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}, {"kty": "?"}, *provider.jwks["keys"]]})
    )

    async def work(found: Tokens) -> None:
        assert await found.identity(provider.sign(algorithm="EdDSA")) == ANN
        assert provider.asked == []

    run(work, JWKS=str(path))


def test_a_provider_that_is_away_is_not_the_callers_fault(
    provider: Provider, run: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its keys nothing can be said; with keys that grew old, tokens are still good, for a day."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(tokens, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(tokens, "FRESH_SECONDS", 0)

    async def work(found: Tokens) -> None:
        provider.broken = True
        with pytest.raises(OutsideSystem, match="not to be had"):
            await found.identity(provider.sign())
        assert "500" in caplog.text
        provider.broken = False
        assert await found.identity(provider.sign()) == ANN
        provider.broken = True
        assert await found.identity(provider.sign()) == ANN
        monkeypatch.setattr(tokens, "STALE_SECONDS", 0)
        with pytest.raises(OutsideSystem):
            await found.identity(provider.sign())

    run(work, JWKS=f"{provider.url}/keys")


def _unsigned(provider: Provider) -> str:
    payload = provider.sign().split(".")[1]
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "first"}).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}."


def _confused(provider: Provider, algorithm: str = "HS256") -> str:
    """Signed with the public key, taken for a shared secret."""
    public = provider.keys["first"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _, payload, _ = provider.sign().split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "first"}).encode()).rstrip(b"=").decode()
    signed = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    # PyJWT refuses a PEM as a secret; those who forge do not use its `prepare_key`.
    signature = signed.sign(f"{header}.{payload}".encode(), public)
    return f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _altered(provider: Provider) -> str:
    header, _, signature = provider.sign().split(".")
    payload = base64.urlsafe_b64encode(json.dumps({"sub": "bob", "exp": 9e9}).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


def _own_key(provider: Provider) -> str:
    """Signed by a stranger, with the stranger's key in the header."""
    key = rsa.generate_private_key(65537, 2048)
    payload = jwt.decode(provider.sign(), options={"verify_signature": False})
    return jwt.encode(payload, key, "RS256", {"kid": "first", "jwk": _public(key), "jku": "http://127.0.0.1:9/"})


@pytest.mark.parametrize(
    "forge",
    [
        _unsigned,
        _confused,
        lambda provider: _confused(provider, "RS256"),
        _altered,
        _own_key,
        lambda provider: provider.sign(exp=time.time() - 31),
        lambda provider: provider.sign(exp=None),
        lambda provider: provider.sign(nbf=time.time() + 60),
        lambda provider: provider.sign(aud="another service"),
        lambda provider: provider.sign(aud=None),
        lambda provider: provider.sign(iss="https://another.example"),
        lambda provider: provider.sign(iss=None),
        lambda provider: provider.sign(sub=None),
        lambda provider: provider.sign(algorithm="RS512"),
        lambda provider: provider.sign(text="x" * 9000),
        lambda _: "a.b.c",
        lambda _: "",
        lambda _: "é" * 20,
    ],
    ids=[
        *("none", "HS256 with the public key", "the same, called RS256", "altered", "own key", "expired", "no expiry"),
        *("not yet", "another audience", "no audience", "another issuer", "no issuer", "no subject"),
        *("an algorithm not named", "too long", "no token", "nothing", "no ASCII"),
    ],
)
def test_no_forgery_is_anybody(provider: Provider, run: Callable[..., None], forge: Callable[[Provider], str]) -> None:
    """A clock that is 29 seconds late is forgiven."""

    async def work(found: Tokens) -> None:
        assert await found.identity(provider.sign(exp=time.time() - 25))
        assert await found.identity(forge(provider)) is None

    run(work)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"AUDIENCE": ""}, "AUDIENCE: not set"),
        ({"ALGORITHMS": "RS256,HS256"}, "HS256"),
        ({"ALGORITHMS": "none"}, "none"),
        ({"LEEWAY": "3600"}, "LEEWAY"),
        ({"JWKS": "http://keys.example/jwks"}, "https"),
        ({"ISSUER": "http://provider.example"}, "https"),
        ({"ROLES": "boss=king"}, "king"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    """Before anything starts."""
    for name, value in ({"ISSUER": "https://provider.example", "AUDIENCE": AUDIENCE} | environment).items():
        monkeypatch.setenv(f"OCR_OPS_JWT_{name}", value)
    with pytest.raises(UsageError, match=told):
        TokenSettings.from_environment()
