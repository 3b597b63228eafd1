import base64
import re
from itertools import product

import docx
import pytest
from docx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls, qn
from hypothesis import example, given
from hypothesis import strategies as st

from ocr_ops.core.reading import Page, Table
from ocr_ops.runtime.word_chunks import chunk_items
from ocr_ops.runtime.word_items import Grid, Picture, Text
from tests.hostile import listening, word_bomb
from tests.runtime.test_word import error, noted, opened, png, sample, saved, texts

HTML = "text/html"


def chunk(data: bytes, kind: str = HTML, suffix: str = "html") -> bytes:
    """A Word document with a part of this type set into it, between two paragraphs."""
    document = docx.Document()
    document.add_paragraph("before")
    part = Part(PackURI(f"/word/afchunk.{suffix}"), kind, data, document.part.package)
    link = document.part.relate_to(part, RELATIONSHIP_TYPE.A_F_CHUNK)
    element = parse_xml(f"<w:altChunk {nsdecls('w', 'r')}/>")
    element.set(qn("r:id"), link)
    document.element.body.insert(1, element)
    document.add_paragraph("after")
    return saved(document)


def lines(page: Page) -> list[str]:
    found = [line.text for line in page.lines]
    assert found[0] == "before"
    assert found[-1] == "after"
    return found[1:-1]


def table(page: Page) -> Table:
    (found,) = (block.table for block in page.blocks if block.table)
    return found


WEB = """<!DOCTYPE html><html><head><title>not shown</title><style>p { color: red }</style></head><body>
<h1>Report</h1>loose <b>bold</b>ly<p>One  paragraph
of two lines<br>and a third &amp; &eacute;<p>another<script>alert("no")</script>
<span style="DISPLAY : none">hidden <span>too</span></span>
<ol start=4><li>four<li>five<ul><li>point</ul><li><p>six</p></ol>
<pre>as
  written</pre><!-- remark --><![if !supportLists]>end</body></html>"""


def test_web_pages_are_read_as_they_are_shown() -> None:
    (page,) = texts(chunk(WEB.encode()))
    assert lines(page) == [
        "Report", "loose boldly", "One paragraph of two lines", "and a third & é", "another", "4. four", "5. five",
        "• point", "6. six", "as", "written", "end",
    ]  # fmt: skip
    assert [page.lines[line].text for block in page.blocks if block.kind == "heading" for line in block.lines] == [
        "Report"
    ]


def test_tables_of_web_pages_have_cells() -> None:
    """Also where ends are left out; a table within a cell is its text."""
    inner = "<table><tr><td>in</td><td>side</td></tr></table>"
    web = f"<table><tr><th rowspan=9>a<td colspan=2>b<tr><td>c<td>{inner} d</table>"
    (page,) = texts(chunk(web.encode()))
    found = table(page)
    assert (found.rows, found.columns) == (2, 3)
    assert [(cell.row, cell.column, cell.row_span, cell.column_span, cell.text) for cell in found.cells] == [
        (0, 0, 2, 1, "a"),
        (0, 1, 1, 2, "b"),
        (1, 1, 1, 1, "c"),
        (1, 2, 1, 1, "in side d"),
    ]


def test_tables_of_web_pages_are_no_wider_than_others() -> None:
    (page,) = texts(chunk(b"<table><tr><td colspan=999999 rowspan=999999>a</table>"))
    assert (table(page).rows, table(page).columns) == (1, 256)
    wide = b"<table><tr>" + b"<td>a" * 257 + b"</table>"
    assert error(chunk(wide)).found == "ValueError: a table of over 256 columns"


PICTURE = png((300, 200)).getvalue()
MAIL = b"""MIME-Version: 1.0
Content-Type: multipart/related; type="text/html"; boundary="parted"

--parted
Content-Type: text/html; charset="windows-1250"
Content-Transfer-Encoding: quoted-printable

<p>=9Aest z=E1znam=F9<img src=3D"picture.png"><img src=3D"cid:two"><img src=3D"lost.png">

--parted
Content-Location: picture.png
Content-Type: image/png
Content-Transfer-Encoding: base64

%b
--parted
Content-ID: <two>
Content-Type: image/png
Content-Transfer-Encoding: base64

%b
--parted--
""" % (base64.encodebytes(PICTURE), base64.encodebytes(png((400, 200)).getvalue()))


def test_web_pages_may_have_their_pictures_with_them() -> None:
    page, *pictures = opened(chunk(MAIL, "message/rfc822", "mht"))
    assert page.text is not None
    assert lines(page.text) == ["šest záznamů"]
    assert [picture.image.shape for picture in pictures if picture.image is not None] == [(200, 300, 3), (200, 400, 3)]
    web = f'<img src="data:image/png;base64,{base64.b64encode(PICTURE).decode()}"><img src="data:image/png;base64,Ä">'
    assert len(opened(chunk(web.encode()))) == 2


