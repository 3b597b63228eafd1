"""Receipts: evidence that a release met a policy, signed with Ed25519 in a DSSE envelope.

https://github.com/secure-systems-lab/dsse says what is signed; `core.receipt` holds the shapes. A signature
says who vouches; what they vouch for are digests, so a receipt outlives any name, alias or version number.
"""

import base64
import binascii
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import ValidationError

from ocr_ops import __version__
from ocr_ops.core.errors import BadInput, BadRecord, NotProven, UntrustedReceipt
from ocr_ops.core.policy import Policy
from ocr_ops.core.receipt import (
    Envelope,
    Evidence,
    PolicyReference,
    Signature,
    Statement,
    Subject,
    Summary,
    Verifier,
    pre_authentication,
)
from ocr_ops.core.record import digest_bytes, short, write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.core.verdict import Verdict, worst
from ocr_ops.core.workspace import Workspace

KEY_VARIABLE = "OCR_OPS_SIGNING_KEY"
"""Path of a private key (PEM) to sign with instead of the workspace's own."""
TRUST_VARIABLE = "OCR_OPS_TRUSTED_KEYS"
"""Further public keys to trust: PEM files, or folders of `*.pub`, parted by `:`."""


def issue_receipt(
    release: Release, reports: Sequence[Report], policy: Policy, workspace: Workspace
) -> tuple[Envelope, Path]:
    """Signs what the reports say of a release and saves it as `receipts/<short release digest>.json`.

    PASSED only when every report passed; otherwise FAILED, which also takes the place of an older PASSED one.
    Raises `NotProven` without both a bench and a gate report, `BadInput` when a report is about another
    subject or was judged by another policy.
    """
    subjects = {
        "release": release.digest,
        "detection": release.detection.digest,
        "recognition": release.recognition.digest,
    }
    for report in reports:
        if report.subject not in subjects.values():
            found = f"measured {short(report.subject)}"
            expected = f"release {short(release.digest)} or one of its bundles"
            raise BadInput(f"report {report.name!r}", found, expected, "leave it out, or measure this release")
        if report.policy not in (None, policy.digest):
            found, expected = f"judged by policy {short(report.policy)}", f"policy {short(policy.digest)}"
            raise BadInput(f"report {report.name!r}", found, expected, "measure again under this policy")
    for kind in ("bench", "gate"):
        if not any(report.kind == kind for report in reports):
            remedy = f"run `ocr-ops {kind}` on this release, with the same --data"
            raise NotProven(f"release {short(release.digest)}", f"no {kind} report", "one at least", remedy)
    passed = worst(report.verdict for report in reports) is Verdict.PASS
    statement = Statement(
        subject=tuple(Subject.of(name, digest) for name, digest in subjects.items()),
        predicate=Summary(
            verifier=Verifier(id=f"ocr-ops/{__version__}"),
            resource_uri=f"urn:ocr-ops:release:{release.digest}",
            policy=PolicyReference(uri="urn:ocr-ops:policy", digest=_hex(policy.digest)),
            input_attestations=tuple(
                Evidence(uri=f"urn:ocr-ops:report:{report.kind}:{report.name}", digest=_hex(report.digest))
                for report in reports
            ),
            verification_result="PASSED" if passed else "FAILED",
        ),
    )
    envelope = sign(statement, workspace)
    path = receipt_path(release.digest, workspace)
    text = json.dumps(envelope.model_dump(mode="json", by_alias=True), indent=2)
    write_atomic(path, text.encode() + b"\n")
    return envelope, path


def receipt_path(release_digest: str, workspace: Workspace) -> Path:
    """Where the receipt of a release is kept."""
    return workspace.receipts / f"{short(release_digest)}.json"


def read_receipt(path: Path) -> Envelope:
    """An envelope as it lies on disk, nothing verified yet. `BadRecord` when it is none."""
    try:
        return Envelope.model_validate_json(path.read_bytes())
    except OSError as error:
        found = error.strerror or str(error)
        raise BadRecord(path, found, "a receipt", "run `ocr-ops gate` to make one, or name its file") from None
    except ValidationError as error:
        raise BadRecord(path, _first(error), "a DSSE envelope", "issue the receipt again") from None


