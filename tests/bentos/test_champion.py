"""What keeps a server from starting is said in one line, also to who types `bentoml serve .`."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bentos.champion import switch
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def test_an_occupied_port_is_one_line(served: tuple[Workspace, Release]) -> None:
    """Exit code 5, the address, and no traceback of the process manager's."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "serve", ".", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "OCR_OPS_HOME": str(served[0].home), "BENTOML_DO_NOT_TRACK": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 5
    assert f"error: 127.0.0.1:{port}: address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is one line, before any worker starts."""
    monkeypatch.delenv("OCR_OPS_ORIENTATION", raising=False)
    assert switch("OCR_OPS_ORIENTATION")
    monkeypatch.setenv("OCR_OPS_ORIENTATION", "off")
    assert not switch("OCR_OPS_ORIENTATION")
    monkeypatch.setenv("OCR_OPS_ORIENTATION", "maybe")
    with pytest.raises(SystemExit) as end:
        switch("OCR_OPS_ORIENTATION")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: OCR_OPS_ORIENTATION: 'maybe'")
