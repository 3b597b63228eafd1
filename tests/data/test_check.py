"""The validator finds each kind of fault where it stands, and nothing in a sound dataset."""

import json
from pathlib import Path

import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.data.check import check
from tests.data.formats.examples import LINES, PAGES, draw, quad, write


@pytest.mark.parametrize("name", [*PAGES, *(f"lines/{name}" for name in LINES)])
def test_sound_datasets_pass(tmp_path: Path, name: str) -> None:
    """Every example, of every format."""
    build = LINES[name.removeprefix("lines/")][1] if name.startswith("lines/") else PAGES[name][1]
    build(tmp_path / "set")
    checked = check(tmp_path / "set")
    assert checked.findings == ()
    assert checked.images
    assert checked.labels


def test_every_fault_of_pages_is_found_where_it_stands(tmp_path: Path) -> None:
    """One page a fault, by file and line."""
    good = (10, 10, 90, 30)

    def row(image: str, box: tuple[int, int, int, int], text: str) -> str:
        return f"{image}\t{json.dumps([{'transcription': text, 'points': quad(box)}])}\n"

    for name in ("1", "2", "5", "6", "7", "8"):
        draw(tmp_path / f"{name}.png", int(name))
    draw(tmp_path / "9.png", 1)
    (tmp_path / "4.png").write_bytes(b"no image")
    rows = [
        row("1.png", good, "Hello"),
        "2.png\t[{]\n",
        row("3.png", good, "A"),
        row("4.png", good, "A"),
        row("5.png", (10, 10, 10, 30), "A"),
        row("6.png", (10, 10, 290, 30), "A"),
        row("7.png", good, "Grüße\x07"),
        row("8.png", good, ""),
        row("9.png", good, "A"),
    ]
    write(tmp_path / "Label.txt", "".join(rows))
    checked = check(tmp_path)
    assert {(finding.where, finding.kind) for finding in checked.findings} == {
        ("Label.txt:2", "bad row"),
        ("Label.txt:3", "bad row"),
        ("4.png", "unreadable image"),
        ("Label.txt:5[0]", "degenerate box"),
        ("Label.txt:6[0]", "outside the page"),
        ("Label.txt:7[0]", "characters"),
        ("Label.txt:8[0]", "empty label"),
        ("9.png", "duplicate image"),
    }
    assert checked.errors == 6
    assert "duplicate image: 1" in checked.summary
    (strange,) = (finding for finding in check(tmp_path, charset="HeloAGruße").findings if finding.kind == "characters")
    assert "'ü' U+00FC" in strange.cause


def test_every_fault_of_lines_is_found_where_it_stands(tmp_path: Path) -> None:
    """Rows without text, without an image, with a broken one, with the same one."""
    LINES["labels.tsv"][1](tmp_path)
    (tmp_path / "img" / "c_1.png").write_bytes((tmp_path / "img" / "a_1.png").read_bytes())
    (tmp_path / "img" / "d_1.png").write_bytes(b"no image")
    rows = "img/c_1.png\tcopy\nimg/d_1.png\tbroken\nimg/e_1.png\tgone\nimg/a_1.png\nimg/a_1.png\t \n"
    labels = tmp_path / "labels.tsv"
    labels.write_text(labels.read_text() + rows)
    assert [(finding.where, finding.kind) for finding in check(tmp_path).findings] == [
        ("labels.tsv:5", "bad row"),
        ("labels.tsv:6", "bad row"),
        ("labels.tsv:7", "bad row"),
        ("labels.tsv:3", "duplicate image"),
        ("labels.tsv:4", "unreadable image"),
    ]


def test_what_is_no_dataset_is_said_to_be_none(tmp_path: Path) -> None:
    """An empty folder does not pass."""
    with pytest.raises(BadInput, match="none of the known layouts"):
        check(tmp_path)
