"""Doctor finds what is there and says what to do about what is not."""

from pathlib import Path

import pytest

from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.doctor import examine


def test_an_empty_workspace_lacks_only_a_champion(tmp_path: Path) -> None:
    """The packages of the test environment are all there."""
    findings = {finding.name: finding for finding in examine(Workspace(tmp_path))}
    assert findings["champion"].state == "absent"
    assert "release" in findings["champion"].remedy
    assert findings["torch"].state == "ok"
    assert not list(tmp_path.iterdir()), "looking changes nothing"


def test_a_champion_is_told_by_digest(tiny_release: Release, tmp_path: Path) -> None:
    """The short digest, as everywhere people read one."""
    (tmp_path / "champion").symlink_to(tiny_release.path)
    findings = {finding.name: finding for finding in examine(Workspace(tmp_path))}
    assert findings["champion"].found in tiny_release.digest


def test_a_missing_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needed things have a remedy."""
    monkeypatch.setattr("ocr_ops.doctor.find_spec", lambda name: None if name == "locust" else object())
    findings = {finding.name: finding for finding in examine(Workspace(tmp_path))}
    assert findings["locust"].state == "missing"
    assert findings["locust"].remedy == "make setup"


def test_providers_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU always works; what the variable asks for is held against what does."""
    monkeypatch.setenv("OCR_OPS_PROVIDER", "abacus")
    findings = {finding.name: finding for finding in examine(Workspace(tmp_path))}
    assert findings["provider cpu"].state == "ok"
    assert findings["OCR_OPS_PROVIDER"].state == "missing"
    monkeypatch.setenv("OCR_OPS_PROVIDER", "cpu")
    findings = {finding.name: finding for finding in examine(Workspace(tmp_path))}
    assert (findings["OCR_OPS_PROVIDER"].state, findings["OCR_OPS_PROVIDER"].found) == ("ok", "cpu")
