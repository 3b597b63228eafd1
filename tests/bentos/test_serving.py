"""Settings beside a release are what its services run with, and a wrong one starts nothing."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from ocr_ops.core.errors import ServerDied
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings, settings_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server, readiness, serve
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import build_release, draw

ROOT = Path(__file__).resolve().parents[2]
TUNED = ServingSettings(
    threads=1, recognition_workers=2, max_batch_size=3, max_wait_ms=2.0, max_side=480, buckets=(256, 640)
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("tuned") / "home")


@pytest.fixture(scope="module")
def release(workspace: Workspace) -> Release:
    return build_release(workspace.champion)


@pytest.fixture(scope="module")
def tuned_server(workspace: Workspace, release: Release) -> Iterator[Server]:
    TUNED.save(settings_file(workspace, release.digest))
    with serve(ROOT, env={"OCR_OPS_HOME": str(workspace.home)}, log=workspace.home / "log") as server:
        yield server


def test_settings_are_served_and_told(tuned_server: Server, release: Release) -> None:
    """Ready, for the release it is: settings do not change what a release is, only how it is run."""
    state = readiness(tuned_server.url)
    assert state["release"] == release.digest
    assert state["serving"] == TUNED.digest
    words = [" ".join(child.cmdline()) for child in psutil.Process(tuned_server.pid).children(recursive=True)]
    assert sum("--service-name Recognition" in line for line in words) == 2
    assert sum("--service-name Detection" in line for line in words) == 1


def test_a_tuned_service_reads_as_a_tuned_reader(tuned_server: Server, release: Release) -> None:
    """More crops than a batch holds, smaller pages, wider crops: the same answer as in one process."""
    buffer = io.BytesIO()
    Image.fromarray(draw(["abc ab", "cab", "ba ac cc", "b"])).save(buffer, "PNG")
    answer = httpx.post(f"{tuned_server.url}/v1/ocr", files={"file": ("a.png", buffer.getvalue())}, timeout=60)
    expected = Reader(TUNED.tuned(release), threads=1).read(buffer.getvalue(), "a.png")
    assert Reading.model_validate_json(answer.content) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"threads": 0}', "threads: Input should be greater"), ('{"max_side": 500}', "500; expected a multiple of 32")],
)
def test_wrong_settings_end_with_one_line(tmp_path: Path, text: str, told: str) -> None:
    """Before any worker starts: what no decorator takes, and what the models cannot be run with."""
    home = Workspace(tmp_path / "home")
    path = settings_file(home, build_release(home.champion).digest)
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with (
        pytest.raises(ServerDied, match=f"error: .*{told}") as caught,
        serve(ROOT, env={"OCR_OPS_HOME": str(home.home)}, log=tmp_path / "log"),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")
