"""Every format reads its example, is told from the others by its folder, and survives damage of any kind."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocr_ops.cli.data import FORMATS
from ocr_ops.core.errors import BadInput, BadRecord, OcrOpsError
from ocr_ops.data.labels import UNREAD
from ocr_ops.data.lines import LINE_FORMATS, line_format, read_lines
from ocr_ops.data.pages import PAGE_FORMATS, page_format, read_pages, scan_pages
from tests.data.formats.examples import BOXES, LINES, PAGES, TEXTS, alto, draw, paddleocr, quad, write

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
IN_JSON = [name for name in PAGES if name in {"pages", "funsd", "cord", "coco-text", "doctr", "paddleocr"}]


def test_formats_are_offered_on_the_command_line() -> None:
    """`--format` knows each reader, and no other."""
    assert set(FORMATS) == set(PAGE_FORMATS) | set(LINE_FORMATS)
    assert set(PAGE_FORMATS) - {"pdf"} == {form for form, _ in PAGES.values()}
    assert set(LINE_FORMATS) == {form for form, _ in LINES.values()}


@pytest.mark.parametrize("name", PAGES)
def test_pages_of_each_format_are_read(tmp_path: Path, name: str) -> None:
    """Told by the folder alone: the image, both lines, their places."""
    form, build = PAGES[name]
    build(tmp_path)
    assert page_format(tmp_path) == form
    (page,) = read_pages(tmp_path).pages
    assert (tmp_path / page.image).is_file()
    regions = [region for region in page.regions if not region.ignored]
    assert tuple(region.text for region in regions) == ((UNREAD, UNREAD) if name == "doctr" else TEXTS)
    np.testing.assert_allclose([region.polygon for region in regions], [quad(box) for box in BOXES], atol=0.01)
    ignored = len(page.regions) - len(regions)
    assert ignored == (name in {"icdar2015", "cord", "coco-text"})


@pytest.mark.parametrize("name", LINES)
def test_lines_of_each_format_are_read(tmp_path: Path, name: str) -> None:
    """Told by the folder alone: texts in order, each with its own pixels."""
    form, build = LINES[name]
    build(tmp_path / "set")
    assert line_format(tmp_path / "set") == form
    lines = read_lines(tmp_path / "set")
    assert tuple(line.text for line in lines.lines) == TEXTS
    assert not lines.rejected
    first, second = (line.image() for line in lines.lines)
    assert first.shape == (100, 200)
    assert (first != second).any()
    assert len({line.document for line in lines.lines}) == 2


@pytest.mark.parametrize("name", [name for name in PAGES if name != "doctr"])
def test_pages_of_each_format_are_cut_into_lines(tmp_path: Path, name: str) -> None:
    """What is trained on is what stands in the box, named by its file."""
    labels = PAGES[name][1](tmp_path)
    lines = read_lines(tmp_path)
    assert tuple(line.text for line in lines.lines) == (("HELLO", "WORLD 2") if name == "sroie" else TEXTS)
    assert lines.fold == (name == "sroie")
    assert all(line.where.startswith(labels.relative_to(tmp_path).as_posix()) for line in lines.lines)
    assert lines.lines[0].image().shape[0] == 20
    assert lines.lines[0].image().min() < 50


def damaged(original: bytes) -> st.SearchStrategy[bytes]:
    """Other bytes, and the same with a piece of it replaced."""
    place = st.integers(0, len(original))
    pieces = st.binary(max_size=12) | st.text(max_size=6).map(lambda text: text.encode(errors="surrogatepass"))
    return st.binary(max_size=200) | st.tuples(place, place, pieces).map(
        lambda cut: original[: min(cut[:2])] + cut[2] + original[max(cut[:2]) :]
    )


def reads_or_says_why(folder: Path, form: str) -> None:
    """Every way of reading ends in a dataset or in one of the toolkit's errors."""
    for strict in (True, False):
        with suppress(OcrOpsError):
            pages = read_pages(folder, form, strict=strict)
            assert pages.digest
            assert all((folder / page.image).is_file() for page in pages.pages)
    with suppress(OcrOpsError):
        assert read_lines(folder, form).lines
    page_format(folder)