def sign(statement: Statement, workspace: Workspace) -> Envelope:
    """`statement` in an envelope, signed by `OCR_OPS_SIGNING_KEY` or the workspace's key (made if needed)."""
    key = _override() or _make_key(workspace)
    signature = key.sign(pre_authentication(statement.payload))
    return Envelope(
        payload=base64.b64encode(statement.payload).decode(),
        signatures=(Signature(keyid=_keyid(key.public_key()), sig=base64.b64encode(signature).decode()),),
    )


def verify(envelope: Envelope, workspace: Workspace) -> Statement:
    """The statement of an envelope, once a trusted key's signature over it holds.

    `UntrustedReceipt` when no trusted key signed it or the bytes are not those signed; `BadRecord` when what
    was signed is no statement.
    """
    trusted = _trusted_keys(workspace)
    signature = next((one for one in envelope.signatures if one.keyid in trusted), None)
    if signature is None:
        keys = ", ".join(short(one.keyid) for one in envelope.signatures)
        remedy = f"put the signer's public key in {workspace.keys} or name it in {TRUST_VARIABLE}"
        raise UntrustedReceipt(f"receipt {short(envelope.digest)}", f"signed by {keys}", "a trusted key", remedy)
    try:
        payload = envelope.payload_bytes
        trusted[signature.keyid].verify(base64.b64decode(signature.sig, validate=True), pre_authentication(payload))
    except (InvalidSignature, binascii.Error):
        raise UntrustedReceipt(
            f"receipt {short(envelope.digest)}",
            f"its signature by {short(signature.keyid)} does not hold",
            "the bytes that were signed",
            "issue the receipt again; someone may have altered this one",
        ) from None
    try:
        return Statement.model_validate_json(payload)
    except ValidationError as error:
        subject = f"receipt {short(envelope.digest)}"
        raise BadRecord(subject, _first(error), "an in-toto statement", "issue the receipt again") from None


def _trusted_keys(workspace: Workspace) -> dict[str, Ed25519PublicKey]:
    """By key id. Whoever holds the signing key here can sign anything anyway, so that key is trusted too."""
    places = [Path(place) for place in os.environ.get(TRUST_VARIABLE, "").split(os.pathsep) if place]
    if workspace.keys.is_dir():
        places.append(workspace.keys)
    files = [file for place in places for file in (place.glob("*.pub") if place.is_dir() else [place])]
    keys = [_load_public(file) for file in files]
    if own := _override() or _load_own(workspace):
        keys.append(own.public_key())
    return {_keyid(key): key for key in keys}


def _override() -> Ed25519PrivateKey | None:
    path = os.environ.get(KEY_VARIABLE)
    return _load_private(Path(path)) if path else None


def _load_own(workspace: Workspace) -> Ed25519PrivateKey | None:
    path = workspace.keys / "signing.pem"
    return _load_private(path) if path.exists() else None


def _make_key(workspace: Workspace) -> Ed25519PrivateKey:
    """The workspace's own key. Whole or absent: written aside (mode 0600) and linked into place; first wins."""
    path = workspace.keys / "signing.pem"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".signing.") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):  # another process was quicker; its key is the workspace's
                os.link(file.name, path)
    key = _load_private(path)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_atomic(path.with_suffix(".pub"), public)
    return key


def _load_private(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput(path, str(error), "an Ed25519 private key (PEM, no pass phrase)", _KEY_REMEDY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(path, type(key).__name__, "an Ed25519 private key", _KEY_REMEDY)
    return key


def _load_public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(path, str(error), "an Ed25519 public key (PEM)", _KEY_REMEDY) from None
    if not isinstance(key, Ed25519PublicKey):
        raise BadInput(path, type(key).__name__, "an Ed25519 public key", _KEY_REMEDY)
    return key


def _keyid(key: Ed25519PublicKey) -> str:
    """Digest of the public key's 32 raw bytes."""
    return digest_bytes(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _hex(digest: str) -> dict[Literal["sha256"], str]:
    return {"sha256": digest.removeprefix("sha256:")}


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"


_KEY_REMEDY = "check the path; `openssl genpkey -algorithm ed25519` makes a key"
