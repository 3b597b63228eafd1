"""Promote, roll back, pull: moves of the champion that are whole or have not happened.

Two things say which release serves: the alias `champion` in MLflow, and the folder `champion` in the workspace that
`bentoml serve` reads (a real folder, not a link, because a Bento copies it). They cannot change in one step, so:

1. Under a file lock, everything that can refuse comes first: the ledger verifies, the release is fetched to a
   staging folder and hashed, the receipt is verified against those hashes (never against tags).
2. The intended move, which is the ledger entry to be, is written to `move.json`. Nothing has changed yet.
3. The alias `champion` moves. This one atomic step in MLflow is the decision.
4. What follows from it: alias `previous`, the folder, the ledger. Each step may be repeated harmlessly.
5. `move.json` goes.

After a crash, the next command first looks at `move.json`. If `champion` names the intended version, the decision
was taken and step 4 is carried out again to its end; if not, it was not, and the note is dropped. A step that fails
without a crash (MLflow away) is the same case. `previous` moves after `champion`: were it the other way round, a
crash between the two would lose the version a rollback returns to.

The lock holds on one machine. Two machines that promote on one MLflow server at the same moment each move the alias
whole, the later one wins, and `pull` on the other follows it.
"""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ocr_ops.core.errors import BadInput, CorruptBundle, GateFailed, NotProven, UnknownModel, UsageError
from ocr_ops.core.record import lock, short
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import ModelVersion, Registry
from ocr_ops.release.ledger import Entry, Ledger, Move
from ocr_ops.release.sbom import LOCK, write_sbom
from ocr_ops.release.signing import read_receipt, receipt_path, verify

MODEL = "ocr"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Promotion:
    """What serves now. `entry` is None when it did so before and nothing moved."""

    version: ModelVersion
    release: Release
    entry: Entry | None


def promote(
    registry: Registry,
    workspace: Workspace,
    *,
    digest: str | None = None,
    version: int | None = None,
    receipt: Path | None = None,
    reason: str,
) -> Promotion:
    """Makes a release (by digest, by version, or else the candidate) the champion, and serves it from here.

    `receipt`: where its receipt lies, if not in the workspace. Raises `NotProven` without a receipt that vouches
    for exactly these bytes, `GateFailed` when it says FAILED, `UntrustedReceipt`, `UnknownModel`, `CorruptBundle`,
    `RegistryUnreachable`: in each case nothing has moved.
    """
    with lock(workspace.home / "move.lock"):
        _recover(registry, workspace)
        if version is not None:
            target = registry.version(MODEL, version)
        elif digest is not None:
            target = registry.find(MODEL, digest)
        else:
            target = _aliased(registry, "candidate", "run `ocr-ops release`, or name a digest")
        champion = registry.alias(MODEL, "champion")
        if champion and champion.version == target.version:
            return _follow(registry, workspace, champion, receipt, reason, force=False)
        release, receipts = _proven(registry, workspace, target, receipt)
        move = _move("promote", champion, target, release, reason=reason, receipts=receipts)
        return _carry_out(registry, workspace, move)


def rollback(registry: Registry, workspace: Workspace, *, receipt: Path | None = None, reason: str) -> Promotion:
    """Makes the alias `previous` the champion again, and the champion the previous. Raises as `promote`."""
    with lock(workspace.home / "move.lock"):
        _recover(registry, workspace)
        champion = registry.alias(MODEL, "champion")
        target = _aliased(registry, "previous", "promote a release by digest instead")
        if champion and champion.version == target.version:
            found = f"{target} is champion and previous"
            raise UsageError("rollback", found, "another release to return to", "promote one by digest")
        release, receipts = _proven(registry, workspace, target, receipt)
        move = _move("rollback", champion, target, release, reason=reason, receipts=receipts)
        return _carry_out(registry, workspace, move)


def pull(
    registry: Registry,
    workspace: Workspace,
    *,
    receipt: Path | None = None,
    force: bool = False,
    reason: str = "follow the alias",
) -> Promotion:
    """Serves what the alias `champion` names now: somebody may have moved it in the MLflow UI or elsewhere.

    Raises as `promote`; `force` does without a receipt, and the ledger shows that there was none.
    """
    with lock(workspace.home / "move.lock"):
        _recover(registry, workspace)
        champion = _aliased(registry, "champion", "promote a release first")
        return _follow(registry, workspace, champion, receipt, reason, force=force)


def history(workspace: Workspace) -> Sequence[Entry]:
    """Every move, oldest first. `BadRecord` when the ledger does not verify."""
    return Ledger(workspace.ledger).verify().entries


def _follow(
    registry: Registry,
    workspace: Workspace,
    champion: ModelVersion,
    receipt: Path | None,
    reason: str,
    *,
    force: bool,
) -> Promotion:
    """The folder catches up with the alias. Proof is asked for also when it has already."""
    release, receipts = _proven(registry, workspace, champion, receipt, force=force)
    served = _served(workspace)
    if served == release.digest:
        shutil.rmtree(release.path)
        return Promotion(champion, Release.open(workspace.champion), None)
    before = None
    with suppress(UnknownModel):
        before = registry.find(MODEL, served) if served else None
    move = _move("observe", before, champion, release, reason=reason, receipts=receipts)
    return _carry_out(registry, workspace, move.model_copy(update={"from_digest": served}))