@pytest.mark.parametrize("name", PAGES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_label_files_never_trip_a_reader(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Arbitrary bytes are labels, bad rows, or no dataset."""
    form, build = PAGES[name]
    labels = build(tmp_path)
    labels.write_bytes(data.draw(damaged(labels.read_bytes())))
    reads_or_says_why(tmp_path, form)


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from nodes(item, (*path, key))


@pytest.mark.parametrize("name", IN_JSON)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_json_of_another_shape_never_trips_a_reader(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Any node of a label replaced by any other JSON."""
    form, build = PAGES[name]
    labels = build(tmp_path)
    head, tab, text = labels.read_text().rpartition("\t") if name == "paddleocr" else ("", "", labels.read_text())
    value = json.loads(text)
    path = data.draw(st.sampled_from(list(nodes(value))))
    other = data.draw(JSON)
    if path:
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = other
    else:
        value = other
    labels.write_text(head + tab + json.dumps(value))
    reads_or_says_why(tmp_path, form)


@pytest.mark.parametrize("name", [name for name in LINES if name != "lmdb"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_line_labels_never_trip_a_reader(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Arbitrary bytes are lines or bad rows; nothing is lost without a word."""
    form, build = LINES[name]
    labels = build(tmp_path)
    labels.write_bytes(data.draw(damaged(labels.read_bytes())))
    with suppress(OcrOpsError):
        lines = read_lines(tmp_path, form)
        assert lines.digest
        assert all(line.text.split() for line in lines.lines)


def test_an_lmdb_store_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """A missing image and a label that is no text cost a line each; a promise of more than there is costs all."""
    LINES["lmdb"][1](tmp_path / "set")
    with lmdb.open(str(tmp_path / "set")) as store, store.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"4")
        transaction.put(b"label-000000003", b"\xff\xfe")
        transaction.put(b"image-000000003", b"any")
    lines = read_lines(tmp_path / "set")
    assert tuple(line.text for line in lines.lines) == TEXTS
    assert [row.where for row in lines.rejected] == ["data.mdb:3", "data.mdb:4"]
    shutil.copytree(tmp_path / "set", tmp_path / "other")
    with lmdb.open(str(tmp_path / "other")) as store, store.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"999999999")
    with pytest.raises(BadInput, match="num-samples"):
        read_lines(tmp_path / "other")
    cut = Path(shutil.copytree(tmp_path / "set", tmp_path / "cut")) / "data.mdb"
    cut.write_bytes(cut.read_bytes()[: 3 * 4096])
    with pytest.raises(BadInput, match="bytes"):
        read_lines(tmp_path / "cut")
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "data.mdb").write_bytes(b"no store")
    with pytest.raises(BadInput, match=r"data\.mdb"):
        read_lines(tmp_path / "third")


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("gone.png\t[]", "no image"),
        ("../1.png\t[]", "within"),
        ("/etc/hostname\t[]", "within"),
        ("1.png\t{}", "list"),
        ("1.png\tHello", "no JSON"),
        ('1.png\t[{"transcription": "A", "points": [[0, 0], [1, 0], [1, 1]]}]', "3 points"),
        ('1.png\t[{"transcription": "A", "points": [[0, 0], [1, 0], [1, 1], [0, "x"]]}]', "number of pixels"),
        ('1.png\t[{"transcription": "A", "points": [[0, 0], [1, 0], [1, 1], [0, 1e999]]}]', "number of pixels"),
        ('1.png\t[{"transcription": "A", "points": [[0, 0], [1, 0], [1, 1], [0, 2e6]]}]', "number of pixels"),
        ('1.png\t[{"transcription": 7, "points": [[0, 0], [1, 0], [1, 1], [0, 1]]}]', "string"),
        ('1.png\t[{"transcription": "\\ud800", "points": [[0, 0], [1, 0], [1, 1], [0, 1]]}]', "UTF-8"),
        (f"1.png\t{'[' * 100_000}", "no JSON"),
        (f'1.png\t[{{"transcription": "A", "points": [{"1" * 5000}]}}]', "no JSON"),
    ],
)
def test_bad_rows_are_quarantined_or_loud(tmp_path: Path, row: str, cause: str) -> None:
    """Left out with file, line and cause where that was asked for; an error of the same words for a benchmark."""
    labels = paddleocr(tmp_path)
    labels.write_text(labels.read_text() + row + "\n")
    pages = read_pages(tmp_path, strict=False)
    assert pages.pages[0].text == "Hello\nWorld 2"
    (rejected,) = pages.rejected
    assert rejected.where.startswith("Label.txt:2")
    assert cause in rejected.cause
    with pytest.raises(BadRecord, match=r"Label\.txt:2"):
        read_pages(tmp_path)


def test_long_polygons_become_rectangles_that_keep_the_reading_direction(tmp_path: Path) -> None:
    """Fourteen points around a line that runs upwards."""
    draw(tmp_path / "1.png")
    top = [[50.0 + i * 2, 90.0 - i * 10] for i in range(7)]
    points = [*top, *([x + 14.7, y + 2.9] for x, y in reversed(top))]
    write(tmp_path / "Label.txt", f"1.png\t{json.dumps([{'transcription': 'up', 'points': points}])}\n")
    (region,) = read_pages(tmp_path).pages[0].regions
    np.testing.assert_allclose(region.polygon, [points[0], points[6], points[7], points[13]], atol=0.5)


def test_corners_the_other_way_round_are_turned(tmp_path: Path) -> None:
    """Text is never mirrored."""
    draw(tmp_path / "1.png")
    write(tmp_path / "gt_1.txt", "10,10,10,30,90,30,90,10,Hello\n")
    assert read_pages(tmp_path).pages[0].regions[0].polygon == ((10, 10), (90, 10), (90, 30), (10, 30))


def test_label_files_of_training_and_test_are_not_mixed(tmp_path: Path) -> None:
    """Two label files in a folder: the one that is meant is named."""
    labels = paddleocr(tmp_path)
    other = labels.with_name("Label_test.txt")
    other.write_bytes(labels.read_bytes())
    with pytest.raises(BadInput, match=r"Label\.txt, Label_test\.txt"):
        read_pages(tmp_path)
    assert read_pages(other).pages[0].text == "Hello\nWorld 2"


def test_alto_in_tenths_of_millimetres_comes_in_pixels(tmp_path: Path) -> None:
    """The page's width in its unit and the image's in pixels give the scale."""
    alto(tmp_path, "mm10", 4.25)
    regions = read_pages(tmp_path).pages[0].regions
    np.testing.assert_allclose([region.polygon for region in regions], [quad(box) for box in BOXES], atol=0.01)


@pytest.mark.parametrize(
    "declared",
    [
        '<!DOCTYPE alto [<!ENTITY x "Hello">]>',
        '<!DOCTYPE alto [<!ENTITY x SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE alto [<!ENTITY a "aaaaaaaaaa"><!ENTITY x "&a;&a;&a;&a;">]>',
    ],
)
def test_alto_with_entities_is_refused(tmp_path: Path, declared: str) -> None:
    """Nothing is fetched, and nothing blown up."""
    labels = alto(tmp_path)
    head, line, rest = labels.read_text().partition("\n")
    labels.write_text(head + line + declared + rest.replace("Hello", "&x;"))
    with pytest.raises(BadRecord, match=r"1\.xml:2: a declared entity"):
        read_pages(tmp_path)


def test_a_truncated_alto_file_is_refused_by_line(tmp_path: Path) -> None:
    """Half a page is not a page with half its text."""
    labels = alto(tmp_path)
    labels.write_text(labels.read_text()[:-30])
    with pytest.raises(BadRecord, match=r"1\.xml:\d+: no XML"):
        read_pages(tmp_path)


def test_rows_are_parted_by_newlines_only(tmp_path: Path) -> None:
    """Texts may hold the other characters Unicode takes for line ends, in rows as people write them."""
    draw(tmp_path / "1.png")
    text = "a\u2028b\x85c"
    regions = [{"transcription": text, "points": quad(BOXES[0])}]
    write(tmp_path / "Label.txt", f"1.png\t{json.dumps(regions, ensure_ascii=False)}\n")
    assert read_pages(tmp_path).pages[0].regions[0].text == text


def test_labels_of_one_case_are_folded(tmp_path: Path) -> None:
    """A hundred letters of one case are no accident; lower-cased labels are upper-cased, as learning expects."""
    draw(tmp_path / "a.png")
    write(tmp_path / "labels.tsv", "a.png\t" + "only lower case " * 10 + "\n")
    lines = read_lines(tmp_path)
    assert lines.fold
    assert lines.lines[0].text.startswith("ONLY LOWER CASE")
    write(tmp_path / "labels.tsv", "a.png\tonly lower case\n")
    assert not read_lines(tmp_path).fold


@pytest.mark.shared_data
def test_real_lines_and_scenes_read(shared_data: Path) -> None:
    """Everything that is there, without a bad row."""
    lines = read_lines(shared_data / "sroie_lines")
    assert (len(lines.lines), lines.fold, lines.rejected) == (8062, True, ())
    assert lines.lines[0].where == "labels.tsv:1"
    assert lines.lines[0].image().shape == (40, 479)
    scenes = read_pages(shared_data / "icdar2015")
    assert len(scenes.pages) == 80
    assert any(region.ignored for page in scenes.pages for region in page.regions)
    assert len(read_lines(shared_data / "sroie").lines) > 6000
    assert len(read_lines(shared_data / "lines" / "archiscribe").lines) == 30


@pytest.mark.shared_data
def test_real_pdfs_read(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First pages with their text layers; broken and locked ones are told apart, each by its own cause."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path))
    pages = read_pages(shared_data / "pdf" / "born_digital" / "py-pdf-sample-files")
    assert len(pages.pages) == 2
    assert pages.folder.is_relative_to(tmp_path)
    assert all(page.text and page.regions for page in pages.pages)
    again = read_pages(shared_data / "pdf" / "born_digital" / "py-pdf-sample-files")
    assert again.digest == pages.digest
    broken = scan_pages(shared_data / "pdf" / "malformed_or_locked")
    assert not broken.pages
    assert len(broken.rejected) == 10
