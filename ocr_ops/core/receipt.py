"""Receipt: signed evidence that a release met a policy.

The statement is an in-toto Statement v1 whose predicate is a SLSA Verification Summary v1; it travels in a
DSSE v1 envelope (https://github.com/secure-systems-lab/dsse). Signing lives in `release/signing.py`.
"""

import base64
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from ocr_ops.core.bundle import Digest
from ocr_ops.core.record import Value, canonical_json, digest_bytes

StatementType = Literal["https://in-toto.io/Statement/v1"]
PredicateType = Literal["https://slsa.dev/verification_summary/v1"]
PayloadType = Literal["application/vnd.in-toto+json"]
STATEMENT_TYPE: StatementType = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: PredicateType = "https://slsa.dev/verification_summary/v1"
PAYLOAD_TYPE: PayloadType = "application/vnd.in-toto+json"


class _Camel(Value):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
    )


class Subject(_Camel):
    name: str
    digest: dict[Literal["sha256"], Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]

    @classmethod
    def of(cls, name: str, digest: str) -> "Subject":
        return cls(name=name, digest={"sha256": digest.removeprefix("sha256:")})

    @property
    def identity(self) -> str:
        return "sha256:" + self.digest["sha256"]


class Evidence(_Camel):
    """A report this summary rests on."""

    uri: str
    digest: dict[Literal["sha256"], str]


class Verifier(_Camel):
    id: str


class PolicyReference(_Camel):
    uri: str
    digest: dict[Literal["sha256"], str]


class Summary(_Camel):
    verifier: Verifier
    time_verified: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    resource_uri: str
    policy: PolicyReference
    input_attestations: Annotated[tuple[Evidence, ...], Field(min_length=1)]
    verification_result: Literal["PASSED", "FAILED"]
    verified_levels: tuple[str, ...] = ()


class Statement(_Camel):
    """Subjects: `release`, `detection`, `recognition`, by digest."""

    type_: Annotated[StatementType, Field(alias="_type")] = STATEMENT_TYPE
    subject: Annotated[tuple[Subject, ...], Field(min_length=1)]
    predicate_type: PredicateType = PREDICATE_TYPE
    predicate: Summary

    @property
    def payload(self) -> bytes:
        """What is signed: canonical JSON."""
        return canonical_json(self.model_dump(mode="json", by_alias=True)).encode()

    @property
    def digests(self) -> dict[str, str]:
        return {subject.name: subject.identity for subject in self.subject}


class Signature(_Camel):
    keyid: Digest
    sig: str
    """Base64 of the Ed25519 signature over DSSE's pre-authentication encoding."""


class Envelope(_Camel):
    payload_type: PayloadType = PAYLOAD_TYPE
    payload: str
    """Base64 of the statement."""
    signatures: Annotated[tuple[Signature, ...], Field(min_length=1)]

    @property
    def payload_bytes(self) -> bytes:
        return base64.b64decode(self.payload, validate=True)

    @property
    def digest(self) -> str:
        return digest_bytes(canonical_json(self.model_dump(mode="json", by_alias=True)).encode())


def pre_authentication(payload: bytes) -> bytes:
    """DSSE's PAE: what a signature covers, `DSSEv1 LEN(type) type LEN(body) body`."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
