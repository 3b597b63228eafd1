"""docs/client.md and docs/outputs.md: what they show runs, here and by the service."""

import io
import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

from ocr_ops.cli import main
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.server import Server
from ocr_ops.runtime.outputs import FORMS
from tests.tiny import draw

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLIENT, OUTPUTS = ((DOCS / name).read_text(encoding="utf-8") for name in ("client.md", "outputs.md"))
URL = "http://localhost:3000"
PROGRAMS = re.findall(r"```python\n(.*?)```", CLIENT, re.DOTALL)
COMMANDS = [
    line
    for text in (CLIENT, OUTPUTS)
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[Workspace, Release]) -> Path:
    """With the documents the examples speak of, and the champion the service has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCR_OPS_HOME", str(served[0].home))
    pages = [Image.fromarray(draw(lines)) for lines in (["abc ab"], ["cab"])]
    (tmp_path / "scans" / "old").mkdir(parents=True)
    for path in ("receipt.png", "scans/a.png", "scans/old/b.png"):
        pages[0].save(tmp_path / path)
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "notes.txt").write_text("no document")
    return tmp_path


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_each_program_runs(server: Server, program: str, capfd: pytest.CaptureFixture[str]) -> None:
    """And says something."""
    exec(compile(program.replace(URL, server.url), "example", "exec"), {"__name__": "example"})  # noqa: S102  our own
    assert capfd.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_runs(
    server: Server, command: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves no file it does not tell of."""
    given, _, command = command.rpartition(" | ")
    if given:
        data = (folder / given.removeprefix("cat ")).read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    program, *arguments = shlex.split(command.replace(URL, server.url))
    assert program == "ocr-ops"
    before = {path for path in folder.rglob("*") if path.is_file()}
    main(arguments)
    out, err = capfd.readouterr()
    assert out
    assert not err
    made = {path for path in folder.rglob("*") if path.is_file()} - before
    if "--out" in arguments:
        assert made == {folder / line for line in out.splitlines()}
    else:
        assert not made


def test_every_output_is_told() -> None:
    """With the suffix of its files."""
    for output, form in FORMS.items():
        assert f"| `{output}` | `{form.suffix}` |" in OUTPUTS
