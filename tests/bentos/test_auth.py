"""Who may call what: roles, keys, loopback, and all that would have it believe it is on this machine."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from bentos import auth
from bentos.api.journal import Requests
from bentos.api.operations import Dispatch, Operation, Table
from bentos.api.problems import Problems
from bentos.api_keys import ApiKeys
from bentos.auth import Access, Guard, require_access
from bentos.champion import default_host
from bentos.headers import secured
from bentos.tokens import Tokens, TokenSettings
from ocr_ops.core.errors import ServerDied
from ocr_ops.core.keys import Limits, Role, change_keys, now
from ocr_ops.release.server import serve
from tests.bentos.test_tokens import AUDIENCE, provider_running

ROOT = Path(__file__).resolve().parents[2]
HERE, AWAY = ("127.0.0.1", 4000), ("192.0.2.7", 4000)


async def tell(request: Request) -> Response:
    return JSONResponse({"caller": request.state.caller.id, "roles": sorted(request.state.caller.roles)})


async def other(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("not ours")(scope, receive, send)


def operation(path: str, role: Role | None, method: Any = "GET", **more: Any) -> Operation:
    return Operation(method, path, tell, "", role, {}, **more)


OPERATIONS = (
    operation("/v1/ocr", "read", "POST"),
    operation("/v1/feedback", "feedback", "POST"),
    operation("/v1/keys", "admin"),
    operation("/metrics", "metrics", probe=True),
    operation("/readyz", None, probe=True),
)


@dataclass
class Service:
    """The API's middleware around operations that tell who called."""

    keys: Path
    open_metrics: bool = False
    wanted: bool = True
    tokens: Tokens | None = None
    access: Access = field(init=False)

    def __post_init__(self) -> None:
        self.access = Access(ApiKeys(self.keys), self.tokens, self.wanted, self.open_metrics)

    def make(self, name: str, *roles: Role) -> str:
        made = change_keys(self.keys, lambda ring: ring.create(name, roles, Limits(), None, now()))
        assert made.secret
        return made.secret

    def ask(
        self,
        path: str,
        key: str | None = None,
        *,
        method: str = "POST",
        client: tuple[str, int] = HERE,
        to: str = "http://127.0.0.1:3000",
        **headers: str,
    ) -> httpx.Response:
        app = secured(Requests(Problems(Guard(Dispatch(other))), Table(OPERATIONS)))

        async def with_gateway(scope: Scope, receive: Receive, send: Send) -> None:
            server = (scope["server"][0], 3000)
            await app({**scope, "server": server, "state": {"gateway": self}}, receive, send)

        async def whole() -> httpx.Response:
            transport = httpx.ASGITransport(with_gateway, client=client)
            async with httpx.AsyncClient(transport=transport, base_url=to) as asking:
                sent = {name.replace("_", "-"): value for name, value in headers.items()}
                if key:
                    sent["Authorization"] = f"Bearer {key}"
                return await asking.request(method, path, headers=sent)

        return asyncio.run(whole())


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "keys.json")


def test_without_keys_this_machine_may_do_all(service: Service) -> None:
    assert service.ask("/v1/ocr").json() == {"caller": "local", "roles": ["admin", "feedback", "metrics", "read"]}


@pytest.mark.parametrize("host", ["localhost", "localhost:3000", "127.0.0.1", "[::1]:3000", "[::1]", "LocalHost:1"])
def test_this_machine_is_known_by_its_names(service: Service, host: str) -> None:
    assert service.ask("/v1/ocr", Host=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.2", ""]
)
def test_a_foreign_name_for_this_machine_is_refused(service: Service, host: str) -> None:
    """A page that has its own name point here (DNS rebinding) still sends that name."""
    answer = service.ask("/v1/ocr", Host=host)
    assert answer.status_code == 421
    assert answer.json()["type"] == "urn:ocr-ops:problem:misdirected-request"


def test_pages_of_other_origins_are_refused_without_keys(service: Service) -> None:
    """They could not read the answer, but have work done."""
    for origin in ("http://evil.example", "null", "http://localhost:8080", "https://evil.example:3000", "http://[", ""):
        assert service.ask("/v1/ocr", Origin=origin).status_code == 403
    assert service.ask("/v1/ocr", Origin="http://127.0.0.1:3000").status_code == 200


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via", "X-Forwarded-Proto"])
def test_what_came_through_a_proxy_is_not_from_this_machine(service: Service, header: str) -> None:
    """Though the connection is."""
    assert service.ask("/v1/ocr", **{header.replace("-", "_"): "192.0.2.7"}).status_code == 401


def test_without_keys_others_are_nobody(service: Service) -> None:
    """Whatever they call this machine; probes are for anyone."""
    for client, to in ((AWAY, "http://127.0.0.1:3000"), (HERE, "http://192.0.2.1:3000")):
        answer = service.ask("/v1/ocr", client=client, to=to, Host="localhost")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="ocr-ops"'
        assert "ocr-ops keys create" in answer.json()["remedy"]
    assert service.ask("/readyz", client=AWAY, method="GET").status_code == 200


