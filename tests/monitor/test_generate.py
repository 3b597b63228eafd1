"""Generated files: fresh, committed, accepted by promtool, and never silently absent."""

import json
from pathlib import Path

import pytest
import yaml

from ocr_ops.core.errors import GateFailed, NotProven
from ocr_ops.monitor.generate import DASHBOARD_FILE, MARK, RULES_FILE, TESTS_FILE, check, generate, promtool
from tests.monitor.promises import MONITORING, SLO, promise


def test_the_committed_files_are_fresh_and_pass() -> None:
    """What is committed is what slo.toml generates, and promtool runs every scenario."""
    check(SLO, MONITORING)


def test_generated_files_say_so(tmp_path: Path) -> None:
    """Every file is marked, not empty, and reads back."""
    paths = generate(SLO, tmp_path)

    assert len(paths) == 4
    for path in paths:
        text = path.read_text()
        if path.suffix == ".json":
            assert json.loads(text)["description"] == MARK.removeprefix("# ")
        else:
            assert text.startswith(MARK)
            assert yaml.safe_load(text)


def test_generating_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """Nothing in the files depends on when or where they were written."""
    first = [path.read_bytes() for path in generate(SLO, tmp_path / "a")]

    assert [path.read_bytes() for path in generate(SLO, tmp_path / "b")] == first


@pytest.mark.parametrize("name", [RULES_FILE, DASHBOARD_FILE])
def test_a_file_edited_by_hand_fails(tmp_path: Path, name: str) -> None:
    """An edit or a missing file is a failed gate, not something to overwrite in silence."""
    generate(SLO, tmp_path)
    (tmp_path / name).write_text("edited")
    with pytest.raises(GateFailed, match="ocr-ops rules"):
        check(SLO, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(GateFailed, match="missing"):
        check(SLO, tmp_path)


def test_without_promtool_nothing_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No promtool is no evidence: the check does not pass."""
    generate(SLO, tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotProven, match="promtool is not installed"):
        check(SLO, tmp_path)


def test_promtool_notices_an_alert_that_went_deaf(tmp_path: Path) -> None:
    """The scenarios bite: with a limit out of reach, promtool says no."""
    generate(SLO, tmp_path)
    rules, tests = tmp_path / RULES_FILE, tmp_path / TESTS_FILE
    rules.write_text(rules.read_text().replace("== 0", "== 7"))
    data = yaml.safe_load(tests.read_text())
    data["tests"] = [test for test in data["tests"] if test["name"].startswith("OcrTargetDown")]
    tests.write_text(yaml.safe_dump(data))
    with pytest.raises(GateFailed, match="OcrTargetDown fires: down for minutes"):
        promtool("test", "rules", tests)


def test_an_objective_no_alert_can_guard_is_refused(tmp_path: Path) -> None:
    """An objective so low that total failure would set off nothing generates nothing."""
    slo = promise(confidence={"objective": 0.1, "above": 0.8, "window": "90d"})
    with pytest.raises(NotProven, match="objective confidence"):
        generate(slo, tmp_path)
    assert not list(tmp_path.iterdir())
