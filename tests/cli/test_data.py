"""`ocr-ops data`: pictures, tables and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from ocr_ops.cli import main
from ocr_ops.cli.data import data
from tests.data.formats.examples import LINES, PAGES, draw, write

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `ocr-ops data` in an empty workspace: exit code, stdout, stderr."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["data", *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize("name", sorted(data.commands))
def test_every_command_helps_with_an_example(run: Run, name: str) -> None:
    """--help of each shows a line to copy."""
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"Example: ocr-ops data {name}" in out


@pytest.mark.parametrize("arguments", [(), ("--lines",)])
def test_preview_shows_what_training_renders(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The same seed, the same picture, in the workspace."""
    pictures = []
    for _ in range(2):
        code, out, _ = run("preview", *arguments, "--count", "3", "--json")
        assert code == 0
        assert json.loads(out)["examples"] == 3
        pictures.append((tmp_path / "home" / "preview.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert cv2.imread(str(tmp_path / "home" / "preview.png")) is not None


@pytest.mark.parametrize("arguments", [(), ("--lines",)])
def test_preview_shows_a_dataset(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Boxes of a page in colour, or its lines."""
    PAGES["icdar2015"][1](tmp_path / "set")
    code, _, _ = run("preview", tmp_path / "set", *arguments, "--out", tmp_path / "sheet.png")
    assert code == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert (sheet.max(axis=2) - sheet.min(axis=2)).max() > 100


def test_check_lists_faults_and_fails(run: Run, tmp_path: Path) -> None:
    """Exit code 4 on an error, 0 on a warning; a summary on stderr."""
    labels = LINES["labels.tsv"][1](tmp_path / "set")
    assert run("check", tmp_path / "set") == (0, "", f"{tmp_path / 'set'}: 2 images, 2 labels; nothing wrong\n")
    labels.write_text(labels.read_text() + "gone.png\tA\n")
    code, out, err = run("check", tmp_path / "set", "--json")
    assert code == 4
    assert json.loads(out) | {"cause": ""} == {
        "where": "labels.tsv:3",
        "level": "error",
        "kind": "bad row",
        "cause": "",
    }
    assert "bad row: 1" in err
    labels.write_text("gone.png\tA\n")
    code, _, err = run("check", tmp_path / "set")
    assert code == 4
    assert "not one usable label" in err


def test_check_holds_labels_against_a_model(run: Run, tmp_path: Path) -> None:
    """Characters the network has no class for."""
    draw(tmp_path / "a.png")
    write(tmp_path / "labels.tsv", "a.png\tπ\n")
    code, out, _ = run("check", tmp_path, "--model", Path(__file__).parents[2] / "models" / "recognition-tiny")
    assert code == 4
    assert "U+03C0" in out
    assert run("check", tmp_path)[0] == 0


def test_convert_split_and_leaks_work_together(run: Run, tmp_path: Path) -> None:
    """Receipts to pages, to two parts that share nothing; the whole leaks into its part."""
    source = tmp_path / "set"
    PAGES["sroie"][1](source)
    for seed in range(2, 10):
        draw(source / "img" / f"{seed}.png", seed)
        (source / "box" / f"{seed}.csv").write_bytes((source / "box" / "1.csv").read_bytes())
    code, out, _ = run("convert", source, tmp_path / "pages", "--to", "pages", "--json")
    assert (code, json.loads(out)["images"]) == (0, 9)
    code, out, _ = run("split", tmp_path / "pages", tmp_path / "parts", "--share", "0.4", "--json")
    assert code == 0
    assert sum(json.loads(line)["images"] for line in out.splitlines()) == 9
    train, test = tmp_path / "parts" / "train", tmp_path / "parts" / "test"
    assert run("leaks", train, test, "--distance", "0")[0] == 0
    code, out, err = run("leaks", source, test, "--distance", "0", "--json")
    assert code == 1
    assert all(json.loads(line)["distance"] == 0 for line in out.splitlines())
    assert "test images are like one of 9 training images" in err


def test_bad_rows_are_told_and_left_out(run: Run, tmp_path: Path) -> None:
    """stderr names them; the rest is written."""
    labels = PAGES["paddleocr"][1](tmp_path / "set")
    labels.write_text(labels.read_text() + "gone.png\t[]\n")
    code, out, err = run("convert", tmp_path / "set", tmp_path / "out", "--to", "lines", "--json")
    assert code == 0
    assert json.loads(out) | {"labels": ""} == {"labels": "", "images": 2, "left out": 1}
    assert "left out: Label.txt:2: no image 'gone.png'" in err


def test_lines_are_no_pages(run: Run, tmp_path: Path) -> None:
    """What cannot be converted is said in one line."""
    LINES["gt-txt"][1](tmp_path / "set")
    code, _, err = run("convert", tmp_path / "set", tmp_path / "out", "--to", "pages")
    assert code == 4
    assert "--to lines" in err
