"""Commands print their artefact, and turn every bad input into one line and an exit code."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import pytest

from ocr_ops.bench.run import Run as Record
from ocr_ops.cli import cli, main
from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.core.report import Report
from ocr_ops.data.lines import held_out
from ocr_ops.data.pages import LabelledPage, Region, write_index
from tests.tiny import LINE, draw

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command line in an empty workspace: exit code, stdout, stderr."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def champion(tiny_release: Release, tmp_path: Path) -> Path:
    """A workspace whose champion is the tiny release."""
    return Path(shutil.copytree(tiny_release.path, tmp_path / "home" / "champion"))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.png"
    cv2.imwrite(str(path), draw(("abc cab", "cc")))
    return path


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_helps_with_an_example(run: Run, name: str) -> None:
    """--help of each command shows a line to copy."""
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"ocr-ops {name}" in out
    assert "Example" in out
    assert "\\b" not in out


def test_the_stages_are_commands() -> None:
    """The names the documentation promises."""
    stages = "train tune register export quantize bench package gate promote rollback history rules read doctor release"
    assert set(stages.split()) <= set(cli.commands)
    assert all(isinstance(command, click.Command) for command in cli.commands.values())


@pytest.mark.usefixtures("champion")
def test_read_prints_text(run: Run, page: Path) -> None:
    """Lines in reading order."""
    assert run("read", page) == (0, "abc cab\ncc\n", "")


@pytest.mark.usefixtures("champion")
def test_read_prints_one_object_a_file_on_one_line(run: Run, page: Path) -> None:
    """The shape the service answers with, and the path."""
    code, out, _ = run("read", page, page, "--format", "json")
    assert code == 0
    first, second = (json.loads(line) for line in out.splitlines())
    assert first == second
    assert list(first) == ["path", "pages"]
    (only,) = first["pages"]
    assert list(only) == ["number", "of", "width", "height", "orientation", "source", "lines", "blocks"]
    assert (only["width"], only["height"], only["orientation"]) == (640, 480, 0)
    line = only["lines"][0]
    assert list(line) == ["text", "confidence", "polygon", "words"]
    assert [word["text"] for word in line["words"]] == ["abc", "cab"]
    assert all(list(word) == ["text", "confidence", "polygon"] for word in line["words"])
    assert len(line["polygon"]) == 4


@pytest.mark.usefixtures("champion")
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "no such file"),
        (b"", "no bytes"),
        (b"hello, world", "unknown type"),
        (b"%PDF-1.7 nothing more", ""),
        (b"\x89PNG\r\n\x1a\n truncated", ""),
    ],
)
def test_unreadable_files_get_a_line_each_and_the_rest_is_read(
    run: Run, page: Path, tmp_path: Path, content: bytes | None, found: str
) -> None:
    """Exit code 4, no traceback, and the good file still comes out."""
    bad = tmp_path / "bad.pdf"
    if content is not None:
        bad.write_bytes(content)
    code, out, err = run("read", bad, page)
    assert code == 4
    assert out == "abc cab\ncc\n"
    assert err.count("\n") == 1
    assert err.startswith(f"ocr-ops: {bad}: ")
    assert found in err


@pytest.mark.usefixtures("champion")
def test_giants_are_refused_before_they_are_read(run: Run, tmp_path: Path) -> None:
    """A sparse file of a terabyte costs nothing."""
    giant = tmp_path / "giant.png"
    with giant.open("wb") as file:
        file.truncate(2**40)
    code, out, err = run("read", giant)
    assert (code, out) == (4, "")
    assert "1,099,511,627,776 bytes" in err


def test_no_champion_says_how_to_make_one(run: Run, page: Path) -> None:
    """Before the first release."""
    code, _, err = run("read", page)
    assert code == 4
    assert "ocr-ops release" in err


def test_a_damaged_champion_is_refused(run: Run, champion: Path, page: Path) -> None:
    """One flipped byte in a graph, and nothing is read."""
    graph = champion / "recognition" / "model.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    code, out, err = run("read", page)
    assert (code, out) == (4, "")
    assert str(graph) in err


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (["export", "models/no-such-model"], 4, "no model.toml"),
        (["register", "models/no-such-model"], 4, "no model.toml"),
        (["bench", "--data", "no-such-folder"], 4, "no such folder"),
        (["quantize", "no-such-bundle"], 4, "no such file"),
        (["gate", "no-such-release"], 4, "no release.json"),
        (["release", "--policy", "no-such-policy.toml"], 4, "No such file"),
        (["rules", "--slo", "no-such-slo.toml"], 4, "No such file"),
        (["promote"], 4, "candidate"),
        (["rollback"], 4, "previous"),
        (["package"], 3, "no benchmarked bundle"),
        (["read"], 2, "Missing argument"),
        (["no-such-command"], 2, "No such command"),
        (["read", "--format", "xml", "x"], 2, "xml"),
    ],
)
def test_bad_input_is_one_line_and_its_code(run: Run, arguments: list[str], code: int, found: str) -> None:
    """Whatever is wrong, the last line of stderr says it, and there is no traceback."""
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert found in err
    assert "Traceback" not in err


def test_unreachable_mlflow_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, free_tcp_port: int) -> None:
    """Exit code 5, naming the server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_tcp_port}")
    code, out, err = run("promote")
    assert (code, out) == (5, "")
    assert str(free_tcp_port) in err
    assert "Traceback" not in err


def test_history_of_nothing_is_empty(run: Run) -> None:
    """No ledger yet is no error."""
    assert run("history", "--json") == (0, "", "")


