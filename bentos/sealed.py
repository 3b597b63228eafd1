"""Sealing: what is kept of documents is kept encrypted, and opens only in the place it was sealed for."""

import base64
import hashlib
import hmac
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bentos.champion import end, secret
from ocr_ops.core.errors import UsageError

KEY = "OCR_OPS_CACHE_KEY"
KEY_BYTES = 32
_SALT, _NONCE = 16, 12
_LEVEL = 1
"""Of zlib: 6 takes four times as long for a tenth less."""


class Sealer:
    """AES-256-GCM with keys derived from one: for each purpose, for names, and for every value sealed.

    A key of its own for each value is why no number of them wears the one key out. Older keys open what they sealed,
    and seal nothing more.
    """

    def __init__(self, key: bytes, purpose: str, older: Sequence[bytes] = ()) -> None:
        self._values = _derived(key, f"{purpose} values")
        self._names = _derived(key, f"{purpose} names")
        self.older = tuple(Sealer(one, purpose) for one in older)
        """What each of the older keys sealed, and named."""

    @classmethod
    def of_this_process(cls, purpose: str) -> Self:
        """With a key nobody else has: what it seals is for this process alone."""
        return cls(os.urandom(KEY_BYTES), purpose)

    def name(self, *parts: str) -> str:
        """What stands for `parts` where others may look: nobody without the key can tell, or try, what they are."""
        # Lengths keep ("ab", "c") apart from ("a", "bc").
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.digest(self._names, text.encode(), hashlib.sha256).hex()

    def names(self, *parts: str) -> tuple[str, ...]:
        """The same by each key, the newest first."""
        return self.name(*parts), *(one.name(*parts) for one in self.older)

    def seal(self, data: bytes, *place: str, level: int = _LEVEL) -> bytes:
        """Compresses, at zlib's `level`, and encrypts `data` for `place`."""
        salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
        cipher = AESGCM(hmac.digest(self._values, salt, hashlib.sha256))
        return salt + nonce + cipher.encrypt(nonce, zlib.compress(data, level), self.name(*place).encode())

    def open(self, sealed: bytes, *place: str) -> bytes | None:
        """What was sealed; None for anything that no key of these sealed for this very place."""
        for one in (self, *self.older):
            data = one._opened(sealed, *place)  # noqa: SLF001  of its own kind
            if data is not None:
                return data
        return None

    def opener(self, sealed: bytes, *place: str) -> "Sealer":
        """Whose key it was that sealed this; its own where it is nobody's."""
        return next((one for one in self.older if one._opened(sealed, *place) is not None), self)  # noqa: SLF001

    def _opened(self, sealed: bytes, *place: str) -> bytes | None:
        salt, nonce, box = sealed[:_SALT], sealed[_SALT : _SALT + _NONCE], sealed[_SALT + _NONCE :]
        if len(nonce) < _NONCE:
            return None
        cipher = AESGCM(hmac.digest(self._values, salt, hashlib.sha256))
        try:
            return zlib.decompress(cipher.decrypt(nonce, box, self.name(*place).encode()))
        except InvalidTag:
            return None


def configured_keys() -> tuple[bytes, ...]:
    """The keys that `OCR_OPS_CACHE_KEY`, or the file `OCR_OPS_CACHE_KEY_FILE`, holds, with commas or white space
    between: the first seals, all open. None without either.

    Anything but 32 bytes in base64 or hex ends the process with one line.
    """
    text = secret(KEY)
    return () if text is None else _keys(text, KEY)


def kept_keys(path: Path) -> tuple[bytes, ...]:
    """The keys in a file that only this user may read, of which one is made now unless it is there already; so is its
    folder, which is this user's alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Several processes may start at once: whoever links first, all use that one.
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(base64.b64encode(os.urandom(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink(missing_ok=True)
    return _keys(path.read_text(encoding="ascii"), path)


def _keys(text: str, subject: object) -> tuple[bytes, ...]:
    return tuple(_key(part, subject) for part in text.replace(",", " ").split() or [""])


def _key(text: str, subject: object) -> bytes:
    text = text.strip().translate(str.maketrans("-_", "+/"))
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        end(UsageError(subject, "no key", "32 bytes in base64 or hex", "make one: `openssl rand -base64 32`"))
    return key


def _derived(key: bytes, purpose: str) -> bytes:
    """HKDF's expansion (RFC 5869) to one block: the key is uniform, and needs no extraction."""
    return hmac.digest(key, f"ocr-ops {purpose}".encode() + b"\x01", hashlib.sha256)
