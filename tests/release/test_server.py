import socket
from pathlib import Path

import psutil
import pytest

from ocr_ops.core.errors import OutsideSystem, PortOccupied, ServerDied
from ocr_ops.release.server import readiness, serve

ROOT = Path(__file__).resolve().parents[2]


def test_an_occupied_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortOccupied, match=str(port)), serve(ROOT, port=port, log=tmp_path / "log"):
            pass
    assert not (tmp_path / "log").exists()


def test_a_clone_without_a_champion_ends_with_one_line(tmp_path: Path) -> None:
    env = {"OCR_OPS_HOME": str(tmp_path / "home")}
    with (
        pytest.raises(ServerDied, match=r"exit code 4: error: .*no release\.json") as caught,
        serve(ROOT, env=env, log=tmp_path / "log"),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_setting_that_makes_no_sense_ends_with_one_line(tmp_path: Path) -> None:
    env = {"OCR_OPS_HOME": str(tmp_path / "home"), "OCR_OPS_MAX_IN_FLIGHT": "many"}
    with (
        pytest.raises(ServerDied, match="exit code 2: error: OCR_OPS_MAX_IN_FLIGHT: 'many'"),
        serve(ROOT, env=env, log=tmp_path / "log"),
    ):
        pass


def test_a_server_that_never_gets_ready_is_given_up_and_gone(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    env = {"OCR_OPS_HOME": str(tmp_path / "home")}
    with pytest.raises(ServerDied, match="not ready within"), serve(ROOT, env=env, log=tmp_path / "log", timeout=0.1):
        pass
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_nobody_home_is_said_in_one_line() -> None:
    with pytest.raises(OutsideSystem, match="no answer") as caught:
        readiness("http://127.0.0.1:9")
    assert "\n" not in str(caught.value)
