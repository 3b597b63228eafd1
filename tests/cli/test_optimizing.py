"""`quantize`, `sensitivity` and `invariance`: tables, files and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocr_ops.cli import main
from tests.optimize.readers import bars, layered, leaking, line_crops
from tests.tiny import build_bundle

Run = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command line in an empty workspace: exit code, rows of stdout, stderr."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))

    def call(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        code = 0
        try:
            main([*map(str, arguments), "--json"])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return call


def test_what_sensitivity_finds_is_what_a_mixed_variant_leaves_in_float(run: Run, tmp_path: Path) -> None:
    """The table's layers in float are those of the recipe."""
    parent, pages = layered(tmp_path / "parent"), bars(tmp_path / "bars", 1)
    code, rows, err = run("sensitivity", parent.path, "--data", pages.folder)
    assert code == 0
    kept = {row["layer"] for row in rows if row["precision"] == "float"}
    assert kept == {"wide", "narrow"}
    assert "of at most" in err
    code, rows, err = run("quantize", parent.path, "--data", pages.folder, "--mixed")
    assert code == 0
    assert rows[0]["bundle"].endswith("recognition-bars-int8-mixed")
    assert "left in float: " in err
    assert len(list((tmp_path / "home" / "reports").glob("sensitivity-*.json"))) == 1


def test_calibrations_are_compared_on_other_pages(run: Run, tmp_path: Path) -> None:
    """One row each, the float parent first, one of them chosen."""
    parent, pages = layered(tmp_path / "parent"), bars(tmp_path / "bars", 2)
    code, rows, _ = run("quantize", parent.path, "--data", pages.folder, "--judge", pages.folder, "--compare")
    assert code == 4  # no page both calibrates and judges
    other = bars(tmp_path / "other", 1)
    (other.folder / "0.png").write_bytes((other.folder / "0.png").read_bytes() + b"\0")
    code, rows, _ = run("quantize", parent.path, "--data", pages.folder, "--judge", other.folder, "--compare")
    assert code == 0
    assert [row["variant"] for row in rows] == ["fp32", "int8", "int8-entropy", "int8-percentile"]
    assert [row["chosen"] for row in rows].count("yes") == 1
    assert all(row["cpu_ms"] > 0 for row in rows)


@pytest.mark.parametrize("method", ["fp16", "dynamic"])
def test_other_methods_need_no_data(run: Run, tmp_path: Path, method: str) -> None:
    """What the machine lacks for them is said."""
    code, rows, err = run("quantize", layered(tmp_path / "parent").path, "--method", method)
    assert code == 0
    assert rows[0]["precision"] == ("fp16" if method == "fp16" else "int8")
    assert method == "dynamic" or "asimdhp" in err or not err


@pytest.mark.parametrize(
    "options",
    [
        ("--budget", "1"),
        ("--judge", "."),
        ("--method", "fp16", "--mixed"),
        ("--method", "dynamic", "--calibration", "entropy"),
        ("--mixed", "--compare"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Usage, not a silent choice."""
    code, rows, _ = run("quantize", layered(tmp_path / "parent").path, *options)
    assert (code, rows) == (2, [])


def test_a_detector_is_not_calibrated_on_lines(run: Run, tmp_path: Path) -> None:
    """One line, before anything is made."""
    bundle = build_bundle(tmp_path / "detector", "detection")
    code, rows, err = run("quantize", bundle.path, "--data", line_crops(tmp_path / "lines"))
    assert (code, rows) == (4, [])
    assert "line crops" in err
    assert len(err.strip().splitlines()) == 1


def test_invariance_tells_each_condition_and_fails_on_a_leak(run: Run, tmp_path: Path) -> None:
    """Exit code 0, 1 or 3, as the verdict is."""
    policy = tmp_path / "policy.toml"
    policy.write_text("max_flip_share = 0.3\n")
    sound, pages = layered(tmp_path / "sound"), bars(tmp_path / "bars")
    code, rows, _ = run("invariance", sound.path, "--lines", pages.folder, "--policy", policy)
    assert code == 0
    assert {"narrow neighbours", "wide neighbours", "batches of 2", "batches of 16"} < {
        row["condition"] for row in rows
    }
    assert [row["chosen"] for row in rows].count("yes") <= 1
    code, _, err = run("invariance", sound.path, "--lines", pages.folder)
    assert code == 3  # twelve lines are too few for one percent
    code, _, err = run("invariance", leaking(tmp_path / "leak", "batch").path, "--lines", pages.folder)
    assert code == 1
    assert "batches of 2" in err
