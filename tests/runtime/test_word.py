import io
import re
import struct
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import docx
import numpy as np
import pytest
from docx.document import Document
from docx.enum.section import WD_SECTION
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from docx.shared import Pt
from docx.table import Table
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.runtime.documents import LIMITS, Limits, Sheet, sheets

LOREM = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 12


def saved(document: Document) -> bytes:
    data = io.BytesIO()
    document.save(data)
    return data.getvalue()


def opened(data: bytes, pages: str | None = None, limits: Limits = LIMITS) -> list[Sheet]:
    return list(sheets(data, "a.docx", ReadOptions(pages=pages), limits))


def texts(data: bytes) -> list[Page]:
    return [sheet.text for sheet in opened(data) if sheet.text is not None]


def error(data: bytes) -> UnreadableDocument:
    with pytest.raises(UnreadableDocument) as caught:
        opened(data)
    assert "\n" not in str(caught.value)
    return caught.value


def repacked(data: bytes, change: Callable[[str, bytes], bytes | None], **more: bytes) -> bytes:
    """A package with its parts changed, dropped or added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in more.items():
            new.writestr(name, content)
    return out.getvalue()


def png(size: tuple[int, int] = (300, 200)) -> io.BytesIO:
    data = io.BytesIO()
    Image.new("RGB", size, "white").save(data, "PNG")
    data.seek(0)
    return data


def sample() -> Document:
    document = docx.Document()
    document.add_heading("Annual report", 1)
    document.add_paragraph(LOREM)
    table = document.add_table(3, 3)
    for row in range(3):
        for column in range(3):
            table.cell(row, column).text = f"row {row} column {column}"
    table.cell(0, 0).merge(table.cell(0, 1)).text = "merged"
    document.add_paragraph("first", style="List Number")
    document.add_paragraph("second", style="List Number")
    document.add_paragraph("point", style="List Bullet")
    document.sections[0].header.paragraphs[0].text = "Confidential"
    document.sections[0].footer.paragraphs[0].text = "Page footer"
    return document


def test_what_stands_in_a_document_stands_in_its_reading_in_order() -> None:
    (page,) = texts(saved(sample()))
    assert [block.kind for block in page.blocks] == ["text", "heading", "text", "table", "text", "text", "text", "text"]
    lines = [line.text for line in page.lines]
    assert lines[:2] == ["Confidential", "Annual report"]
    assert lines[-4:] == ["1. first", "2. second", "• point", "Page footer"]
    assert " ".join(lines).count(LOREM.strip()) == 1
    assert page.source == "text-layer"
    assert (page.width, page.height) == (1700, 2200)  # US letter, as python-docx begins


FOOTER = (
    "This offer holds for thirty days, the goods remain ours until they are paid for in full, and whoever finds a "
    "mistake in it tells us within a week, in writing, by the number 2026-11/0047."
)


@pytest.mark.parametrize("footer", [FOOTER, "\n".join([FOOTER] * 4), FOOTER * 20], ids=["long", "lines", "longest"])
def test_headers_and_footers_are_whole_in_their_margins(footer: str) -> None:
    """As small as that asks for."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = footer
    document.sections[0].footer.paragraphs[0].text = footer
    document.add_paragraph("body")
    (page,) = texts(saved(document))
    (body,) = (number for number, line in enumerate(page.lines) if line.text == "body")
    for lines in (page.lines[:body], page.lines[body + 1 :]):
        assert " ".join(line.text for line in lines).split() == footer.split()
    assert max(y for _, y in page.lines[body - 1].polygon) <= page.lines[body].polygon[0][1]
    assert all(y < page.height for _, y in page.lines[-1].polygon)
    assert page.lines[body + 1].polygon[0][1] > 10 / 11 * page.height


def test_even_pages_have_their_own_headers() -> None:
    """By the numbers of the document's pages, whichever its sections give them."""
    document = docx.Document()
    document.settings.odd_and_even_pages_header_footer = True
    section = document.sections[0]
    section.header.paragraphs[0].text, section.even_page_header.paragraphs[0].text = "odd", "even"
    document.add_paragraph("one")
    document.add_page_break()
    document.add_paragraph("two")
    document.add_section(WD_SECTION.NEW_PAGE)
    document.add_paragraph("three")
    document.add_section(WD_SECTION.ODD_PAGE)
    document.add_paragraph("five")
    numbered = document.add_section(WD_SECTION.NEW_PAGE)
    numbered._sectPr.append(parse_xml(f'<w:pgNumType {nsdecls("w")} w:start="8"/>'))
    document.add_paragraph("eight")
    found = [page.text for page in texts(saved(document))]
    assert found == ["odd\none", "even\ntwo", "odd\nthree", "odd\nfive", "even\neight"]
    document.settings.odd_and_even_pages_header_footer = False
    assert all(page.text.startswith("odd") for page in texts(saved(document)))


