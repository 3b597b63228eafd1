"""API keys: who may call the service, as what, until when. Of each secret only a slow hash is kept.

A key reads `ocr_HANDLE_SECRETCHECK`. The handle is public and finds the one hash to try; the secret has 256 bits; the
check tells a mistyped key from a wrong one, and a scanner for leaked secrets a key from other words.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints

from ocr_ops.core.errors import BadInput, BadRecord, UsageError
from ocr_ops.core.record import Record, Value, lock, write_atomic

Role = Literal["read", "feedback", "metrics", "admin"]
"""What a caller may do: read documents, send corrections, scrape metrics; an admin may do all of it."""

PATTERN = re.compile(r"ocr_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}([0-9A-Za-z]{6})")
"""A whole key: what a scanner for leaked secrets looks for."""
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HEX = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]
_Count = Annotated[int, Field(ge=0)]


class Limits(Value):
    """What one key may ask for. None: the service's own default; 0: without limit."""

    requests_per_minute: _Count | None = None
    pages_per_day: _Count | None = None
    pages_per_month: _Count | None = None


class Secret(Value):
    """One secret of a key, as it is kept: scrypt's parameters and what it made of the whole key."""

    handle: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{8}$")]
    salt: _HEX
    hash: _HEX
    n: Annotated[int, Field(ge=2**12, le=2**17)] = 2**14
    r: Annotated[int, Field(ge=8, le=16)] = 8
    p: Annotated[int, Field(ge=1, le=4)] = 1
    created: AwareDatetime
    expires: AwareDatetime | None = None
    """Set when another took its place: until then both are good."""

    @classmethod
    def of(cls, key: str, created: datetime) -> Self:
        """Takes as long as verification does: tens of milliseconds, 16 MiB."""
        salt = secrets.token_bytes(16)
        made = cls(handle=key[4:12], salt=salt.hex(), hash="00", created=created)
        return made.model_copy(update={"hash": made.hashed(key).hex()})

    def hashed(self, key: str) -> bytes:
        return hashlib.scrypt(
            key.encode(), salt=bytes.fromhex(self.salt), n=self.n, r=self.r, p=self.p, maxmem=256 * 2**20, dklen=32
        )

    def matches(self, key: str) -> bool:
        """Slow on purpose, and as slow whatever the key."""
        return hmac.compare_digest(self.hashed(key), bytes.fromhex(self.hash))


class Key(Value):
    """A caller. Its id stays when its secret is replaced: jobs, quotas and the audit log go by it."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z]{8}$")]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$")]
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    limits: Limits = Limits()
    secrets: Annotated[tuple[Secret, ...], Field(min_length=1)]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and self.expires <= now else "active"

    def good(self, secret: Secret, now: datetime) -> bool:
        """Whether this secret of it lets its bearer in now."""
        return self.state(now) == "active" and not (secret.expires and secret.expires <= now)


class KeyRing(Record):
    """Every key there is, and those that were."""

    keys: tuple[Key, ...] = ()

    def find(self, handle: str) -> tuple[Key, Secret] | None:
        """The key of a handle, and the one secret to try."""
        found = ((key, secret) for key in self.keys for secret in key.secrets if secret.handle == handle)
        return next(found, None)

    def named(self, name: str, now: datetime) -> Key:
        """By its id, or by the name of one that is not revoked. `BadInput` when there is none."""
        for key in self.keys:
            if key.id == name or (key.name == name and not key.revoked):
                return key
        names = ", ".join(key.name for key in self.keys if key.state(now) == "active") or "none"
        raise BadInput(f"key {name}", "no such key", f"one of: {names}", "see `ocr-ops keys list`")

    def create(
        self, name: str, roles: tuple[Role, ...], limits: Limits, expires: datetime | None, now: datetime
    ) -> "Changed":
        """With one key more. `UsageError` for a name in use, `BadRecord` for one that is no name."""
        if any(key.name == name and not key.revoked for key in self.keys):
            raise UsageError(f"key {name}", "a key of this name", "a new name", "rotate or revoke it, or take another")
        whole = _new()
        secret = Secret.of(whole, now)
        fields = {"id": secret.handle, "name": name, "roles": roles, "limits": limits, "secrets": (secret,)}
        [key] = KeyRing.parse({"keys": ({**fields, "created": now, "expires": expires},)}, f"key {name}").keys
        return Changed(KeyRing(keys=(*self.keys, key)), key, whole)

    def rotate(self, name: str, grace: timedelta, now: datetime) -> "Changed":
        """With a new secret for a key; the one before stays good for `grace`, any before that no longer than it was."""
        key = self.named(name, now)
        if key.state(now) != "active":
            raise UsageError(f"key {name}", key.state(now), "an active key", "create a new one")
        whole, end = _new(), now + grace
        old = (
            secret if secret.expires and secret.expires <= end else secret.model_copy(update={"expires": end})
            for secret in key.secrets
            if not (secret.expires and secret.expires <= now)
        )
        changed = key.model_copy(update={"secrets": (*old, Secret.of(whole, now))})
        return Changed(self._with(changed), changed, whole)

    def revoke(self, name: str, now: datetime) -> "Changed":
        """With a key that is good for nothing from now on."""
        key = self.named(name, now)
        changed = key if key.revoked else key.model_copy(update={"revoked": now})
        return Changed(self._with(changed), changed)

    def _with(self, changed: Key) -> "KeyRing":
        return KeyRing(keys=tuple(changed if key.id == changed.id else key for key in self.keys))


@dataclass(frozen=True, slots=True)
class Changed:
    """A ring after a change, the key it was about, and what the bearer of that key must send from now on."""

    ring: KeyRing
    key: Key
    secret: str | None = None


def handle_of(key: str) -> str | None:
    """The handle of a key, None when it is no key or was mistyped: nothing slow is done for such."""
    found = PATTERN.fullmatch(key)
    return found[1] if found and found[2] == _check(key[:-6]) else None


def read_keys(path: Path) -> KeyRing:
    """The ring in a file; an empty one where there is none. `BadRecord` when it cannot be read or is none."""
    try:
        return KeyRing.from_file(path)
    except BadRecord:
        if absent(path):
            return KeyRing()
        raise


def absent(path: Path) -> bool:
    """Whether there is no such file. One that cannot be looked at may be there."""
    try:
        path.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def change_keys(path: Path, change: Callable[[KeyRing], Changed]) -> Changed:
    """Writes what `change` makes of the ring, whole, for its owner's eyes alone; others who change it wait."""
    with lock(path.with_suffix(".lock")):
        changed = change(read_keys(path))
        write_atomic(path, changed.ring.model_dump_json(indent=2).encode() + b"\n", mode=0o600)
        return changed


def now() -> datetime:
    """To the second, as keys are dated."""
    return datetime.now(UTC).replace(microsecond=0)


def _new() -> str:
    body = "".join(secrets.choice(_DIGITS) for _ in range(8 + 43))
    start = f"ocr_{body[:8]}_{body[8:]}"
    return start + _check(start)


def _check(start: str) -> str:
    value, digits = zlib.crc32(start.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _DIGITS[digit] + digits
    return digits
