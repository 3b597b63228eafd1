"""What keeps a server from starting is said in one line, also to who types `bentoml serve .`."""

import io
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from bentos.champion import attested, require_attested, switch
from bentos.deadline import HEADER
from ocr_ops.core.attestation import Place
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import readiness, serve
from tests.core.test_attestation import attestation
from tests.tiny import build_bundle, build_release, draw

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


def test_a_release_that_was_never_admitted_here_is_not_served_where_policy_refuses(
    served: tuple[Workspace, Release],
) -> None:
    """Exit code 3 and one line with the place, before any worker starts."""
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", ".", "--host", "127.0.0.1", "--port", "0"],
        cwd=ROOT,
        env={
            **os.environ,
            "OCR_OPS_HOME": str(served[0].home),
            "OCR_OPS_UNATTESTED": "refuse",
            "BENTOML_DO_NOT_TRACK": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"never admitted on {Place.here('cpu')}" in line
    assert "ocr-ops attest" in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("OCR_OPS_CACHE_KEY", "short", "no key"), ("OCR_OPS_PROVIDER", "gpu", "gpu; expected auto")],
)
def test_a_wrong_setting_is_one_line(served: tuple[Workspace, Release], name: str, value: str, told: str) -> None:
    """Before any worker starts: one after the other would end over it, and the server wait for them for ever."""
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve", ".", "--host", "127.0.0.1", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "OCR_OPS_HOME": str(served[0].home), name: value, "BENTOML_DO_NOT_TRACK": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {name}: {told}")
    assert "Traceback" not in done.stderr


def test_an_attested_release_may_be_served_where_policy_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both its bundles, on this very CPU and provider."""
    workspace = Workspace(tmp_path / "home")
    release = build_release(workspace.champion)
    monkeypatch.setenv("OCR_OPS_HOME", str(workspace.home))
    monkeypatch.setenv("OCR_OPS_UNATTESTED", "refuse")
    release.attest([attestation("detection")])
    with pytest.raises(SystemExit) as end:
        require_attested()
    assert end.value.code == 3
    assert "recognition of release" in capsys.readouterr().err
    release = Release.open(release.path).attest([attestation("recognition")])
    require_attested()
    assert attested(release, "recognition", "CPUExecutionProvider")


def test_an_unattested_worker_says_so_and_serves(
    tiny_release: Release, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line at WARNING; the gauge is tested where gauges are."""
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    monkeypatch.delenv("OCR_OPS_UNATTESTED", raising=False)
    require_attested()
    with caplog.at_level(logging.WARNING):
        assert not attested(tiny_release, "detection", "CPUExecutionProvider")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "unattested: detection of release" in record.getMessage()
    assert "nowhere yet" in record.getMessage()


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


@pytest.mark.slow
def test_a_worker_that_is_replaced_after_a_promotion_reads_nothing_for_those_before_it(tmp_path: Path) -> None:
    """It opens the new champion. No answer is half the one release's, half the other's: whoever asks waits for a worker
    of the release that the gateway serves.
    """
    workspace = Workspace(tmp_path / "home")
    first = build_release(workspace.champion)
    other = build_bundle(tmp_path / "other", "recognition", charset="xyz ")
    second = Release.write(tmp_path / "second", first.detection, other)
    picture = io.BytesIO()
    Image.fromarray(draw(["abc ab"])).save(picture, "PNG")

    with serve(ROOT, env={"OCR_OPS_HOME": str(workspace.home)}, log=tmp_path / "log") as server:

        def read(seconds: int) -> httpx.Response:
            headers = {HEADER: str(1000 * seconds), "Cache-Control": "no-store"}
            files = {"file": ("a.png", picture.getvalue())}
            return httpx.post(f"{server.url}/v1/ocr?output=text", files=files, headers=headers, timeout=90)

        def replaced(champion: Path, digest: str) -> None:
            """Until the new one is up."""
            workspace.champion.rename(tmp_path / f"before-{champion.name}")
            champion.rename(workspace.champion)
            [worker] = [one for one in psutil.Process(server.pid).children() if "Recognition" in one.cmdline()]
            worker.kill()
            worker.wait(60)
            end = time.monotonic() + 60
            while readiness(server.url)["models"]["recognition"].get("digest") != digest:
                assert time.monotonic() < end

        assert read(60).text.strip() == "abc ab"
        replaced(second.path, other.digest)
        assert read(2).status_code == 504
        assert readiness(server.url)["ready"] is False
        replaced(tmp_path / "before-second", first.recognition.digest)
        assert read(60).text.strip() == "abc ab"