def noted(document: Document, footnotes: dict[int, str], endnotes: dict[int, str]) -> bytes:
    """The document with notes; `{f1}` and `{e1}` in its text refer to them, struck out where an `x` follows."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    kinds = {"footnote": footnotes, "endnote": endnotes}
    parts = {}
    for kind, notes in kinds.items():
        said = "".join(
            f'<w:{kind} w:id="{number}"><w:p><w:r><w:{kind}Ref/></w:r>'
            f"<w:r><w:t>{_marked(text)}</w:t></w:r></w:p></w:{kind}>"
            for number, text in notes.items()
        )
        parts[f"word/{kind}s.xml"] = f"<w:{kind}s {space}>{said}</w:{kind}s>".encode()
    types = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    overrides = "".join(f'<Override PartName="/word/{k}s.xml" ContentType="{types}.{k}s+xml"/>' for k in kinds)
    links = "".join(f'<Relationship Id="{k}" Target="{k}s.xml" Type="{relations}/{k}s"/>' for k in kinds)

    def change(name: str, content: bytes) -> bytes:
        if name == "[Content_Types].xml":
            return content.replace(b"</Types>", f"{overrides}</Types>".encode())
        if name == "word/_rels/document.xml.rels":
            return content.replace(b"</Relationships>", f"{links}</Relationships>".encode())
        return _marked(content.decode()).encode() if name == "word/document.xml" else content

    return repacked(saved(document), change, **parts)


def _marked(text: str) -> str:
    def reference(found: re.Match[str]) -> str:
        run = f'<w:r><w:{"foot" if found[1] == "f" else "end"}noteReference w:id="{found[2]}"/></w:r>'
        return f"</w:t></w:r>{f'<w:del>{run}</w:del>' if found[3] else run}<w:r><w:t>"

    return re.sub(r"\{([fe])(\d)(x?)\}", reference, text)


def test_notes_stand_at_the_foot_of_their_page_and_at_the_end() -> None:
    """Numbered as they are referred to, also from a table; what is struck out or referred to by none is left out."""
    document = docx.Document()
    document.add_paragraph("Struck out{f4x}, then one{f2}, and one that ends it all.{e1}")
    document.add_table(1, 1).cell(0, 0).text = "In a cell{f1}"
    document.add_page_break()
    document.add_paragraph("Again{f2}, and a third{f3}.")
    footnotes = {0: "separator", 1: "of a cell", 2: "second by its id", 3: "third {f1}", 4: "struck out"}
    first, second = texts(noted(document, footnotes, {1: "the end", 2: "of nothing"}))
    assert [line.text for line in first.lines] == [
        "Struck out, then one [1], and one that ends it all. [i]",
        "In a cell [2]",
        "[1] second by its id",
        "[2] of a cell",
    ]
    body = ["Again [1], and a third [3].", "[i] the end", "[3] third [2]"]
    assert [line.text for line in second.lines] == body
    assert first.lines[2].polygon[0][1] > 0.8 * first.height
    assert second.lines[-1].polygon[0][1] > 0.8 * second.height


def test_notes_longer_than_a_page_go_on_on_the_next_and_lose_nothing() -> None:
    document = docx.Document()
    document.add_paragraph("Short{f1}.")
    document.add_paragraph(LOREM * 3)
    long = " ".join(f"word{number}" for number in range(2500))
    pages = texts(noted(document, {1: long}, {}))
    said = " ".join(line.text for page in pages for line in page.lines)
    assert len(pages) > 2
    assert said.count("Lorem") == 36
    assert [word for word in said.split() if word.startswith("word")] == long.split()
    for page in pages:
        assert max(y for line in page.lines for _, y in line.polygon) <= page.height


def test_notes_that_refer_to_themselves_come_once() -> None:
    document = docx.Document()
    document.add_paragraph("One{f1}")
    (page,) = texts(noted(document, {1: "itself {f1} and {f2}", 2: "back to {f1}"}, {}))
    assert [line.text for line in page.lines] == ["One [1]", "[1] itself [1] and [2]", "[2] back to [1]"]


def test_tables_have_cells() -> None:
    (page,) = texts(saved(sample()))
    table = page.blocks[3].table
    assert table is not None
    assert (table.rows, table.columns) == (3, 3)
    assert [(cell.row, cell.column, cell.column_span) for cell in table.cells][:2] == [(0, 0, 2), (0, 2, 1)]
    for cell in table.cells:
        assert " ".join(page.lines[line].words[word].text for line, word in cell.words) == cell.text
        x, y = zip(*cell.polygon, strict=True)
        for line, word in cell.words:
            for a, b in page.lines[line].words[word].polygon:
                assert min(x) <= a <= max(x)
                assert min(y) <= b <= max(y)


def test_tables_from_right_to_left_begin_on_the_right() -> None:
    """With the same cells, in the same order."""
    document = sample()
    document.tables[0]._element.tblPr.append(parse_xml(f"<w:bidiVisual {nsdecls('w')}/>"))
    (plain,), (turned,) = texts(saved(sample())), texts(saved(document))
    assert turned.text == plain.text
    rightward, leftward = (block.table for page in (plain, turned) for block in page.blocks if block.table)
    for cell, other in zip(rightward.cells, leftward.cells, strict=True):
        assert (cell.row, cell.column, cell.text) == (other.row, other.column, other.text)
        left, right = other.polygon[0][0], other.polygon[1][0]
        assert np.allclose((left, right), [plain.width - x for x, _ in cell.polygon[1::-1]], atol=0.2)
        words = [turned.lines[line].words[word] for line, word in other.words]
        assert all(left <= x <= right for word in words for x, _ in word.polygon)


FIGURES = ["Description", "1,234,567.89", "Consequently", "Outstanding", "2026-11-26", "Responsibilities"]
URL = "https://example.org/" + "archive/2026/november/" * 4 + "a-long-name.html"


def test_tables_are_no_wider_than_anybody_makes_them() -> None:
    """Outputs have a place for each column in every row: a few bytes that claim millions would fill the memory."""
    document = docx.Document()
    document.add_table(1, 1)

    def with_row(row: str) -> bytes:
        whole = f"<w:tr>{row}</w:tr></w:tbl>".encode()
        return repacked(saved(document), lambda _, content: content.replace(b"</w:tbl>", whole))

    cell, many = "<w:tc>{}<w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc>", 'w:val="999999999"'
    spanned = cell.format(f"<w:tcPr><w:gridSpan {many}/></w:tcPr>")
    for row in (spanned, f"<w:trPr><w:gridBefore {many}/></w:trPr>{spanned}", cell.format("") * 256):
        (page,) = texts(with_row(row))
        assert page.blocks[0].table is not None
        assert page.blocks[0].table.columns == 256
    assert error(with_row(cell.format("") * 257)).found == "ValueError: a table of over 256 columns"


@pytest.mark.parametrize("columns", [6, 14, 40])
def test_words_too_wide_for_their_place_stay_whole(columns: int) -> None:
    """In columns however narrow, and in text; they stay in their place."""
    document = docx.Document()
    document.add_paragraph(f"See {URL} for more.")
    table = document.add_table(2, columns)
    for row in range(2):
        for column in range(columns):
            table.cell(row, column).text = FIGURES[(row + column) % len(FIGURES)]
    (page,) = texts(saved(document))
    assert [word.text for line in page.lines[:3] for word in line.words][:4] == ["See", URL, "for", "more."]
    found = page.blocks[-1].table
    assert found is not None
    assert len(found.cells) == 2 * columns
    for cell in found.cells:
        assert cell.text == FIGURES[(cell.row + cell.column) % len(FIGURES)]
        ((line, word),) = cell.words
        assert page.lines[line].words[word].text == cell.text
        x = [x for x, _ in page.lines[line].words[word].polygon]
        assert cell.polygon[0][0] <= min(x) < max(x) <= cell.polygon[1][0]


def test_text_of_scripts_without_spaces_goes_on_in_the_next_line() -> None:
    """And comes out of a cell without spaces."""
    text = "文書の文字を読み取る道具は速くて正しくなければならない" * 4
    document = docx.Document()
    document.add_paragraph(text)
    document.add_table(1, 3).cell(0, 0).text = f"{text} 完"
    (page,) = texts(saved(document))
    lines = [page.lines[line].text for line in page.blocks[0].lines]
    assert len(lines) > 1
    assert "".join(lines) == text
    table = page.blocks[1].table
    assert table is not None
    assert table.cells[0].text == f"{text} 完"
    assert len({line for line, _ in table.cells[0].words}) > 4


@pytest.mark.parametrize(
    ("widths", "shares"),
    [((6000, 2000), (0.75, 0.25)), ((9000, 0), (10 / 11, 1 / 11)), ((5000,), (0.5, 0.5)), ((-1, 0), (0.5, 0.5))],
    ids=["told", "nothing", "too few", "nonsense"],
)
def test_columns_are_as_wide_as_the_document_says(widths: tuple[int, ...], shares: tuple[float, float]) -> None:
    """None next to nothing; alike where it says nothing sensible."""
    document = docx.Document()
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "wide", "narrow"
    grid = table._tbl.tblGrid
    for column in list(grid):
        grid.remove(column)
    for width in widths:
        grid.append(parse_xml(f'<w:gridCol {nsdecls("w")} w:w="{width}"/>'))
    (page,) = texts(saved(document))
    found = page.blocks[-1].table
    assert found is not None
    sides = [cell.polygon[1][0] - cell.polygon[0][0] for cell in found.cells]
    assert [side / sum(sides) for side in sides] == pytest.approx(shares, abs=0.001)


def test_words_stand_on_the_page_and_not_on_each_other() -> None:
    """Also on small paper, in tables higher than it, and words wider than it."""
    document = sample()
    section = document.sections[0]
    section.page_width, section.page_height, section.left_margin, section.right_margin = Pt(250), Pt(180), Pt(9), Pt(9)
    document.add_paragraph("x" * 400)
    document.add_table(1, 2).cell(0, 1).text = LOREM
    pages = [sheet.text for sheet in opened(saved(document), limits=Limits(max_pages=500)) if sheet.text is not None]
    assert len(pages) > 5
    for page in pages:
        assert sorted(line for block in page.blocks for line in block.lines) == list(range(len(page.lines)))
        boxes = [line.polygon for line in page.lines]
        for box in boxes:
            assert all(0 <= x <= page.width and 0 <= y <= page.height for x, y in box)
        for line in page.lines:
            assert all(before.polygon[1][0] <= after.polygon[0][0] for before, after in pairwise(line.words))
        for i, (a, b) in enumerate((a, b) for k, a in enumerate(boxes) for b in boxes[:k]):
            apart = a[0][1] >= b[2][1] or b[0][1] >= a[2][1] or a[0][0] >= b[2][0] or b[0][0] >= a[2][0]
            assert apart, (i, a, b)
    words = Counter(word for page in pages for word in page.text.split())
    assert words["Lorem"] == 24
    assert words["x" * 400] == 1


def test_pages_are_parted_where_the_document_says_so() -> None:
    document = docx.Document()
    document.add_paragraph("one")
    document.add_page_break()
    document.add_paragraph("two")
    document.add_section(WD_SECTION.NEW_PAGE)
    document.add_paragraph("three")
    document.add_section(WD_SECTION.CONTINUOUS)
    document.add_paragraph("three still")
    assert [page.text for page in texts(saved(document))] == ["one", "two", "three\nthree still"]
    assert [(sheet.number, sheet.count) for sheet in opened(saved(document), "2-9")] == [(2, 2), (3, 2)]


def test_pictures_follow_the_page_they_stand_on() -> None:
    """Ornaments and broken ones left out."""
    document = docx.Document()
    document.add_paragraph("before")
    document.add_picture(png())
    document.add_picture(png((20, 20)))
    document.add_page_break()
    document.add_paragraph("after")
    data = saved(document)
    assert [sheet.image.shape if sheet.image is not None else "text" for sheet in opened(data)] == [
        "text",
        (200, 300, 3),
        "text",
    ]
    broken = repacked(data, lambda name, content: content[:40] if name.endswith("image1.png") else content)
    assert all(sheet.text is not None for sheet in opened(broken))


def test_pictures_in_headers_and_footers_are_read_once() -> None:
    """After the first page that shows them; those of headers that no page has are not."""
    document = docx.Document()
    section = document.sections[0]
    section.different_first_page_header_footer = True
    section.first_page_header.paragraphs[0].add_run().add_picture(png((300, 200)))
    section.header.paragraphs[0].add_run().add_picture(png((400, 200)))
    section.header.add_paragraph().add_run().add_picture(png((20, 20)))
    section.footer.paragraphs[0].add_run().add_picture(png((300, 200)))
    section.even_page_header.paragraphs[0].add_run().add_picture(png((500, 200)))
    document.add_paragraph("first")
    for text in ("second", "third"):
        document.add_page_break()
        document.add_paragraph(text)
    found = [sheet.text.text if sheet.text else np.shape(sheet.image)[1] for sheet in opened(saved(document))]
    assert found == ["first", 300, "second", 400, "third"]


def strict(data: bytes) -> bytes:
    """The document as Word saves one in the strict form of ISO 29500, lengths in points among it."""
    usual, form = (
        re.compile(rb'"http://schemas.openxmlformats.org/(?!package)(\w+)/2006/'),
        rb'"http://purl.oclc.org/ooxml/\1/',
    )
    lengths = re.compile(rb'(?<=w:)(w|h|left|right|top|bottom)="(\d+)"')

    def change(name: str, content: bytes) -> bytes:
        content = usual.sub(form, content)
        if name != "word/document.xml":
            return content
        return lengths.sub(lambda found: b'%s="%gpt"' % (found[1], int(found[2]) / 20), content)

    return repacked(data, change)


def test_the_strict_form_is_read_as_the_usual_one() -> None:
    document = sample()
    document.add_picture(png())
    document.tables[0].columns[0].width = Pt(200)
    usual, found = opened(saved(document)), opened(strict(saved(document)))
    assert [sheet.text for sheet in found] == [sheet.text for sheet in usual]
    assert len(found) == 2
    assert found[1].image is not None


def test_deleted_text_and_fields_are_not_shown() -> None:
    shown = b"<w:ins><w:r><w:t>added</w:t></w:r></w:ins><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
    shown += b"<w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:tab/><w:t>end</w:t><w:br/><w:t>next</w:t></w:r>"
    document = docx.Document()
    document.add_paragraph("kept")
    data = repacked(saved(document), lambda _, content: content.replace(b"<w:r><w:t>kept</w:t></w:r>", shown))
    (page,) = texts(data)
    assert page.text == "added end\nnext"


def runs(document: Document, xml: str) -> str:
    """What is read of a paragraph of these runs; `kept` stands before them."""
    document.add_paragraph("kept")
    old, new = b"<w:r><w:t>kept</w:t></w:r>", f"<w:r><w:t>kept </w:t></w:r>{xml}".encode()
    (page,) = texts(repacked(saved(document), lambda _, content: content.replace(old, new)))
    return page.text


def field(code: str, result: str | None) -> str:
    """As Word parts it; without a result for None."""
    begin, separate, end = (f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "separate", "end"))
    return f"{begin}{code}{'' if result is None else separate + result}{end}"


def test_of_fields_the_results_alone_are_shown() -> None:
    """Also of those in another's code, whose own result is then not shown."""
    code, said = "<w:r><w:instrText>IF</w:instrText></w:r>", "<w:r><w:t>{}</w:t></w:r>"
    inner = field(code, said.format("compared"))
    outer = field(code + inner + code, said.format("one ") + field(code, said.format("two ")))
    assert runs(docx.Document(), outer + field(inner, None) + said.format("end")) == "kept one two end"


