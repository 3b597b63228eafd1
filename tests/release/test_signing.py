import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ocr_ops.core.bundle import Manifest, ModelBundle
from ocr_ops.core.errors import BadInput, BadRecord, NotProven, UntrustedReceipt
from ocr_ops.core.policy import Policy
from ocr_ops.core.receipt import Envelope, pre_authentication
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.release import Release
from ocr_ops.core.report import Environment, Report
from ocr_ops.core.spec import InputSpec, Task
from ocr_ops.core.verdict import Check
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.signing import issue_receipt, read_receipt, sign, verify

ENVIRONMENT = Environment(cpu="test", isa=(), cores=2, system="test", packages={})


def _bundle(path: Path, task: Task) -> ModelBundle:
    manifest = Manifest(
        model=f"{task}-test",
        task=task,
        precision="fp32",
        licence="Apache-2.0",
        input=InputSpec(stride=32, max_side=1280),
        floor=0.5,
        opset=17,
        weights=digest_bytes(task.encode()),
        toolkit="test",
        files={},
    )
    return ModelBundle.write(path, manifest, {"model.onnx": task.encode()})


def _report(kind: str, subject: str, *, found: float | None = 1.0) -> Report:
    check = Check(name="accuracy", found=found, comparison=">=", limit=0.5)
    return Report.parse(
        {
            "kind": kind,
            "name": kind,
            "subject": subject,
            "dataset": None,
            "environment": ENVIRONMENT,
            "metrics": {"accuracy": 1.0},
            "checks": (check,),
        },
        kind,
    )


@pytest.fixture
def release(tmp_path: Path) -> Release:
    detection, recognition = (_bundle(tmp_path / task, task) for task in ("detection", "recognition"))
    return Release.write(tmp_path / "release", detection, recognition)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("OCR_OPS_SIGNING_KEY", raising=False)
    monkeypatch.delenv("OCR_OPS_TRUSTED_KEYS", raising=False)
    return Workspace(tmp_path / "home")


@pytest.fixture
def envelope(release: Release, workspace: Workspace) -> Envelope:
    reports = [_report("bench", release.detection.digest), _report("gate", release.digest)]
    return issue_receipt(release, reports, Policy(), workspace)[0]


def test_a_receipt_comes_back_from_disk_verified(release: Release, workspace: Workspace) -> None:
    reports = [_report("bench", release.detection.digest), _report("gate", release.digest)]
    envelope, path = issue_receipt(release, reports, Policy(), workspace)
    statement = verify(read_receipt(path), workspace)
    assert path.parent == workspace.receipts
    assert path.stem in release.digest
    assert read_receipt(path).digest == envelope.digest
    assert statement.predicate.verification_result == "PASSED"
    assert statement.digests == {
        "release": release.digest,
        "detection": release.detection.digest,
        "recognition": release.recognition.digest,
    }
    assert {"sha256": reports[0].digest.removeprefix("sha256:")} == statement.predicate.input_attestations[0].digest


@pytest.mark.parametrize("found", [0.1, None])
def test_a_report_that_did_not_pass_makes_a_failed_receipt(
    release: Release, workspace: Workspace, found: float | None
) -> None:
    reports = [_report("bench", release.digest, found=found), _report("gate", release.digest)]
    envelope, _ = issue_receipt(release, reports, Policy(), workspace)
    assert verify(envelope, workspace).predicate.verification_result == "FAILED"


@pytest.mark.parametrize("kind", ["bench", "gate"])
def test_one_kind_of_report_alone_proves_nothing(release: Release, workspace: Workspace, kind: str) -> None:
    with pytest.raises(NotProven):
        issue_receipt(release, [_report(kind, release.digest)], Policy(), workspace)
    assert not workspace.receipts.exists()


def test_a_report_about_something_else_is_refused(release: Release, workspace: Workspace) -> None:
    reports = [_report("bench", digest_bytes(b"another")), _report("gate", release.digest)]
    with pytest.raises(BadInput, match="release"):
        issue_receipt(release, reports, Policy(), workspace)


def test_a_report_judged_by_another_policy_is_refused(release: Release, workspace: Workspace) -> None:
    lax = _report("gate", release.digest).model_copy(update={"policy": Policy(min_word_f1=0).digest})
    with pytest.raises(BadInput, match="policy"):
        issue_receipt(release, [_report("bench", release.digest), lax], Policy(), workspace)