@pytest.mark.parametrize(
    "data",
    [
        "Grüße\nΩ".encode(),
        "Grüße\nΩ".encode("utf-8-sig"),
        "Grüße\nΩ".encode("utf-16"),
        "Grüße\n\n€".encode("cp1252"),
    ],
    ids=["utf-8", "marked", "utf-16", "windows"],
)
def test_plain_text_is_read_line_by_line(data: bytes) -> None:
    (page,) = texts(chunk(data, "text/plain", "txt"))
    assert lines(page) in (["Grüße", "Ω"], ["Grüße", "€"])


@pytest.mark.parametrize(
    "web",
    [
        '<?xml version="1.0" encoding="iso-8859-2"?><html><p>š</p></html>',
        '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-2"><p>š',
        "<meta charset=ISO-8859-2><p>š",
    ],
)
def test_web_pages_say_how_they_are_written(web: str) -> None:
    (page,) = texts(chunk(web.encode("iso-8859-2"), "application/xhtml+xml"))
    assert lines(page) == ["š"]


def test_documents_are_set_into_others() -> None:
    """With their lists, tables and notes; those within them are not, or one that holds itself would have no end."""
    inner = sample()
    inner.add_section()
    inner.add_paragraph("on its last page{e1}")
    data = chunk(noted(inner, {}, {1: "the end"}), CONTENT_TYPE.WML_DOCUMENT_MAIN, "docx")
    pages = texts(data)
    said = "\n".join(page.text for page in pages)
    assert said.startswith("before\nAnnual report\nLorem ipsum")
    assert re.search(r"1\. first\n2\. second\n• point\non its last page \[i\]\nafter\n\[i\] the end$", said)
    assert "Confidential" not in said
    assert table(pages[0]).rows == 3
    (page,) = texts(chunk(data, CONTENT_TYPE.WML_DOCUMENT_MAIN, "docx"))
    assert lines(page) == ["before", "after"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PK\x03\x04", CONTENT_TYPE.WML_DOCUMENT_MAIN),
        (b"{\\rtf1 text}", "application/rtf"),
        (b"", HTML),
        (b"<![x]>", HTML),
        (b"no letter", "message/rfc822"),
    ],
)
def test_what_is_not_read_is_no_reason_to_refuse_the_text_around_it(data: bytes, kind: str) -> None:
    (page,) = texts(chunk(data, kind, "bin"))
    assert lines(page) == []


def test_bombs_within_are_refused() -> None:
    assert error(chunk(word_bomb(), CONTENT_TYPE.WML_DOCUMENT_MAIN, "docx")).http_status == 413


def test_web_pages_fetch_nothing() -> None:
    with listening() as (address, questions):
        web = f'<base href="{address}"><link rel=stylesheet href="/c"><img src="{address}/i"><p>text<iframe src="/f">'
        assert len(opened(chunk(web.encode()))) == 1
        assert len(opened(chunk(f'<object data="{address}"></object>'.encode(), "application/xhtml+xml"))) == 1
    assert not questions


TAGS = ["table", "tr", "td rowspan=3", "td colspan=2", "li", "ol", "ul", "p", "pre", "h2", "b", "br", "img src=x"]
MARKUP = st.lists(
    st.sampled_from([f"<{tag}>" for tag in TAGS] + [f"</{tag.split()[0]}>" for tag in TAGS])
    | st.sampled_from(["<!--", "-->", "<![", "<!", "<?", "&", "&#x", "</", "<script>", "'", '"'])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    max_size=40,
).map("".join)


@given(MARKUP)
@example("<table><tr><td rowspan=2><td><tr><td colspan=3>x")
def test_whatever_is_written_cells_stand_beside_each_other(web: str) -> None:
    for item in chunk_items(web.encode(), HTML):
        if isinstance(item, Text):
            assert item.text.strip()
        elif isinstance(item, Grid):
            places = [
                place
                for cell in item.cells
                for place in product(
                    range(cell.row, cell.row + cell.row_span), range(cell.column, cell.column + cell.column_span)
                )
            ]
            assert len(places) == len(set(places))
            assert all(column < item.columns for _, column in places)
        else:
            assert isinstance(item, Picture)


@given(st.binary(max_size=300), st.sampled_from([HTML, "text/plain", "message/rfc822", "multipart/related"]))
@example(
    b"Content-Type: multipart/related; boundary=a\n\n--a\nContent-Type: text/html; charset=none\n\n<p>x",
    "message/rfc822",
)
def test_any_bytes_are_some_text(data: bytes, kind: str) -> None:
    assert all(isinstance(item, Text | Grid | Picture) for item in chunk_items(data, kind))
