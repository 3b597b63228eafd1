"""`ocr-ops audit`: what was asked for, by whom; a log that was touched is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocr_ops.cli import main
from ocr_ops.core.audit import AuditLog, Event
from ocr_ops.core.record import digest_bytes

Run = Callable[..., tuple[int, str, str]]
DOCUMENTS = (digest_bytes(b"one"), digest_bytes(b"two"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `ocr-ops` in a workspace in which two callers read documents."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OCR_OPS_AUDIT_FOLDER", raising=False)
    monkeypatch.delenv("OCR_OPS_KEYS_FILE", raising=False)
    AuditLog(tmp_path / "home" / "audit").append(
        [
            Event(caller=caller, action="POST /v1/ocr", outcome="done", status=200, documents=(document,), pages=1)
            for caller, document in (("ann", DOCUMENTS[0]), ("bob", DOCUMENTS[1]), ("ann", DOCUMENTS[1]))
        ]
    )

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([*map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize("name", ["verify", "show"])
def test_every_command_helps_with_an_example(run: Run, name: str) -> None:
    """--help of each shows a line to copy."""
    code, out, _ = run("audit", name, "--help")
    assert code == 0
    assert f"Example: ocr-ops audit {name}" in out


def test_entries_are_shown_by_caller_and_document(run: Run) -> None:
    """The newest last."""

    def numbers(*arguments: object) -> list[int]:
        code, out, _ = run("audit", "show", *arguments, "--json")
        assert code == 0
        return [json.loads(line)["entry"] for line in out.splitlines()]

    assert numbers() == [1, 2, 3]
    assert numbers("--last", 2) == [2, 3]
    assert numbers("--caller", "ann") == [1, 3]
    assert numbers("--document", DOCUMENTS[1].removeprefix("sha256:")) == [2, 3]
    assert "POST /v1/ocr" in run("audit", "show")[1]


def test_a_log_that_was_touched_is_told(run: Run, tmp_path: Path) -> None:
    """Exit code 4, and the line."""
    assert json.loads(run("audit", "verify", "--json")[1])["entries"] == 3
    current = tmp_path / "home" / "audit" / "audit.jsonl"
    current.write_text(current.read_text().replace("bob", "eve"))
    for command in ("verify", "show"):
        code, _, err = run("audit", command)
        assert code == 4
        assert "line 2" in err


def test_where_there_is_no_log_none_is_whole(run: Run, tmp_path: Path) -> None:
    """Exit code 4: a path with a slip in it, or a log that somebody took away."""
    for command in ("verify", "show"):
        code, out, err = run("audit", command, "--folder", tmp_path / "adit")
        assert (code, out) == (4, "")
        assert "adit: no such folder" in err


def test_what_is_done_to_keys_is_in_the_log(run: Run) -> None:
    """By whom, to which; never a secret."""
    made = json.loads(run("keys", "create", "scanner", "--json")[1])
    run("keys", "rotate", "scanner")
    run("keys", "revoke", "scanner")
    entries = [json.loads(line) for line in run("audit", "show", "--last", 3, "--json")[1].splitlines()]
    assert [entry["action"] for entry in entries] == ["keys create", "keys rotate", "keys revoke"]
    assert {entry["subject"] for entry in entries} == {made["id"]}
    assert all("@" in entry["caller"] for entry in entries)
    assert made["key"] not in json.dumps(entries)
