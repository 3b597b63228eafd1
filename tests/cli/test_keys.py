"""`ocr-ops keys`: secrets shown once, records kept, one line for what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_ops.cli import main
from ocr_ops.cli.keys import keys
from ocr_ops.core.keys import handle_of, read_keys

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `ocr-ops keys` in an empty workspace: exit code, stdout, stderr."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OCR_OPS_KEYS_FILE", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["keys", *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize("name", sorted(keys.commands))
def test_every_command_helps_with_an_example(run: Run, name: str) -> None:
    """--help of each shows a line to copy."""
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"Example: ocr-ops keys {name}" in out


def test_a_secret_is_shown_once(run: Run, tmp_path: Path) -> None:
    """When it is made and when it is replaced; never in a list, never in the file."""
    limits = ("--requests-per-minute", 60, "--pages-per-day", 0)
    code, out, err = run("create", "scanner", "--role", "read", "--role", "feedback", *limits, "--json")
    made = json.loads(out)
    assert code == 0
    assert "not shown again" in err
    assert handle_of(made["key"]) == made["id"]
    assert (made["roles"], made["state"], made["requests_per_minute"]) == ("read,feedback", "active", 60)
    assert (made["pages_per_day"], made["pages_per_month"]) == (0, None)

    _, out, _ = run("rotate", "scanner", "--grace", "1h", "--json")
    rotated = json.loads(out)
    assert rotated["id"] == made["id"]
    assert rotated["secrets"] == 2
    assert rotated["key"] != made["key"]

    _, listed, _ = run("list", "--json")
    kept = (tmp_path / "home" / "keys.json").read_text()
    for secret in (made["key"], rotated["key"]):
        assert secret[13:] not in listed + kept

    code, out, _ = run("revoke", made["id"])
    assert code == 0
    assert "revoked" in out
    assert read_keys(tmp_path / "home" / "keys.json").keys[0].revoked


def test_a_mounted_file_takes_over(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OCR_OPS_KEYS_FILE."""
    monkeypatch.setenv("OCR_OPS_KEYS_FILE", str(tmp_path / "mounted.json"))
    assert run("create", "scanner", "--expires", "90d")[0] == 0
    [key] = read_keys(tmp_path / "mounted.json").keys
    assert key.expires
    assert (key.expires - key.created).days == 90
    assert not (tmp_path / "home" / "keys.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("create", "a/b"), 4, "name"),
        (("create", "a", "--expires", "soon"), 2, "no span"),
        (("create", "a", "--expires", "0d"), 2, "never expires"),
        (("create", "a", "--role", "root"), 2, "root"),
        (("rotate", "nobody"), 4, "no such key"),
        (("revoke", "nobody"), 4, "no such key"),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, arguments: tuple[str, ...], code: int, told: str) -> None:
    """And its exit code."""
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


def test_a_file_that_cannot_be_written_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a mounted secret is."""
    (tmp_path / "plain").write_text("")
    monkeypatch.setenv("OCR_OPS_KEYS_FILE", str(tmp_path / "plain" / "keys.json"))
    code, _, err = run("create", "a")
    assert code == 2
    assert "OCR_OPS_KEYS_FILE" in err