def test_the_code_of_a_field_may_go_on_in_other_paragraphs() -> None:
    """One without an end takes no more than its own paragraph."""
    begin, separate, end = (f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "separate", "end"))
    apart = "</w:p><w:p>"
    said = "<w:r><w:t>{}</w:t></w:r>"
    code = begin + said.format("code") + apart + said.format("more code") + separate + said.format("result") + apart
    assert runs(docx.Document(), code + said.format("more") + end + said.format(" after")) == "kept\nresult\nmore after"
    assert runs(docx.Document(), begin + said.format("code") + apart + said.format("after")) == "kept\nafter"


def test_deleted_items_and_rows_count_for_nothing() -> None:
    document = docx.Document()
    for text in ("one", "gone", "two"):
        document.add_paragraph(text, style="List Number")
    table = document.add_table(3, 2)
    for place, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {place}"
    gone = "<w:r><w:t>gone</w:t></w:r>"
    deleted = gone.replace("<w:r>", "<w:del><w:r>").replace("w:t>", "w:delText>") + "</w:del>"

    def track(name: str, content: bytes) -> bytes:
        if name != "word/document.xml":
            return content
        before, after = content.decode().split(gone)
        before, _, properties = before.rpartition("</w:pPr>")
        before += f"<w:rPr><w:del/></w:rPr></w:pPr>{properties}{deleted}{after}"
        rows = before.split("<w:tr>")
        return "<w:tr>".join([*rows[:2], f"<w:trPr><w:del/></w:trPr>{rows[2]}", *rows[3:]]).encode()

    (page,) = texts(repacked(saved(document), track))
    assert [line.text for line in page.lines] == ["1. one", "2. two", "cell 0", "cell 1", "cell 4", "cell 5"]
    (cells,) = (block.table.cells for block in page.blocks if block.table)
    assert [cell.row for cell in cells] == [0, 0, 1, 1]