def _move(
    action: Literal["promote", "rollback", "observe"],
    source: ModelVersion | None,
    target: ModelVersion,
    release: Release,
    *,
    reason: str,
    receipts: tuple[str, ...],
) -> Move:
    return Move(
        action=action,
        from_version=source.version if source else None,
        from_digest=(source.digest or None) if source else None,
        to_version=target.version,
        to_digest=release.digest,
        reason=reason,
        receipts=receipts,
    )


def _aliased(registry: Registry, alias: Literal["candidate", "champion", "previous"], remedy: str) -> ModelVersion:
    found = registry.alias(MODEL, alias)
    if found is None:
        raise UnknownModel(f"{MODEL}@{alias}", "no version bears this alias", "a release that does", remedy)
    return found


def _staging(workspace: Workspace) -> Path:
    return workspace.champion.with_name("champion.next")


def _proven(
    registry: Registry, workspace: Workspace, target: ModelVersion, receipt: Path | None, *, force: bool = False
) -> tuple[Release, tuple[str, ...]]:
    """The staged release and the receipts that vouch for it; nothing stays staged when they do not."""
    release = registry.fetch_release(target, _staging(workspace))
    try:
        return release, () if force else (_proof(release, receipt, workspace),)
    except BaseException:
        shutil.rmtree(release.path)
        raise


def _proof(release: Release, receipt: Path | None, workspace: Workspace) -> str:
    """The digest of a receipt, once it is found to vouch for the bytes of `release`."""
    name = f"release {short(release.digest)}"
    path = receipt or receipt_path(release.digest, workspace)
    remedy = "run the gate on this release, or give its receipt"
    if not path.exists():
        raise NotProven(name, f"no receipt at {path}", "a signed receipt", remedy)
    envelope = read_receipt(path)
    statement = verify(envelope, workspace)
    expected = {
        "release": release.digest,
        "detection": release.detection.digest,
        "recognition": release.recognition.digest,
    }
    if statement.digests != expected or len(statement.subject) != len(expected):
        vouched = ", ".join(f"{subject.name} {short(subject.identity)}" for subject in statement.subject)
        wanted = ", ".join(f"{part} {short(digest)}" for part, digest in expected.items())
        raise NotProven(name, f"{path.name} vouches for {vouched}", wanted, remedy)
    if statement.predicate.verification_result != "PASSED":
        raise GateFailed(name, "its receipt says FAILED", "PASSED", "mend what failed, and gate it again")
    return envelope.digest


def _carry_out(registry: Registry, workspace: Workspace, move: Move) -> Promotion:
    """Steps 2 to 5 of the module's docstring; the release is staged and proven."""
    Ledger(workspace.ledger).verify()
    move.save(_note(workspace))
    if move.action != "observe":
        registry.set_alias(registry.version(MODEL, move.to_version), "champion")
    return _complete(registry, workspace, move)


def _complete(registry: Registry, workspace: Workspace, move: Move) -> Promotion:
    """Steps 4 and 5, from wherever an earlier attempt stopped."""
    if move.action != "observe" and move.from_version is not None:
        registry.set_alias(registry.version(MODEL, move.from_version), "previous")
    if _served(workspace) != move.to_digest:
        _swap(workspace)
    release = Release.open(workspace.champion)
    ledger = Ledger(workspace.ledger)
    entries = ledger.verify().entries
    # The time is part of a move, to the microsecond: the same move twice is one that was written already.
    entry = entries[-1] if entries and entries[-1].move == move else ledger.append(move)
    for left in (_staging(workspace), _old(workspace)):
        shutil.rmtree(left, ignore_errors=True)
    _note(workspace).unlink()
    return Promotion(registry.version(MODEL, move.to_version), release, entry)


def _recover(registry: Registry, workspace: Workspace) -> None:
    """Finishes or drops the move that an earlier command left behind."""
    old = _old(workspace)
    if old.exists() and not workspace.champion.exists():
        old.rename(workspace.champion)  # stopped between two renames: serve again, before anything can fail
    note = _note(workspace)
    if not note.exists():
        return
    move = Move.from_file(note)
    champion = registry.alias(MODEL, "champion")
    if champion is None or champion.version != move.to_version:
        _LOG.warning("dropped an unfinished %s to version %d: nothing had moved", move.action, move.to_version)
        note.unlink()
        return
    _LOG.warning("finishing an interrupted %s to version %d", move.action, move.to_version)
    if _served(workspace) != move.to_digest:
        release = registry.fetch_release(champion, _staging(workspace))
        if release.digest != move.to_digest:
            remedy = f"{champion} was replaced; promote another, after removing {note}"
            raise CorruptBundle(champion, release.digest, move.to_digest, remedy)
    _complete(registry, workspace, move)


def _swap(workspace: Workspace) -> None:
    """The staged release takes the champion's place; two renames, and `_recover` mends a stop between them."""
    old = _old(workspace)
    shutil.rmtree(old, ignore_errors=True)
    if workspace.champion.exists():
        workspace.champion.rename(old)
    if LOCK.is_file():  # a clone, which builds Bentos of its champion
        write_sbom(Release.open(_staging(workspace)))
    _staging(workspace).rename(workspace.champion)


def _served(workspace: Workspace) -> str | None:
    """Digest of the release in the champion folder; None when there is none that is whole."""
    try:
        return Release.open(workspace.champion).digest
    except BadInput:
        return None


def _note(workspace: Workspace) -> Path:
    return workspace.home / "move.json"


def _old(workspace: Workspace) -> Path:
    return workspace.champion.with_name("champion.old")
