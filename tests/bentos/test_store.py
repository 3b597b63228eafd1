"""Against a real Redis that is slowed down, filled, made read-only and killed."""

import asyncio
import datetime as dt
import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import REGISTRY

from bentos.store import Store
from ocr_ops.core import metrics
from ocr_ops.core.errors import StoreAway, UsageError
from tests.redis_server import RedisServer, redis_running

COUNT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def with_store(url: str, work: Callable[[Store], Awaitable[None]], **options: object) -> None:
    async def run() -> None:
        store = Store(url, **options)  # type: ignore[arg-type]
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  nobody tells when Redis is back
            await asyncio.sleep(0.02)


def test_commands_and_scripts_run(redis_server: RedisServer) -> None:
    """Keys carry the prefix; a script is known again after Redis forgot it."""

    async def work(store: Store) -> None:
        key = store.key("test", "a")
        assert key == "ocr-ops:test:a"
        assert await store.run("SET", key, b"1", "PX", 5000, "NX")
        assert await store.run("GET", key) == b"1"
        assert await store.script(COUNT, [key], [2]) == 3
        await store.run("SCRIPT", "FLUSH")
        assert await store.script(COUNT, [key], [2]) == 5

    with_store(redis_server.url, work)


def test_more_callers_than_connections_wait_their_turn(redis_server: RedisServer) -> None:
    async def work(store: Store) -> None:
        found = await asyncio.gather(*(store.script(COUNT, [store.key("n")], [1]) for _ in range(500)))
        assert sorted(found) == list(range(1, 501))
        with redis_server.client() as client:
            assert client.info("clients")["connected_clients"] <= 33

    with_store(redis_server.url, work, seconds=5.0)