def test_boxes_to_be_ticked_are_seen() -> None:
    """Those of forms of old, which are fields without a result."""
    states = ("<w:checked/>", '<w:default w:val="1"/>', "", '<w:default/><w:checked w:val="0"/>')
    begin = '<w:fldChar w:fldCharType="begin"'
    written = ""
    for state, result in zip(states, (None, "", None, ""), strict=True):
        box = f"<w:ffData><w:checkBox><w:sizeAuto/>{state}</w:checkBox></w:ffData>"
        one = field("<w:r><w:instrText>FORMCHECKBOX</w:instrText></w:r>", result)
        written += one.replace(f"{begin}/>", f"{begin}>{box}</w:fldChar>")
    assert runs(docx.Document(), written) == "kept ☒☒☐☐"


@pytest.mark.parametrize(
    ("state", "shown"),
    [('<w:result w:val="2"/>', "three"), ('<w:default w:val="1"/>', "two"), ("", "one"), ('<w:result w:val="9"/>', "")],
)
def test_what_is_chosen_of_a_list_is_seen(state: str, shown: str) -> None:
    """In forms of old, in which it is no result either."""
    entries = "".join(f'<w:listEntry w:val="{entry}"/>' for entry in ("one", "two", "three"))
    one = field("<w:r><w:instrText>FORMDROPDOWN</w:instrText></w:r>", None)
    begin, choice = '<w:fldChar w:fldCharType="begin"', f"<w:ffData><w:ddList>{state}{entries}</w:ddList></w:ffData>"
    assert runs(docx.Document(), one.replace(f"{begin}/>", f"{begin}>{choice}</w:fldChar>")) == f"kept {shown}".strip()


