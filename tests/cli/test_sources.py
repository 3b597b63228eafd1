"""Command lines name files, folders, globs and stdin; each document has a place for what is read of it."""

import io
import sys
from itertools import product
from pathlib import Path

import pytest

from ocr_ops.cli.sources import Document, documents, targets
from ocr_ops.core.errors import UnreadableDocument, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents and other things, in folders."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.png",
        "a.PDF",
        "sub/c.tif",
        "sub/deep/d.docx",
        "notes.txt",
        ".hidden.png",
        ".git/e.png",
        "x[1].png",
    ):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "scans"


def names(*arguments: str) -> list[str]:
    return [document.path for document in documents(arguments)]


def test_folders_are_searched_and_globs_filled_in(folder: Path) -> None:
    """Documents only, by name; a name that is there is itself, though it looks like a glob."""
    inside = ["scans/a.PDF", "scans/b.png", "scans/x[1].png", "scans/sub/c.tif", "scans/sub/deep/d.docx"]
    assert names("scans") == inside
    assert names("scans/b.png", "scans") == ["scans/b.png", *inside]
    assert names("scans/**/*.tif") == ["scans/sub/c.tif"]
    assert names("scans/[ab]*") == ["scans/a.PDF", "scans/b.png"]
    assert names("scans/s*") == inside[3:]
    assert names("scans/x[1].png", "scans/notes.txt") == ["scans/x[1].png", "scans/notes.txt"]
    assert names("scans/none*.png", "none.png", "-") == ["scans/none*.png", "none.png", "-"]
    assert [str(document.below) for document in documents(["scans"])][3:] == ["sub/c.tif", "sub/deep/d.docx"]


def test_what_a_glob_finds_lies_below_its_fixed_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document once, in folders as they were found: two of one name do not meet."""
    for name in ("a/x.png", "b/x.png"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"")

    def below(pattern: str) -> list[str]:
        return [str(document.below) for document in documents([pattern])]

    assert below("scans/**/x.png") == ["a/x.png", "b/x.png"]
    for same in (f"{folder}/*/x.png", "./scans//*/x.png", "scans/a/../*/x.png"):
        assert below(same) == ["a/x.png", "b/x.png"]
    assert below("scans/[ab]") == ["a/x.png", "b/x.png"]
    assert below("scans/[ab].*") == ["a.PDF", "b.png"]
    assert below("sc*/a/*.png") == ["scans/a/x.png"]
    assert below("scans/a/*.png") == ["x.png"]
    (folder.parent / "out.png").write_bytes(b"")
    assert below("scans/[a]/../../out.png") == ["out.png"]
    for pattern in ("scans/**", "./scans/**", "scans/**/*"):
        found = names(pattern)
        assert len({Path(path) for path in found}) == len(found)
        assert {Path(path) for path in names("scans")} < {Path(path) for path in found}
    places = targets(documents(["scans/**/*.png"]), Path("out"), ".txt")
    assert [str(place) for place in places] == ["out/a/x.txt", "out/b.txt", "out/b/x.txt", "out/x[1].txt"]
    monkeypatch.chdir(folder / "a")
    assert below("../*/x.png") == ["a/x.png", "b/x.png"]


def test_what_cannot_be_opened_is_told(folder: Path) -> None:
    """Missing, a folder by the time it is opened, or too large."""
    for document in (*documents(["none.png", "scans/none*", "n" * 300 + "*"]), Document("scans", Path("scans"))):
        with pytest.raises(UnreadableDocument, match="a readable document"):
            document.read(10_000)
    with pytest.raises(UnreadableDocument, match="5 bytes"):
        Document("scans/b.png", Path("b.png")).read(4)


def test_stdin_is_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which no more is taken than may be."""
    (document,) = documents(["-"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    assert document.read(5) == b"12345"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"123456")))
    with pytest.raises(UnreadableDocument, match="at most 5 bytes"):
        document.read(5)


def test_every_document_has_a_place_of_its_own(folder: Path) -> None:
    """Folders are mirrored; those that differ in their suffix alone keep it; one document may have a file named."""
    (folder / "b.jpg").write_bytes(b"")
    found = documents(["scans"])
    places = [str(path) for path in targets(found, Path("out"), ".txt")]
    assert places == [
        f"out/{name}" for name in ("a.txt", "b.jpg.txt", "b.png.txt", "x[1].txt", "sub/c.txt", "sub/deep/d.txt")
    ]
    assert targets(found[:1], Path("out/it.txt"), ".txt") == [Path("out/it.txt")]
    assert targets(found[:1], Path("out"), ".txt") == [Path("out/a.txt")]


def test_no_output_takes_a_documents_place(folder: Path) -> None:
    """Nor another output's."""
    (folder / "f.pdf").write_bytes(b"")
    with pytest.raises(UsageError, match="a place of its own"):
        targets(documents(["scans/f.pdf"]), Path("scans"), ".pdf")
    with pytest.raises(UsageError, match="a place of its own"):
        targets(documents(["scans/sub/c.tif", "scans/sub"]), Path("out"), ".txt")


def test_a_document_is_itself_by_whichever_path(folder: Path) -> None:
    """Through `..`, and through links to it or to its folder."""
    (folder / "f.pdf").write_bytes(b"")
    (folder.parent / "linked").symlink_to(folder)
    (folder.parent / "again.pdf").symlink_to(folder / "f.pdf")
    (folder.parent / "hard.pdf").symlink_to("again.pdf")
    ways = ("scans/f.pdf", "scans/sub/../f.pdf", "linked/f.pdf", "again.pdf", "hard.pdf")
    folders = ("scans", "linked", "scans/sub/..", str(folder))
    for path, out in (*product(ways, ways), *product(ways[:3], folders)):
        with pytest.raises(UsageError, match="a place of its own"):
            targets(documents([path]), Path(out), ".pdf")
    assert targets(documents(["linked/f.pdf"]), Path("out"), ".pdf") == [Path("out/f.pdf")]
