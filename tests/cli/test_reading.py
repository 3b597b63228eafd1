"""`ocr-ops read`: every output, to stdout or to files, however many documents, and whatever is wrong with some."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event

import cv2
import psutil
import pypdfium2
import pytest

from ocr_ops.cli import main
from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from tests.client.scripted import Said, events, problem, scripted
from tests.tiny import draw

Run = Callable[..., tuple[int, str, str]]
TEXTS = {"a.png": ("abc cab", "cc"), "b.png": ("ba",), "sub/c.png": ("c a", "b")}


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_release: Release
) -> Run:
    """Runs `ocr-ops read` in a folder of three pages, with the tiny release as champion: exit code, stdout, stderr."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_release.path, tmp_path / "home" / "champion")
    for name, lines in TEXTS.items():
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw(lines))

    def call(*arguments: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["read", *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.mark.parametrize("jobs", [1, 3])
def test_documents_come_in_order_however_many_are_read_at_once(run: Run, jobs: int) -> None:
    """A folder, as lines of JSON and as text; a bad one is a line on stderr, and the code at the end."""
    Path("scans/ab.pdf").write_bytes(b"%PDF-1.7 nothing")
    code, out, err = run("scans", "--jobs", jobs, "--format", "json", "--no-progress")
    assert code == 4
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["path"] for one in found] == ["scans/a.png", "scans/b.png", "scans/sub/c.png"]
    for one, lines in zip(found, TEXTS.values(), strict=True):
        assert [line["text"] for line in one["pages"][0]["lines"]] == list(lines)
    assert err.startswith("ocr-ops: scans/ab.pdf: ")
    assert err.count("\n") == 1
    code, out, err = run("scans/b.png", "scans/a.png", "-j", jobs)
    assert (code, out.split(), err) == (0, ["ba", "abc", "cab", "cc"], "")


def test_files_are_written_whole_and_told(run: Run) -> None:
    """Mirroring the folders, one a document; stdout has their paths."""
    code, out, err = run("scans", "--output", "pdf", "--out", "made")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["made/a.pdf", "made/b.pdf", "made/sub/c.pdf"]
    assert sorted(path for path in Path("made").rglob("*") if path.is_file()) == sorted(map(Path, out.splitlines()))
    with pypdfium2.PdfDocument("made/sub/c.pdf") as pdf:
        assert pdf[0].get_textpage().get_text_range().split() == ["c", "a", "b"]
    code, out, _ = run("scans/b.png", "--output", "json", "--out", "made/b.json")
    assert (code, out) == (0, "made/b.json\n")
    assert Reading.model_validate_json(Path("made/b.json").read_bytes()).text == "ba"


@pytest.mark.parametrize("output", ["hocr", "alto", "tsv", "markdown"])
def test_one_document_may_be_printed_in_any_output(run: Run, output: str) -> None:
    """Several may not, where they could not be told apart."""
    code, out, _ = run("scans/b.png", "--output", output)
    assert code == 0
    assert "ba" in out
    code, out, err = run("scans/b.png", "scans/a.png", "--output", output)
    assert (code, out) == (2, "")
    assert "--out FOLDER" in err


def test_options_are_those_of_a_reading(run: Run, tmp_path: Path) -> None:
    """Pages of a document; what is no option's value is told before anything is read."""
    first, second = draw(["abc"]), draw(["cc"])
    cv2.imwritemulti(str(tmp_path / "film.tif"), [first, second])
    assert run("film.tif", "--pages", "2", "--no-orientation", "--deskew") == (0, "cc\n", "")
    code, _, err = run("film.tif", "--pages", "two")
    assert (code, err) == (2, "ocr-ops: --pages: 'two'; expected such as 1-3,8; see `ocr-ops read --help`\n")
    code, _, err = run("film.tif", "--language", "ja")
    assert code == 4
    assert "ja" in err


def test_an_output_that_cannot_be_written_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As no defect: one line, and the code of a command that is wrong, for the next would not be written either."""
    Path("file").write_bytes(b"")
    for out in ("file", "file/made", "/proc/made"):
        code, told, err = run("scans/sub", "--out", out)
        assert (code, told, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"ocr-ops: {out}/c.txt: ")
    code, err = _end("scans", "--out", "scans/a.png")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("ocr-ops: scans/a.png/a.txt: ")
    code, _, err = run("scans/b.png", "--out", "o" * 300)
    assert (code, err.count("\n")) == (4, 1)
    assert err.startswith(f"ocr-ops: scans/b.png: {'o' * 300}/b.txt: file name too long; expected ")

    def full_disk(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    code, told, err = run("scans/sub", "--out", "made")
    assert (code, told) == (2, "")
    assert err.startswith("ocr-ops: made/c.txt: no space left on device; expected ")
    assert list(Path("made").iterdir()) == []


def test_too_long_a_name_is_one_documents_own(run: Run) -> None:
    """A name that is long enough for the document may be too long for its output; the others are written."""
    Path("scans/b.png").rename(f"scans/{'b' * 251}.png")
    code, told, err = run("scans", "--output", "hocr", "--out", "made")
    assert (code, told.splitlines()) == (4, ["made/a.hocr", "made/sub/c.hocr"])
    assert err.startswith(f"ocr-ops: scans/{'b' * 251}.png: ")
    assert "file name too long" in err
    assert err.count("\n") == 1
    assert len([path for path in Path("made").rglob("*") if path.is_file()]) == 2


def test_a_name_that_is_no_utf_8_is_read_like_any_other(run: Run) -> None:
    """Printed, in JSON and sent with a mark for what cannot be; its output has the very name."""
    odd = "scans/b\udce4.png"
    Path("scans/b.png").rename(odd)
    Path("scans/c\udce4.png").write_bytes(b"nothing")
    for output in ("json", "text", "hocr"):
        code, out, err = run("scans", "--output", output, "--out", "made")
        assert code == 4
        assert out.splitlines()[1].startswith("made/b\ufffd.")
        assert err.startswith("ocr-ops: scans/c\ufffd.png: ")
        assert err.count("\n") == 1
    assert Path("made/b\udce4.txt").read_text() == "ba\n"
    code, out, _ = run("scans", "--output", "json")
    assert [json.loads(line)["path"] for line in out.splitlines()] == [
        "scans/a.png", "scans/b\ufffd.png", "scans/sub/c.png",
    ]  # fmt: skip
    content = {"media_type": "text/plain", "encoding": "utf-8", "data": "from afar\n"}
    with scripted(events({"event": "done", "pages": 0, "content": content})) as server:
        assert run(odd, "scans/a.png", "--url", server.url, "-j", 1)[0] == 0
        assert 'filename="b\ufffd.png"'.encode() in server.asked[0].body
    code, _, err = run(odd, "--out", odd)
    assert (code, err.partition(";")[0]) == (2, "ocr-ops: scans/b\ufffd.png: a document, or two outputs")


def test_a_folder_without_documents_is_told(run: Run, tmp_path: Path) -> None:
    """One line and exit code 4, as a glob that finds nothing: silence would pass for success."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("no document")
    for options in ((), ("--output", "pdf", "--out", tmp_path / "made")):
        code, out, err = run("letters", *options)
        assert (code, out) == (4, "")
        assert err.startswith("ocr-ops: letters: no document; expected files that end in .bmp, .docx")
        assert err.count("\n") == 1


def test_stdin_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `-`."""
    with Path("scans/b.png").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run("-") == (0, "ba\n", "")


def test_a_bar_shows_where_it_is(run: Run) -> None:
    """On stderr: documents of several, pages of one."""
    _, out, err = run("scans", "--progress")
    assert "0/3" in err
    assert "document" in err
    assert "0/3" not in out
    assert "page" in run("scans/b.png", "--progress")[2]


def test_a_service_is_asked_instead(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key, the options and the output; what it refuses is told of the document it is about."""
    monkeypatch.setenv("OCR_OPS_API_KEY", "secret")
    content = {"media_type": "text/markdown", "encoding": "utf-8", "data": "from afar\n"}
    done = events({"event": "done", "pages": 0, "content": content})
    with scripted(done, problem(415, "unreadable-document"), done) as server:
        code, out, err = run("scans", "--url", server.url, "-o", "markdown", "--out", "made", "--upscale", "-j", 1)
        assert code == 4
        assert out.splitlines() == ["made/a.md", "made/sub/c.md"]
        assert Path("made/a.md").read_text(encoding="utf-8") == "from afar\n"
        assert err.startswith("ocr-ops: scans/b.png: ")
        assert {asked.headers["Authorization"] for asked in server.asked} == {"Bearer secret"}
        assert all(b'name="upscale"\r\n\r\ntrue' in asked.body for asked in server.asked)


def test_what_is_wrong_with_all_documents_ends_at_once(run: Run) -> None:
    """No key, no service, no URL: one line, and no further request."""
    with scripted(problem(401, "unauthorized")) as server:
        code, err = _end("scans", "--url", server.url, "-j", "1")
        assert (code, err.count("\n")) == (4, 1)
        assert len(server.asked) <= 2
    with scripted(Said()) as server:
        pass
    code, err = _end("scans", "--url", server.url, "--timeout", "0.5")
    assert (code, err.count("\n")) == (5, 1)
    assert run("scans", "--url", "nowhere")[0] == 2


PROGRAM = """
import signal
from ocr_ops.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
main()
"""
CONTENT = {"media_type": "text/plain", "encoding": "utf-8", "data": "from afar\n"}
DONE = events({"event": "done", "pages": 0, "content": CONTENT})


@contextmanager
def apart(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`ocr-ops read` in a process of its own."""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", PROGRAM, "read", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def _end(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr, by itself: where something is read still, it is the process that ends."""
    with apart(*arguments) as process:
        code = process.wait(60)
        assert process.stderr is not None
        return code, process.stderr.read()


@pytest.mark.usefixtures("run")
def test_what_is_wrong_with_all_documents_waits_for_none() -> None:
    """Neither for those that are being read, nor for its turn."""
    hold = Event()
    with scripted(replace(DONE, hold=hold), problem(401, "unauthorized")) as server:
        code, err = _end("scans", "--url", server.url, "-j", "2")
        assert (code, err.count("\n")) == (4, 1)
        assert err.startswith("ocr-ops: ")
        assert not hold.is_set()
        hold.set()
    os.mkfifo("slow.png")  # whoever opens it waits for what never comes
    Path("file").write_bytes(b"")
    code, err = _end("scans/a.png", "slow.png", "-j", "2", "--out", "file/made")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("ocr-ops: file/made/a.txt: ")


def ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr of one that is interrupted, and has its processes with it."""
    below = psutil.Process(process.pid).children(recursive=True)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    code = process.wait(20)
    assert time.monotonic() - start < 5, "a second, on a quiet machine"
    assert process.stderr is not None
    while not all(map(ended, below)):
        assert time.monotonic() - start < 10
        time.sleep(0.01)
    return code, process.stderr.read().strip()


@pytest.mark.usefixtures("run")
def test_an_interrupt_waits_for_no_document_here() -> None:
    """What was written before stands, and nothing is left half-done."""
    os.mkfifo("slow.png")
    with apart("scans/a.png", "slow.png", "scans/b.png", "-j", "1", "--out", "made") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made/a.txt\n"
        with Path("slow.png").open("wb"):  # it is being read
            assert interrupted(process) == (130, "ocr-ops: interrupted; run it again to go on")
        assert process.stdout.read() == ""
    assert [path.name for path in Path("made").iterdir()] == ["a.txt"]


@pytest.mark.usefixtures("run")
def test_an_interrupt_waits_for_no_service() -> None:
    """Which may take minutes to answer."""
    hold = Event()
    with scripted(DONE, replace(DONE, hold=hold)) as server:
        with apart("scans", "--url", server.url, "-j", "1", "--out", "made") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "made/a.txt\n"
            while len(server.asked) < 2:
                time.sleep(0.01)
            assert interrupted(process) == (130, "ocr-ops: interrupted; run it again to go on")
        hold.set()
    assert [path.name for path in Path("made").iterdir()] == ["a.txt"]


@pytest.mark.usefixtures("run")
def test_it_ends_when_nobody_reads_what_it_prints() -> None:
    """As `| head -1` leaves it: the code of shells for a broken pipe, no word, and no wait for what is being read."""
    second, third = Event(), Event()
    with scripted(DONE, replace(DONE, hold=second), replace(DONE, hold=third)) as server:
        with apart("scans", "--url", server.url, "-j", "1") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "from afar\n"
            process.stdout.close()
            second.set()
            assert process.wait(20) == 141
            assert process.stderr.read() == ""
        third.set()