def test_a_first_key_closes_the_service_for_good(service: Service) -> None:
    """From the next request on; also when the file goes away."""
    assert service.ask("/v1/ocr").status_code == 200
    key = service.make("a", "read")
    assert service.ask("/v1/ocr").status_code == 401
    assert service.ask("/v1/ocr", key).status_code == 200
    assert service.ask("/v1/ocr", key, client=AWAY, Host="ocr.example").status_code == 200
    service.keys.unlink()
    assert service.ask("/v1/ocr").status_code == 401
    assert service.ask("/v1/ocr", key).status_code == 401


def test_a_broken_file_of_keys_closes_the_service_too(service: Service) -> None:
    """Nobody is taken for this machine's own while nobody can tell which keys there are."""
    key = service.make("a", "read")
    whole = service.keys.read_bytes()
    service.keys.write_bytes(whole[:-9])
    assert service.ask("/v1/ocr").status_code == 401
    assert service.ask("/v1/ocr", key).status_code == 401
    service.keys.write_bytes(whole)
    assert service.ask("/v1/ocr").status_code == 401
    assert service.ask("/v1/ocr", key).status_code == 200


def test_where_nobody_is_asked_keys_do_not_matter(tmp_path: Path) -> None:
    """On loopback, for the toolkit's own servers."""
    service = Service(tmp_path / "keys.json", wanted=False)
    service.make("a", "read")
    assert service.ask("/v1/ocr").json()["caller"] == "local"
    assert service.ask("/v1/ocr", client=AWAY).status_code == 401


@pytest.mark.parametrize(
    ("role", "open_to"),
    [
        ("read", {"/v1/ocr"}),
        ("feedback", {"/v1/feedback"}),
        ("metrics", {"/metrics"}),
        ("admin", {"/v1/ocr", "/v1/feedback", "/v1/keys", "/metrics"}),
    ],
)
def test_a_role_opens_its_operations_alone(service: Service, role: Role, open_to: set[str]) -> None:
    """The others say which role they want."""
    key = service.make("a", role)
    for one in OPERATIONS:
        if one.role is None:
            continue
        answer = service.ask(one.path, key, method=one.method, client=AWAY)
        assert answer.status_code == (200 if one.path in open_to else 403)
        if answer.status_code == 403:
            assert f'error="insufficient_scope", scope="{one.role}"' in answer.headers["www-authenticate"]
            assert one.role in answer.json()["remedy"]


def test_keys_come_in_either_header(service: Service) -> None:
    """Under any case of `bearer`; never in a URL."""
    key = service.make("a", "read")
    assert service.ask("/v1/ocr", X_API_Key=key).status_code == 200
    assert service.ask("/v1/ocr", Authorization=f"bEaReR  {key}").status_code == 200
    for answer in (
        service.ask(f"/v1/ocr?key={key}&api_key={key}&access_token={key}"),
        service.ask("/v1/ocr", Authorization=f"Basic {key}"),
        service.ask("/v1/ocr", Authorization=key),
        service.ask("/v1/ocr", Cookie=f"key={key}"),
    ):
        assert answer.status_code == 401
    for word in (key + "x", key[:-1], "a.b.c", "ocr_"):
        answer = service.ask("/v1/ocr", word)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_token_opens_what_its_roles_do(tmp_path: Path) -> None:
    """Beside keys, and without any; its subject is who called."""
    with provider_running() as provider:
        settings = TokenSettings(
            provider.url, AUDIENCE, f"{provider.url}/keys", ("RS256",), 0, "roles", {"boss": "read"}
        )
        service = Service(tmp_path / "keys.json", tokens=Tokens(settings))
        assert service.ask("/v1/ocr").status_code == 401
        token = provider.sign(roles=["boss"])
        assert service.ask("/v1/ocr", token, client=AWAY).json() == {"caller": "jwt:ann", "roles": ["read"]}
        assert service.ask("/v1/feedback", token).status_code == 403
        assert service.ask("/v1/ocr", provider.sign(roles=["boss"], aud="another")).status_code == 401
        assert service.ask("/v1/ocr", service.make("a", "read")).status_code == 200


def test_metrics_are_for_this_machine_or_a_role(service: Service, tmp_path: Path) -> None:
    """Or for all, where that is said."""
    service_key = service.make("a", "read")
    assert service.ask("/metrics", method="GET").status_code == 200
    assert service.ask("/metrics", method="GET", client=AWAY).status_code == 401
    assert service.ask("/metrics", method="GET", X_Forwarded_For="192.0.2.7").status_code == 401
    assert service.ask("/metrics", method="GET", Host="evil.example:3000").status_code == 401, "by a website's name"
    open_to_all = Service(tmp_path / "keys.json", open_metrics=True)
    assert open_to_all.ask("/metrics", method="GET", client=AWAY).status_code == 200
    for path in ("/metrics%0A", "/metrics%0a", "/metrics%0D%0A", "/metrics%00"):
        assert open_to_all.ask(path, method="GET", client=AWAY).status_code == 401, "none is the path that is open"
        assert service.ask(path, service_key, method="GET").status_code == 404


