"""docs/api.md: what it shows is what the service does."""

import io
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from bentos.api.app import OPERATIONS
from bentos.api.form import OUTPUTS
from bentos.api.ocr import BATCH_BYTES, BATCH_FILES
from ocr_ops.core.options import ReadOptions
from ocr_ops.release.server import Server
from tests.tiny import draw

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
URL = "http://localhost:3000"
BLOCKS = re.findall(r"```sh(?: status=(\d+))?\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [(line, int(status or 200)) for status, block in BLOCKS for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files the examples send, and a .curlrc that has the status told."""
    folder = tmp_path_factory.mktemp("examples")
    pages = [Image.fromarray(draw(lines)) for lines in (["abc ab"], ["cab"])]
    pages[0].save(folder / "receipt.png")
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    (folder / "scan.tif").write_bytes(buffer.getvalue())
    (folder / "notes.txt").write_text("no document")
    (folder / ".curlrc").write_text('silent\nshow-error\nwrite-out = "\\n%{http_code}"\n')
    return folder


@pytest.mark.parametrize(("command", "status"), COMMANDS, ids=[command[:70] for command, _ in COMMANDS])
def test_each_example_is_answered_as_told(server: Server, folder: Path, command: str, status: int) -> None:
    local = server.url.replace("127.0.0.1", "localhost")
    done = subprocess.run(
        ["bash", "-c", command.replace(URL, local)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "CURL_HOME": str(folder)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rpartition(b"\n")[2] == str(status).encode(), done.stdout[-1000:]


def test_every_option_output_and_path_is_told() -> None:
    names = {*ReadOptions.model_fields, *OUTPUTS, *(one.path for one in OPERATIONS if one.told and one.tag != "jobs")}
    assert {name for name in names if f"{name}" not in TEXT} == set()
    assert f"{BATCH_FILES} files, {BATCH_BYTES // 2**20} MiB" in TEXT