def test_how_signs_are_said_comes_after_them() -> None:
    ruby = "<w:r><w:ruby><w:rt>{}</w:rt><w:rubyBase><w:r><w:t>{}</w:t></w:r></w:rubyBase></w:ruby></w:r>"
    above = "<w:r><w:t>かんじ</w:t></w:r>"
    assert runs(docx.Document(), ruby.format(above, "漢字") + ruby.format("", "字")) == "kept 漢字(かんじ)字"


def test_hidden_text_is_not_shown() -> None:
    """By itself, or by its style; what a style hides may be taken back. Nor what is in it."""
    hidden = "<w:r><w:rPr>{}</w:rPr><w:t>{} </w:t>{}</w:r>"
    document = docx.Document()
    document.styles.add_style("Secret", WD_STYLE_TYPE.CHARACTER).font.hidden = True
    document.styles.add_style("Deeper", WD_STYLE_TYPE.CHARACTER).base_style = document.styles["Secret"]
    document.styles.add_style("Aside", WD_STYLE_TYPE.PARAGRAPH).font.hidden = True
    document.add_paragraph("nothing of this", style="Aside")
    document.add_paragraph("", style="Aside").add_run("but this").font.hidden = False
    box = "<w:pict><w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent></w:pict>"
    written = hidden.format("<w:vanish/>", "gone", box) + hidden.format('<w:rStyle w:val="Secret"/>', "gone", "")
    written += hidden.format('<w:rStyle w:val="Deeper"/>', "gone", "")
    written += hidden.format('<w:rStyle w:val="Secret"/><w:vanish w:val="0"/>', "back", "")
    written += hidden.format("<w:webHidden/>", "shown", "")
    assert runs(document, written) == "but this\nkept back shown"