def test_a_slow_redis_costs_one_time_out(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Stopped: the first calls wait their quarter second together, a thousand later ones not at all; then it is used
    again, and the log has one line for each change.
    """
    caplog.set_level(logging.INFO, "bentoml.ocr_ops")

    async def work(store: Store) -> None:
        await store.run("PING")
        redis_server.pause()
        start = time.monotonic()
        found = await asyncio.gather(*(store.run("PING") for _ in range(20)), return_exceptions=True)
        assert all(isinstance(one, StoreAway) for one in found)
        assert time.monotonic() - start < 1.5
        assert REGISTRY.get_sample_value(metrics.STORE_UP) == 0
        start = time.monotonic()
        for _ in range(1000):
            with pytest.raises(StoreAway, match="slow"):
                await store.run("PING")
        assert time.monotonic() - start < 0.5
        redis_server.resume()
        await until(lambda: store.up)
        assert await store.run("PING")
        assert REGISTRY.get_sample_value(metrics.STORE_UP) == 1

    try:
        with_store(redis_server.url, work)
    finally:
        redis_server.resume()
    told = [record.message for record in caplog.records]
    assert [line.partition(" (")[0].partition(" after")[0] for line in told] == [
        f"Redis 127.0.0.1:{redis_server.port} is away",
        f"Redis 127.0.0.1:{redis_server.port} is back",
    ]


def test_a_dead_redis_is_used_again_once_it_lives(redis_server: RedisServer) -> None:
    """Connections of the old one are no hindrance."""

    async def work(store: Store) -> None:
        await asyncio.gather(*(store.run("PING") for _ in range(8)))
        redis_server.kill()
        with pytest.raises(StoreAway, match="gone"):
            await store.run("PING")
        redis_server.start()
        await until(lambda: store.up)
        assert all(await asyncio.gather(*(store.run("PING") for _ in range(8))))

    with_store(redis_server.url, work)


def test_a_redis_that_was_never_there(tmp_path: Path) -> None:
    async def work(store: Store) -> None:
        with pytest.raises(StoreAway, match="gone"):
            await store.run("PING")

    with_store(RedisServer(tmp_path).url, work)


@pytest.mark.parametrize(
    ("setting", "ill", "well", "reason"),
    [("maxmemory", "1", "0", "full"), ("min-replicas-to-write", "1", "0", "an error")],
)
def test_a_redis_that_takes_no_writes(
    redis_server: RedisServer, setting: str, ill: str, well: str, reason: str
) -> None:
    """Full, or without its replicas: it is away until it takes them again, though it answers a PING."""

    async def work(store: Store) -> None:
        redis_server.configure(setting, ill)
        if setting == "maxmemory":
            redis_server.configure("maxmemory-policy", "noeviction")
        with pytest.raises(StoreAway, match=reason):
            await store.run("SET", store.key("a"), b"1")
        await asyncio.sleep(0.8)  # a probe has been
        assert not store.up
        redis_server.configure(setting, well)
        await until(lambda: store.up)

    with_store(redis_server.url, work)


def test_a_replica_is_read_only(redis_server: RedisServer) -> None:
    """As after a fail-over that made the old primary a replica."""

    async def work(store: Store) -> None:
        with redis_server.client() as client:
            client.replicaof("127.0.0.1", 1)
            with pytest.raises(StoreAway, match="read-only"):
                await store.run("SET", store.key("a"), b"1")
            client.replicaof("NO", "ONE")
        await until(lambda: store.up)

    with_store(redis_server.url, work)


def test_a_call_given_up_leaves_no_answer_for_the_next(redis_server: RedisServer) -> None:
    """A cancelled command takes its connection with it: nobody gets another one's answer."""

    async def work(store: Store) -> None:
        for number in range(200):
            await store.run("SET", store.key(str(number)), str(number))

        async def ask(number: int) -> None:
            assert await store.run("GET", store.key(str(number))) == str(number).encode()

        for _ in range(20):
            tasks = [asyncio.create_task(ask(number)) for number in range(200)]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(one is None or isinstance(one, asyncio.CancelledError) for one in found)
        await until(lambda: not store._going)
        assert not store._redis.connection_pool._in_use_connections

    with_store(redis_server.url, work, seconds=10.0)


def test_tls_with_a_ca_and_an_acl_user(tmp_path: Path) -> None:
    """The certificate is checked against the CA given; the user may touch our keys alone, and no secret is told."""
    ca, cert, key = certificates(tmp_path)
    users = tmp_path / "users.acl"
    users.write_text("user default off\nuser ocr on >s3cret:pass ~ocr-ops:* resetchannels +@all -@admin -@dangerous\n")
    options = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "no"]
    with redis_running(tmp_path / "redis", *map(str, options), "--aclfile", str(users), tls=True) as server:
        url = f"rediss://ocr:s3cret%3Apass@127.0.0.1:{server.port}/0"

        async def work(store: Store) -> None:
            assert await store.script(COUNT, [store.key("n")], [1]) == 1
            with pytest.raises(StoreAway, match="refused"):
                await store.run("GET", "another:key")

        with_store(url, work, ca=ca, seconds=5.0)

        async def refused(store: Store) -> None:
            with pytest.raises(StoreAway) as caught:
                await store.run("PING")
            assert "s3cret" not in str(caught.value)

        with_store(url, refused, seconds=5.0)  # an unknown CA
        with_store(url.replace("s3cret", "wrong"), refused, ca=ca, seconds=5.0)
        with_store(url.replace("rediss", "redis"), refused, seconds=5.0)


@pytest.mark.parametrize("url", ["http://:s3cret@host/0", "s3cret", "redis://:s3cret@host:port/0"])
def test_a_wrong_url_is_told_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        Store(url)
    assert "s3cret" not in str(caught.value)
    monkeypatch.setenv("OCR_OPS_REDIS_URL", url)
    with pytest.raises(SystemExit):
        Store.from_environment()
    assert capsys.readouterr().err.startswith("error: OCR_OPS_REDIS_URL: no URL of a Redis")


def test_the_url_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCR_OPS_REDIS_URL", raising=False)
    assert Store.from_environment() is None
    (tmp_path / "url").write_text("redis://:s3cret@cache.example:7000/1\n", encoding="utf-8")
    monkeypatch.setenv("OCR_OPS_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("OCR_OPS_REDIS_PREFIX", "staging")
    store = Store.from_environment()
    assert store is not None
    assert (store.name, store.key("a")) == ("cache.example:7000", "staging:a")


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A CA, and a certificate of 127.0.0.1 by it: the files of both and of its key, PEM."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

    def certificate(
        name: x509.Name, public: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=True)
        builder = builder.not_valid_before(now - dt.timedelta(hours=1))
        return builder.not_valid_after(now + dt.timedelta(hours=1)).sign(ca_key, hashes.SHA256())

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    constraint = x509.BasicConstraints(ca=True, path_length=None)
    files = {
        "ca.pem": certificate(issuer, ca_key.public_key(), constraint).public_bytes(serialization.Encoding.PEM),
        "cert.pem": certificate(name, key.public_key(), address).public_bytes(serialization.Encoding.PEM),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
