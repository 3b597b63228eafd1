import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocr_ops.core.errors import (
    BadInput,
    BadRecord,
    CorruptBundle,
    GateFailed,
    NotProven,
    RegistryUnreachable,
    UnknownModel,
    UntrustedReceipt,
    UsageError,
)
from ocr_ops.core.policy import Policy
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import ModelVersion, Registry
from ocr_ops.release.ledger import Ledger, Move
from ocr_ops.release.promote import Promotion, history, promote, pull, rollback
from ocr_ops.release.signing import issue_receipt
from tests.registered import register_release, report


@dataclass(frozen=True)
class World:
    """One store with three registered releases; a workspace and aliases as good as new for each test."""

    registry: Registry
    releases: tuple[Release, ...]
    versions: tuple[ModelVersion, ...]
    workspace: Workspace

    def vouch(self, index: int, found: float = 120) -> Path:
        release = self.releases[index]
        reports = [
            report("bench", "detection", release.detection.digest),
            report("gate", "load", release.digest, found),
        ]
        return issue_receipt(release, reports, Policy(), self.workspace)[1]

    def aliases(self) -> dict[str, int]:
        return dict(self.registry.client.get_registered_model("ocr").aliases)

    def set_aliases(self, **aliases: int) -> None:
        """Aliases by index of a release; all others go."""
        for alias in self.aliases():
            self.registry.client.delete_registered_model_alias("ocr", alias)
        for alias, index in aliases.items():
            self.registry.set_alias(self.versions[index], alias)  # type: ignore[arg-type]

    def promote(self, index: int, reason: str = "better") -> Promotion:
        return promote(self.registry, self.workspace, digest=self.releases[index].digest, reason=reason)

    def number(self, index: int) -> int:
        return self.versions[index].version

    @property
    def served(self) -> str:
        return Release.open(self.workspace.champion).digest

    def expect(self, champion: int, previous: int | None) -> None:
        """Aliases and folder agree, and nothing of the work is left over."""
        aliases = {name: number for name, number in self.aliases().items() if name in ("champion", "previous")}
        expected = {"champion": self.number(champion)}
        if previous is not None:
            expected["previous"] = self.number(previous)
        assert aliases == expected
        assert self.served == self.releases[champion].digest
        left = {path.name for path in self.workspace.home.iterdir()}
        assert not left & {"move.json", "champion.next", "champion.old"}


@pytest.fixture(scope="module")
def store(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Registry, tuple[tuple[Release, ModelVersion], ...]]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry.open(Workspace(folder / "home"))
    return registry, tuple(register_release(registry, folder / str(seed), seed) for seed in range(3))