def test_the_private_key_is_for_its_owner_only_and_made_once(envelope: Envelope, workspace: Workspace) -> None:
    key = workspace.keys / "signing.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    sign(verify(envelope, workspace), workspace)
    assert key.read_bytes() == before
    assert sorted(file.name for file in workspace.keys.iterdir()) == ["signing.pem", "signing.pub"]


def test_the_signature_is_plain_dsse(envelope: Envelope, workspace: Workspace) -> None:
    """Any DSSE verifier holding the public key can check it."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    key = load_pem_public_key((workspace.keys / "signing.pub").read_bytes())
    payload = base64.b64decode(envelope.payload)
    assert payload.startswith(b'{"_type":"https://in-toto.io/Statement/v1"')
    key.verify(base64.b64decode(envelope.signatures[0].sig), pre_authentication(payload))  # type: ignore[union-attr,call-arg]


def test_an_altered_statement_is_found(envelope: Envelope, workspace: Workspace) -> None:
    payload = base64.b64encode(envelope.payload_bytes.replace(b"PASSED", b"FAILED")).decode()
    with pytest.raises(UntrustedReceipt, match="does not hold"):
        verify(envelope.model_copy(update={"payload": payload}), workspace)


@pytest.mark.parametrize("payload", ["", "*", "e30="])
def test_a_payload_that_was_never_signed_is_found(envelope: Envelope, workspace: Workspace, payload: str) -> None:
    with pytest.raises(UntrustedReceipt, match="does not hold"):
        verify(envelope.model_copy(update={"payload": payload}), workspace)


def test_a_stranger_is_not_trusted_until_their_key_is_named(
    envelope: Envelope, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Workspace(tmp_path / "production")
    with pytest.raises(UntrustedReceipt, match="signed by"):
        verify(envelope, elsewhere)
    assert not elsewhere.home.exists()
    monkeypatch.setenv("OCR_OPS_TRUSTED_KEYS", str(workspace.keys / "signing.pub"))
    verify(envelope, elsewhere)
    monkeypatch.setenv("OCR_OPS_TRUSTED_KEYS", str(workspace.keys))
    verify(envelope, elsewhere)
    monkeypatch.delenv("OCR_OPS_TRUSTED_KEYS")
    elsewhere.keys.mkdir(parents=True)
    (elsewhere.keys / "ci.pub").write_bytes((workspace.keys / "signing.pub").read_bytes())
    verify(envelope, elsewhere)


def test_a_key_from_the_environment_signs_instead(
    envelope: Envelope, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ci.pem"
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    statement = verify(envelope, workspace)
    monkeypatch.setenv("OCR_OPS_SIGNING_KEY", str(path))
    signed = sign(statement, workspace)
    assert signed.signatures[0].keyid != envelope.signatures[0].keyid
    assert verify(signed, workspace) == statement
    monkeypatch.delenv("OCR_OPS_SIGNING_KEY")
    with pytest.raises(UntrustedReceipt):
        verify(signed, workspace)


def test_a_broken_or_missing_key_is_one_readable_line(
    envelope: Envelope, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        path = tmp_path / "broken.pem"
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setenv("OCR_OPS_SIGNING_KEY", str(path))
        with pytest.raises(BadInput, match=r"broken\.pem"):
            verify(envelope, workspace)
    monkeypatch.delenv("OCR_OPS_SIGNING_KEY")
    (workspace.keys / "odd.pub").write_bytes(b"no key")
    with pytest.raises(BadInput, match=r"odd\.pub"):
        verify(envelope, workspace)


def test_a_signed_thing_that_is_no_statement_is_refused(envelope: Envelope, workspace: Workspace) -> None:
    class Other:
        payload = b'{"_type": "something else"}'

    signed = sign(Other(), workspace)  # type: ignore[arg-type]
    with pytest.raises(BadRecord, match="statement"):
        verify(signed, workspace)


def test_a_file_that_is_no_receipt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="No such file"):
        read_receipt(tmp_path / "none.json")
    path = tmp_path / "receipt.json"
    path.write_text('{"payloadType": "text/plain", "payload": "", "signatures": []}', encoding="utf-8")
    with pytest.raises(BadRecord, match="payloadType"):
        read_receipt(path)


def test_a_public_key_of_another_kind_is_refused(envelope: Envelope, workspace: Workspace) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    pem = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (workspace.keys / "ec.pub").write_bytes(pem)
    with pytest.raises(BadInput, match="Ed25519"):
        verify(envelope, workspace)