def test_notes_that_hidden_text_refers_to_are_left_out() -> None:
    document = docx.Document()
    run = document.add_paragraph("Seen{f2}").add_run("Hidden{f1}")
    run.font.hidden = True
    data = noted(document, {1: "not this", 2: "this"}, {})
    mark = b'<w:r><w:footnoteReference w:id="1"/>'
    hidden = mark.replace(b"<w:r>", b"<w:r><w:rPr><w:vanish/></w:rPr>")
    (page,) = texts(repacked(data, lambda _, content: content.replace(mark, hidden)))
    assert page.text == "Seen [1]\n[1] this"


def listed(numbering: str, *items: str) -> list[str]:
    """Lines of paragraphs `list:level text`, whose lists are defined so."""
    document = docx.Document()
    element = document.part.numbering_part.element
    element.clear()
    for definition in parse_xml(f"<w:numbering {nsdecls('w')}>{numbering}</w:numbering>"):
        element.append(definition)
    for item in items:
        place, _, text = item.partition(" ")
        name, _, level = place.partition(":")
        paragraph = document.add_paragraph(text)
        properties = (
            f'<w:pPr {nsdecls("w")}><w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{name}"/></w:numPr></w:pPr>'
        )
        paragraph._element.insert(0, parse_xml(properties))
    (page,) = texts(saved(document))
    return [line.text for line in page.lines]


LEVEL = '<w:lvl w:ilvl="{}"><w:start w:val="{}"/><w:numFmt w:val="{}"/><w:lvlText w:val="{}"/></w:lvl>'
DEFINITION = (
    '<w:abstractNum w:abstractNumId="0">'
    f"{LEVEL.format(0, 1, 'decimal', '%1.')}{LEVEL.format(1, 2, 'lowerLetter', '%1%2)')}</w:abstractNum>"
)
LIST = '<w:num w:numId="{}"><w:abstractNumId w:val="0"/>{}</w:num>'


def test_lists_of_one_definition_go_on_counting() -> None:
    numbering = DEFINITION + LIST.format(1, "") + LIST.format(2, "")
    items = ["1:0 one", "1:1 deeper", "2:1 deeper", "2:0 two", "1:1 anew", "1:2 none", "3:0 none"]
    lines = ["1. one", "1b) deeper", "1c) deeper", "2. two", "2b) anew", "none", "none"]
    assert listed(numbering, *items) == lines