def test_a_defect_is_told_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the way to see where it is."""

    def broken(*_: object) -> None:
        msg = "boom"
        raise RuntimeError(msg)

    monkeypatch.setattr(cli.commands["history"], "callback", broken)
    code, out, err = run("history")
    assert (code, out) == (70, "")
    assert "OCR_OPS_DEBUG" in err


@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["read", "--help"]])
@pytest.mark.parametrize("told", [True, False])
def test_a_full_disk_under_what_is_printed_is_no_defect(tmp_path: Path, arguments: list[str], *, told: bool) -> None:
    """One line, where there is room for it, and the code of something that is away."""
    program = "from ocr_ops.cli import main; main()"
    environment = {**os.environ, "OCR_OPS_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            stdout=full,
            stderr=subprocess.PIPE if told else full,
            text=True,
            check=False,
            env=environment,
        )
    assert done.returncode == 5
    if told:
        assert done.stderr.startswith("ocr-ops: output: no space left on device; expected ")
        assert done.stderr.count("\n") == 1


@pytest.fixture
def labelled(page: Path) -> Path:
    """A folder with the page and its text."""
    regions = tuple(Region(polygon=((0, 0), (9, 0), (9, 9), (0, 9)), text=text) for text in ("abc cab", "cc"))
    write_index(page.parent, (LabelledPage(image=page.name, regions=regions),))
    return page.parent


def test_bench_compares_with_peers(run: Run, champion: Path, labelled: Path, tmp_path: Path) -> None:
    """A row a cell, the record and the report beside it; no evidence is touched, and two runs can be held together."""
    arguments = ("bench", "--data", labelled, "--peers", "cmd:sh -c 'echo cc' {image}", "--seed", 5)
    code, out, err = run(*arguments, "--out", tmp_path / "first", "--json")
    ours, peer = map(json.loads, out.splitlines())
    assert code == 0, err
    assert (ours["word_f1"], ours["verdict"]) == (1, "PASS")
    assert (peer["word_f1"], peer["verdict"]) == (0.5, None)
    assert ours["cpu_ratio.sh -c 'echo cc' {image}"] > 0
    assert sorted(file.name for file in (tmp_path / "first").iterdir()) == ["report.html", "report.md", "run.json"]
    found = Record.from_file(tmp_path / "first" / "run.json")
    assert shlex.split(found.command)[1:] == [str(argument) for argument in arguments]
    assert not (champion.parent / "reports").exists()

    code, out, err = run(*arguments, "--batch", "1,8", "--threads", 1, "--no-mlflow")
    assert code == 0, err
    assert out.splitlines()[0].startswith("cell ")
    (second,) = (champion.parent / "reports").iterdir()
    code, out, err = run("bench", "diff", tmp_path / "first", second / "run.json")
    assert (code, len(out.splitlines())) == (0, 3), err
    code, out, _ = run("bench", "diff", tmp_path / "first", second, "--json")
    assert (code, len(json.loads(out)["sentences"])) == (0, 3)
    assert run("bench", "diff", "--help")[1].startswith("Usage: ocr-ops bench diff")


def test_bench_on_a_provider_nobody_knows(run: Run, champion: Path, labelled: Path) -> None:
    """The cell's own error, from its own process."""
    code, out, err = run("bench", "--data", labelled, "--providers", "abacus", "--no-mlflow")
    assert (code, out) == (2, "")
    assert "abacus" in err


def test_bench_keeps_what_it_finds_of_a_release_as_evidence(run: Run, champion: Path, labelled: Path) -> None:
    """For the chain, which then need not measure it again."""
    code, out, err = run("bench", "--data", labelled, "--no-mlflow", "--json")
    assert code == 0, err
    digest = Release.open(champion).digest
    (kept,) = (champion.parent / "reports").glob(f"bench-{short(digest)}-*.json")
    report = Report.from_file(kept)
    assert report.metrics["word_f1"] == json.loads(out)["word_f1"] == 1
    assert (report.subject, report.verdict) == (digest, "PASS")


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (["--peers", "tesseract,easyocr"], 2, "'easyocr'"),
        (["--lines", "crops", "--curves"], 2, "line crops alone"),
        (["--lines", "crops"], 4, "crops"),
        (["--threads", "1,0"], 2, "'--threads'"),
        (["--threads", "99999"], 2, "the cores here"),
        (["diff", "a"], 2, "AFTER"),
        (["diff", "a", "b"], 4, "no such file"),
    ],
)
def test_bench_says_what_it_cannot_do(run: Run, champion: Path, arguments: list[str], code: int, found: str) -> None:
    """Before anything is read."""
    got, out, err = run("bench", *arguments)
    assert (got, out) == (code, "")
    assert found in err


def test_bench_reads_lines_that_training_keeps_off(run: Run, champion: Path, tmp_path: Path) -> None:
    """All of them, or only documents held out; the champion's recogniser unless another is named."""
    names = [f"doc{number}" for number in range(100)]
    kept = next(name for name in names if held_out(name))
    trained = next(name for name in names if not held_out(name))
    folder = tmp_path / "crops"
    folder.mkdir()
    for name in (kept, trained):
        cv2.imwrite(str(folder / f"{name}_0.png"), draw(("abc",))[32 : 32 + LINE, 28:128])
    (folder / "labels.tsv").write_text(f"{kept}_0.png\tabc\n{trained}_0.png\tcab\n")

    code, out, _ = run("bench", "--lines", folder, "--held-out", "--no-mlflow", "--json")
    assert (code, json.loads(out)["lines"], json.loads(out)["cer"]) == (0, 1, 0)
    code, out, err = run("bench", champion / "recognition", "--lines", folder, "--no-mlflow", "--json")
    assert (code, json.loads(out)["lines"]) == (1, 2)
    assert "accuracy" in err