@pytest.fixture
def world(
    store: tuple[Registry, tuple[tuple[Release, ModelVersion], ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    for name in ("OCR_OPS_SIGNING_KEY", "OCR_OPS_TRUSTED_KEYS"):
        monkeypatch.delenv(name, raising=False)
    registry, made = store
    releases, versions = zip(*made, strict=True)
    world = World(registry, releases, versions, Workspace(tmp_path / "home"))
    world.set_aliases()
    return world


def test_the_first_promotion_serves_the_candidate(world: World) -> None:
    world.set_aliases(candidate=0)
    world.vouch(0)
    done = promote(world.registry, world.workspace, reason="the first")
    world.expect(champion=0, previous=None)
    assert done.release.path == world.workspace.champion
    assert not world.workspace.champion.is_symlink()
    assert done.entry
    move = done.entry.move
    assert (move.action, move.from_version, move.to_version) == ("promote", None, world.number(0))
    assert move.reason == "the first"
    assert len(move.receipts) == 1
    assert history(world.workspace) == (done.entry,)


def test_promote_then_roll_back_then_forth(world: World) -> None:
    for index in (0, 1):
        world.vouch(index)
        world.promote(index)
    world.expect(champion=1, previous=0)
    rollback(world.registry, world.workspace, reason="slow")
    world.expect(champion=0, previous=1)
    rollback(world.registry, world.workspace, reason="it was the network")
    world.expect(champion=1, previous=0)
    moves = [entry.move for entry in history(world.workspace)]
    assert [move.action for move in moves] == ["promote", "promote", "rollback", "rollback"]
    assert [(move.from_version, move.to_version) for move in moves[1:]] == [
        (world.number(0), world.number(1)),
        (world.number(1), world.number(0)),
        (world.number(0), world.number(1)),
    ]


def test_promoting_the_champion_again_changes_nothing(world: World) -> None:
    world.vouch(0)
    world.promote(0)
    again = promote(world.registry, world.workspace, version=world.number(0), reason="again")
    assert again.entry is None
    assert again.release.path == world.workspace.champion
    assert len(history(world.workspace)) == 1
    world.expect(champion=0, previous=None)


def test_nothing_moves_without_a_receipt_for_exactly_these_bytes(world: World, tmp_path: Path) -> None:
    world.vouch(0)
    world.promote(0)
    with pytest.raises(NotProven, match="no receipt"):
        world.promote(1)
    with pytest.raises(NotProven, match="vouches for"):
        promote(world.registry, world.workspace, version=world.number(1), receipt=world.vouch(2), reason="wrong")
    world.vouch(1, found=900)
    with pytest.raises(GateFailed):
        world.promote(1)
    path = world.vouch(1)
    stranger = World(world.registry, world.releases, world.versions, Workspace(tmp_path / "stranger"))
    with pytest.raises(UntrustedReceipt):
        promote(world.registry, world.workspace, version=world.number(1), receipt=stranger.vouch(1), reason="forged")
    path.write_text(path.read_text(encoding="utf-8").replace("payload", "payloads", 1), encoding="utf-8")
    with pytest.raises(BadRecord):
        world.promote(1)
    world.expect(champion=0, previous=None)
    assert len(history(world.workspace)) == 1


def test_nothing_moves_when_the_bytes_behind_the_version_were_swapped(world: World, tmp_path: Path) -> None:
    """The receipt fits the tags, which MLflow lets anybody leave as they are while the files change."""
    uri = world.registry.client.get_run(world.versions[1].run_id).info.artifact_uri
    stored = Path(uri.removeprefix("file://")) / "model/data/release"
    world.vouch(1)
    shutil.move(stored, tmp_path / "aside")
    try:
        shutil.copytree(world.releases[2].path, stored)
        with pytest.raises(CorruptBundle):
            world.promote(1)
    finally:
        shutil.rmtree(stored)
        shutil.move(tmp_path / "aside", stored)
    assert world.aliases() == {}
    assert not world.workspace.champion.exists()


def test_unknown_names_are_told(world: World) -> None:
    with pytest.raises(UnknownModel, match="candidate"):
        promote(world.registry, world.workspace, reason="none")
    with pytest.raises(UnknownModel):
        promote(world.registry, world.workspace, version=99, reason="none")
    with pytest.raises(UnknownModel, match="previous"):
        rollback(world.registry, world.workspace, reason="none")
    with pytest.raises(UnknownModel, match="champion"):
        pull(world.registry, world.workspace)
    world.set_aliases(champion=0, previous=0)
    with pytest.raises(UsageError, match="champion and previous"):
        rollback(world.registry, world.workspace, reason="none")


def test_pull_follows_an_alias_moved_by_hand(world: World) -> None:
    world.vouch(0)
    world.promote(0)
    world.set_aliases(champion=1)
    with pytest.raises(NotProven):
        pull(world.registry, world.workspace)
    assert world.served == world.releases[0].digest
    world.vouch(1)
    done = pull(world.registry, world.workspace)
    assert done.entry
    move = done.entry.move
    assert (move.action, move.from_version, move.to_version) == ("observe", world.number(0), world.number(1))
    assert move.from_digest == world.releases[0].digest
    world.expect(champion=1, previous=None)
    assert pull(world.registry, world.workspace).entry is None


def test_a_forced_pull_shows_in_the_ledger_that_there_was_no_receipt(world: World) -> None:
    world.set_aliases(champion=2)
    done = pull(world.registry, world.workspace, force=True, reason="laptop")
    assert done.entry
    assert done.entry.move.receipts == ()
    world.expect(champion=2, previous=None)


def test_a_broken_ledger_stops_every_move(world: World) -> None:
    world.vouch(0)
    world.promote(0)
    world.vouch(1)
    world.workspace.ledger.write_bytes(world.workspace.ledger.read_bytes().replace(b"better", b"wetter"))
    with pytest.raises(BadRecord, match="line 1"):
        world.promote(1)
    assert world.aliases() == {"champion": world.number(0)}
    assert world.served == world.releases[0].digest


def test_a_registry_that_goes_away_moves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.vouch(0)
    world.promote(0)
    world.vouch(1)

    def away(*_: object) -> None:
        raise RegistryUnreachable("MLflow", "connection refused", "an answer", "start it")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "set_alias", away)
        with pytest.raises(RegistryUnreachable):
            world.promote(1)
    assert world.aliases() == {"champion": world.number(0)}
    assert world.served == world.releases[0].digest
    assert len(history(world.workspace)) == 1
    world.promote(1)
    world.expect(champion=1, previous=0)


class Crash(BaseException):
    """The process ends here, as if by SIGKILL."""


@contextmanager
def _crash(at: int | None, *, after: bool) -> Iterator[list[str]]:
    """Lets effects happen until number `at`, then stops the world before or after it. Yields what happened."""
    happened: list[str] = []

    def counted(name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(happened) == at and not after:
                raise Crash
            happened.append(name)
            result = effect(*args, **kwargs)
            if len(happened) - 1 == at and after:
                raise Crash
            return result

        return call

    places: list[tuple[Any, str]] = [
        (Registry, "set_alias"),
        (Move, "save"),
        (Ledger, "append"),
        (Path, "rename"),
        (Path, "unlink"),
        (shutil, "rmtree"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in places:
            patch.setattr(owner, name, counted(name, getattr(owner, name)))
        yield happened


def _start(world: World, home: Path) -> World:
    """Release 0 serves; 1 is what a promotion is about to replace it with; 2 was there before."""
    fresh = World(world.registry, world.releases, world.versions, Workspace(home))
    fresh.set_aliases(champion=0, previous=2)
    shutil.copytree(world.releases[0].path, fresh.workspace.champion)
    for index in range(3):
        fresh.vouch(index)
    return fresh


def _crashed(world: World, home: Path) -> Iterator[World]:
    """A world for each place where a promotion of release 1 can be stopped."""
    counting = _start(world, home / "counting")
    with _crash(None, after=False) as happened:
        counting.promote(1)
    assert happened.count("set_alias") == 2
    assert happened.count("append") == 1
    for at in range(len(happened)):
        for after in (False, True):
            crashed = _start(world, home / f"{at}-{after}")
            with _crash(at, after=after), pytest.raises(Crash):
                crashed.promote(1)
            yield crashed


def test_a_crash_at_any_step_is_mended_by_promoting_again(world: World, tmp_path: Path) -> None:
    for crashed in _crashed(world, tmp_path):
        champion = crashed.aliases()["champion"]
        assert champion in (crashed.number(0), crashed.number(1))
        if crashed.workspace.champion.exists():
            assert crashed.served in {release.digest for release in world.releases[:2]}
        else:
            assert crashed.workspace.champion.with_name("champion.old").exists()
        crashed.promote(1)
        crashed.expect(champion=1, previous=0)
        moves = [(entry.move.action, entry.move.to_version) for entry in history(crashed.workspace)]
        assert moves == [("promote", crashed.number(1))]


def test_a_rollback_after_a_crash_returns_to_where_it_was(world: World, tmp_path: Path) -> None:
    """To release 0 if the champion had moved by then; if it had not, to what was previous all along."""
    for crashed in _crashed(world, tmp_path):
        moved = crashed.aliases()["champion"] == crashed.number(1)
        rollback(crashed.registry, crashed.workspace, reason="broken")
        if moved:
            crashed.expect(champion=0, previous=1)
        else:
            crashed.expect(champion=2, previous=0)
        assert len(history(crashed.workspace)) == 1 + moved


def test_a_crash_during_recovery_is_mended_too(world: World, tmp_path: Path) -> None:
    crashed = _start(world, tmp_path / "home")
    with _crash(None, after=False) as happened:
        _start(world, tmp_path / "counting").promote(1)
    decided = happened.index("set_alias")
    world.set_aliases(champion=0, previous=2)
    with _crash(decided, after=True), pytest.raises(Crash):
        crashed.promote(1)
    for at in range(4):
        with _crash(at, after=True), pytest.raises(Crash):
            crashed.promote(1)
    crashed.promote(1)
    crashed.expect(champion=1, previous=0)
    assert len(history(crashed.workspace)) == 1


def test_a_move_overtaken_by_hand_is_dropped(world: World, tmp_path: Path) -> None:
    crashed = _start(world, tmp_path / "home")
    with _crash(None, after=False) as happened:
        _start(world, tmp_path / "counting").promote(1)
    world.set_aliases(champion=0, previous=2)
    with _crash(happened.index("set_alias"), after=True), pytest.raises(Crash):
        crashed.promote(1)
    crashed.set_aliases(champion=2)
    pull(crashed.registry, crashed.workspace)
    crashed.expect(champion=2, previous=None)
    assert [entry.move.action for entry in history(crashed.workspace)] == ["observe"]


def test_a_champion_folder_somebody_damaged_is_mended(world: World) -> None:
    world.vouch(0)
    world.promote(0)
    (world.workspace.champion / "detection/model.onnx").write_bytes(b"poison")
    with pytest.raises(BadInput):
        _ = world.served
    done = pull(world.registry, world.workspace)
    assert done.entry
    assert done.entry.move.from_digest is None
    world.expect(champion=0, previous=None)