def test_lists_begin_where_they_say() -> None:
    """Once; and they may number in their own way."""
    five = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>'
    roman = f'<w:lvlOverride w:ilvl="0">{LEVEL.format(0, 1, "upperRoman", "(%1)")}</w:lvlOverride>'
    one = five.replace('"5"', '"1"')
    numbering = DEFINITION + LIST.format(1, "") + LIST.format(2, five) + LIST.format(3, roman) + LIST.format(4, one)
    items = ["1:0 a", "2:0 b", "2:0 c", "1:0 d", "2:0 e", "3:0 f", "4:0 g", "4:0 h"]
    assert listed(numbering, *items) == ["1. a", "5. b", "6. c", "7. d", "8. e", "(IX) f", "1. g", "2. h"]


def test_lists_of_styles_hold_for_those_based_on_them() -> None:
    document = docx.Document()
    document.styles.add_style("Step", WD_STYLE_TYPE.PARAGRAPH).base_style = document.styles["List Number"]
    document.add_paragraph("first", style="List Number")
    document.add_paragraph("second", style="Step")
    (page,) = texts(saved(document))
    assert page.text == "1. first\n2. second"


@pytest.mark.parametrize("written", ["1133.8582677165355", "56.692913pt", "20mm", "2cm"])
def test_lengths_may_have_fractions_and_units(written: str) -> None:
    """Programs other than Word write them, as Word takes them."""
    document = docx.Document()
    document.add_paragraph("kept")
    change = re.compile(rb'w:left="\d+"')
    data = repacked(saved(document), lambda _, content: change.sub(f'w:left="{written}"'.encode(), content))
    (page,) = texts(data)
    assert page.lines[0].polygon[0][0] == pytest.approx(20 / 25.4 * LIMITS.pdf_dpi, abs=0.1)


@pytest.mark.parametrize("target", ["../NULL", "NULL", "#_ftn1", "media/lost.png"])
def test_links_to_what_is_not_there_are_passed_over(target: str) -> None:
    document = sample()
    document.add_picture(png())
    kind = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/image"
    link = b'<!-- remark --><Relationship Id="rId99" Type="%s" Target="%s"/></Relationships>' % (kind, target.encode())

    def linked(name: str, content: bytes) -> bytes:
        return content.replace(b"</Relationships>", link) if name == "word/_rels/document.xml.rels" else content

    whole, *pictures = opened(repacked(saved(document), linked))
    assert whole.text == opened(saved(document))[0].text
    assert len(pictures) == 1


def test_letters_in_a_font_of_signs_are_signs() -> None:
    run = '<w:r><w:rPr><w:rFonts w:ascii="{}"/></w:rPr><w:t xml:space="preserve">{}</w:t></w:r>'
    written = run.format("Symbol", "a \uf062\u4e2d") + run.format("Wingdings", "\uf0fe") + run.format("Arial", "a")
    assert runs(docx.Document(), written) == "kept α β中☑a"


def test_fractions_have_a_stroke() -> None:
    """But for those that are drawn without."""
    fraction = (
        "<m:f><m:fPr>{}</m:fPr><m:num><m:r><m:t>1</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>"
    )
    written = (
        fraction.format("") + fraction.format('<m:type m:val="noBar"/>') + fraction.format('<m:type m:val="lin"/>')
    )
    assert runs(docx.Document(), f"<m:oMath {nsdecls('m')}>{written}</m:oMath>") == "kept 1/2121/2"


def test_signs_are_characters() -> None:
    """Of fonts of signs; what none is known for is a bullet."""
    signs = "Symbol:F0B0 Symbol:F0B1 Symbol:F06D Symbol:F0A3 Symbol:53 Symbol:F0B7 Symbol:F07F Wingdings:F0FE "
    signs += "Wingdings:F0A8 Wingdings:F021 Arial:00B0 Webdings:F030 Symbol:none"
    pairs = [sign.split(":") for sign in signs.split()]
    written = "".join(f'<w:r><w:sym w:font="{font}" w:char="{code}"/></w:r>' for font, code in pairs)
    assert runs(docx.Document(), written) == "kept °±μ≤Σ••☑☐•°••"


def test_limits_hold_for_pages() -> None:
    document = docx.Document()
    for _ in range(6):
        document.add_paragraph("text")
        document.add_page_break()
    with pytest.raises(UnreadableDocument) as caught:
        opened(saved(document), limits=Limits(max_pages=3))
    assert caught.value.http_status == 413
    assert len(opened(saved(document), "2-4", Limits(max_pages=3))) == 3


def cost(data: bytes, pages: str | None = None) -> float:
    """The least CPU seconds of two times that it takes to open a document."""
    took = []
    for _ in range(2):
        begun = time.process_time()
        opened(data, pages, Limits(max_pages=1000))
        took.append(time.process_time() - begun)
    return min(took)


