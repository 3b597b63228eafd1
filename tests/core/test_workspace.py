"""A workspace is paths, and asking for them makes nothing."""

from pathlib import Path

import pytest

from ocr_ops.core.workspace import Workspace, printable, shown


def test_home_and_store_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.ocr-ops` here and an embedded store, until a variable says otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OCR_OPS_HOME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Workspace.current().champion == tmp_path / ".ocr-ops" / "champion"
    assert Workspace.current().tracking_uri == f"sqlite:///{tmp_path}/.ocr-ops/mlflow.db"
    monkeypatch.setenv("OCR_OPS_HOME", "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://registry:5000")
    assert Workspace.current().home == tmp_path / "elsewhere"
    assert Workspace.current().tracking_uri == "http://registry:5000"
    assert not list(tmp_path.iterdir())


def test_paths_are_shown_as_they_would_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative below the current folder, absolute elsewhere."""
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "a" / "b.png") == "a/b.png"
    assert shown(Path("c.png")) == "c.png"
    assert shown(tmp_path.parent / "d.png") == str(tmp_path.parent / "d.png")


def test_names_are_printed_without_what_terminals_obey() -> None:
    assert printable("scan\x1b]0;owned\x07 \x9b2J\udce4.png") == "scan\ufffd]0;owned\ufffd \ufffd2J\ufffd.png"
    assert printable("Größe\t一\n") == "Größe\t一\n"