def test_paths_that_are_not_ours_are_for_readers(service: Service) -> None:
    """A wrong method is told to anyone."""
    key = service.make("a", "read")
    for path in ("/other", "/schema.json", "/ocr", "/web", "//v1/ocr", "/v1/ocr/", "/%2e/v1/ocr"):
        assert service.ask(path, method="GET").status_code == 401
        assert service.ask(path, key, method="GET").text == "not ours"
    assert service.ask("/v1/ocr", method="GET").status_code == 405


def test_every_answer_tells_browsers_what_to_keep_to(service: Service) -> None:
    """Also refusals: answers are never run."""
    for answer in (service.ask("/v1/ocr"), service.ask("/v1/ocr", Host="evil.example"), service.ask("/other")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
        assert "strict-transport-security" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
    assert service.ask("/v1/ocr").headers["cache-control"] == "no-store"
    secure = service.ask("/v1/ocr", to="https://127.0.0.1:3000")
    assert secure.headers["strict-transport-security"] == "max-age=31536000"


def test_other_sites_may_call_where_they_are_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key, and without cookies."""
    asked = (
        "authorization, cache-control, content-type, idempotency-key, x-api-key, x-ocr-ops-remaining-ms, x-request-id"
    )
    preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": asked}
    assert (
        "access-control-allow-origin"
        not in service.ask("/v1/ocr", method="OPTIONS", Origin="https://a.example", **preflight).headers
    )
    monkeypatch.setenv("OCR_OPS_CORS_ORIGINS", "https://a.example, https://b.example:8443")
    key = service.make("a", "read")
    answer = service.ask("/v1/ocr", method="OPTIONS", Origin="https://a.example", **preflight)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://a.example")
    assert "access-control-allow-credentials" not in answer.headers
    assert service.ask("/v1/ocr", key, Origin="https://b.example:8443").headers["access-control-allow-origin"]
    refused = service.ask("/v1/ocr", Origin="https://a.example")
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://a.example")
    strange = service.ask("/v1/ocr", method="OPTIONS", Origin="https://evil.example", **preflight)
    assert "access-control-allow-origin" not in strange.headers
    for wrong in ("*", "a.example", "https://a.example/path", "null"):
        monkeypatch.setenv("OCR_OPS_CORS_ORIGINS", wrong)
        with pytest.raises(SystemExit):
            service.ask("/v1/ocr")


def test_the_service_listens_here_until_there_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is told where; in a container loopback would reach nobody."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path))
    monkeypatch.delenv("BENTOML_CONTAINERIZED", raising=False)
    assert default_host() == "127.0.0.1"
    Service(tmp_path / "keys.json").make("a", "read")
    assert default_host() == "0.0.0.0"
    (tmp_path / "keys.json").unlink()
    monkeypatch.setenv("OCR_OPS_JWT_ISSUER", "https://provider.example")
    assert default_host() == "0.0.0.0"
    monkeypatch.delenv("OCR_OPS_JWT_ISSUER")
    monkeypatch.setenv("BENTOML_CONTAINERIZED", "true")
    assert default_host() == "0.0.0.0"


@pytest.mark.parametrize("tokens", [False, True])
def test_a_service_does_not_start_with_a_broken_file_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, tokens: bool
) -> None:
    """Not on loopback either, where it would be open without one; where nobody is asked, it does not matter."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path))
    if tokens:
        monkeypatch.setenv("OCR_OPS_JWT_ISSUER", "https://provider.example")
        monkeypatch.setenv("OCR_OPS_JWT_AUDIENCE", AUDIENCE)
    (tmp_path / "keys.json").write_text("{")
    for host in ("127.0.0.1", "0.0.0.0"):
        monkeypatch.setattr(auth, "asked_address", lambda host=host: (host, 3000))
        with pytest.raises(SystemExit) as ended:
            require_access()
        assert ended.value.code == 4
        told = capsys.readouterr().err
        assert told.startswith(f"error: {tmp_path / 'keys.json'}: no JSON")
        assert told.count("\n") == 1
    monkeypatch.setenv("OCR_OPS_AUTH", "off")
    monkeypatch.setattr(auth, "asked_address", lambda: ("127.0.0.1", 3000))
    require_access()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [("on", "others can reach it, and there is no API key .*ocr-ops keys create NAME"), ("off", "loopback alone")],
)
def test_a_service_others_can_reach_does_not_start_without_a_key(tmp_path: Path, wanted: str, told: str) -> None:
    """One line, which says how to make one."""
    env = {"OCR_OPS_HOME": str(tmp_path / "home"), "OCR_OPS_AUTH": wanted}
    with (
        pytest.raises(ServerDied, match=f"exit code 2: error: .*{told}") as caught,
        serve(ROOT, host="0.0.0.0", env=env, log=tmp_path / "log"),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