def test_sections_cost_alike_however_many_there_are() -> None:
    """Such as the letters that Word merges into one document."""
    section = b"<w:p><w:pPr><w:sectPr/></w:pPr><w:r><w:t>letter</w:t></w:r></w:p>"

    def merged(letters: int) -> bytes:
        more = section * letters + b"<w:sectPr"
        return repacked(saved(docx.Document()), lambda _, content: content.replace(b"<w:sectPr", more, 1))

    assert len(opened(merged(100), limits=Limits(max_pages=1000))) == 101
    assert cost(merged(600)) < 12 * cost(merged(100))


def test_pages_that_nobody_wants_after_others_are_not_set() -> None:
    document = docx.Document()
    for _ in range(60):
        document.add_paragraph(LOREM)
        document.add_page_break()
    data = saved(document)
    assert len(opened(data, limits=Limits(max_pages=1000))) == 60
    assert [(sheet.number, sheet.count) for sheet in opened(data, "1,3")] == [(1, 2), (3, 2)]
    assert cost(data, "1") < 0.8 * cost(data)


def test_bombs_are_refused_before_they_go_off() -> None:
    """By what they declare, and by what they turn out to be."""
    data = saved(docx.Document())
    large = repacked(data, lambda _, content: content, **{"word/media/image1.png": bytes(200 * 2**20)})
    assert error(large).http_status == 413
    xml = repacked(data, lambda _, content: content, **{"word/more.xml": b" " * (60 * 2**20)})
    assert error(xml).http_status == 413
    many = repacked(data, lambda _, content: content, **{f"p{i}": b"" for i in range(5000)})
    assert error(many).http_status == 413
    lying = bytearray(repacked(data, lambda _, content: content, **{"word/media/a.bin": bytes(30 * 2**20)}))
    for sign, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = lying.rindex(sign)
        lying[start + place : start + place + 4] = struct.pack("<I", 1000)
    assert error(bytes(lying)).http_status == 422


@pytest.mark.parametrize("code", ["utf-8", "utf-16"])
def test_entities_are_never_expanded(code: str) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">]>'

    def armed(name: str, content: bytes) -> bytes:
        if name != "word/document.xml":
            return content
        head, _, rest = content.decode().partition("?>")
        return f"{head.replace('UTF-8', code)}?>{bomb}{rest}".encode(code)

    assert "document type" in error(repacked(saved(docx.Document()), armed)).found


def test_names_of_parts_are_told_on_one_line_that_no_terminal_obeys() -> None:
    name = "word/\x1b[2J\x9b2J\nocr-ops: all well\u2028.xml"
    found = error(repacked(saved(docx.Document()), lambda _, content: content, **{name: b"<!DOCTYPE x>"})).found
    assert found == "word/\ufffd[2J\ufffd2J\ufffdocr-ops: all well\ufffd.xml with a document type of its own"


def test_what_is_no_word_document_is_named() -> None:
    data = saved(docx.Document())

    def typed(new: bytes) -> bytes:
        old = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
        return repacked(data, lambda _, content: content.replace(old, new))

    macro = typed(b"application/vnd.ms-word.document.macroEnabled.main+xml")
    found = {
        "macros": macro,
        "spreadsheet": typed(b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"),
        "without a Word": repacked(data, lambda name, content: None if name.startswith("[") else content),
        "old Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000),
    }
    for text, document in found.items():
        assert error(document).http_status == 415
        assert text in error(document).found
    locked = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")
    assert "password" in error(locked).found
    assert "without its password" in error(locked).remedy
    assert error(data[: len(data) // 2]).http_status == 422
    twice = io.BytesIO(data)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(twice, "a") as package:
        package.writestr("word/document.xml", b"<other/>")
    assert "two parts" in error(twice.getvalue()).found


def plain(document: Document) -> Counter[str]:
    """The words of paragraphs and tables."""
    words: Counter[str] = Counter()
    left = [*document.iter_inner_content()]
    while left:
        item = left.pop()
        if isinstance(item, Table):
            cells = {cell._tc: cell for row in item.rows for cell in row.cells}
            left += [inner for cell in cells.values() for inner in cell.iter_inner_content()]
        else:
            words.update(item.text.split())
    return words


@pytest.mark.shared_data
def test_real_documents_lose_no_word(shared_data: Path) -> None:
    """One refers to a picture elsewhere, which is not fetched."""
    files = sorted((shared_data / "docx").rglob("*.docx"))
    assert len(files) == 30
    missed, total = 0, 0
    for file in files:
        truth = plain(docx.Document(str(file)))
        found = Counter(word for page in texts(file.read_bytes()) for word in page.text.split())
        missed, total = missed + (truth - found).total(), total + truth.total()
    assert missed <= 0.001 * total
