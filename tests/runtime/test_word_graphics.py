import docx
import pytest
from docx.document import Document
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls

from tests.runtime.test_word import saved, texts

DRAWING = "http://schemas.openxmlformats.org/drawingml/2006"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SPACES = f'xmlns:a="{DRAWING}/main" xmlns:c="{DRAWING}/chart" xmlns:dgm="{DRAWING}/diagram"'


def said(text: str) -> str:
    return f"<a:p><a:r><a:t>{text[:2]}</a:t></a:r><a:r><a:t>{text[2:]}</a:t></a:r></a:p>"


def drawn(document: Document, kind: str, content: str, element: str, *, there: bool = True) -> None:
    """A drawing at the end of the document that shows a part of this kind."""
    part = Part(PackURI(f"/word/{kind}1.xml"), "application/xml", content.encode(), document.part.package)
    link = document.part.relate_to(part if there else "file:///a", f"{RELATIONS}/{kind}", is_external=not there)
    run = f"<w:r {nsdecls('w', 'r')} {SPACES}><w:drawing>{element.format(link)}</w:drawing></w:r>"
    document.add_paragraph()._p.append(parse_xml(run))


def series(name: str) -> str:
    places = "".join(f"<c:pt><c:v>{place}</c:v></c:pt>" for place in ("North", "South"))
    named = (
        f"<c:tx><c:strRef><c:f>Sheet1!A1</c:f><c:strCache><c:pt><c:v>{name}</c:v></c:pt></c:strCache></c:strRef></c:tx>"
    )
    values = "<c:val><c:numRef><c:numCache><c:pt><c:v>4.3</c:v></c:pt></c:numCache></c:numRef></c:val>"
    return f"<c:ser>{named}<c:cat><c:strRef><c:strCache>{places}</c:strCache></c:strRef></c:cat>{values}</c:ser>"


CHART = (
    f"<c:chartSpace {SPACES}><c:chart><c:title><c:tx><c:rich>{said('Sales of a year')}</c:rich></c:tx></c:title>"
    f"<c:barChart>{series('2025')}{series('2026')}</c:barChart>"
    f"<c:valAx><c:title><c:tx><c:rich>{said('Millions')}</c:rich></c:tx></c:title></c:valAx></c:chart></c:chartSpace>"
)
POINTS = "".join(f"<dgm:pt><dgm:t>{said(text)}</dgm:t></dgm:pt>" for text in ("Plan it", "Do it")) + "<dgm:pt/>"
DIAGRAM = f"<dgm:dataModel {SPACES}><dgm:ptLst>{POINTS}</dgm:ptLst></dgm:dataModel>"


def test_what_charts_and_diagrams_say_is_read_where_they_stand() -> None:
    """Titles, series and what they are of; of diagrams a line for each shape."""
    document = docx.Document()
    document.add_paragraph("before")
    drawn(document, "chart", CHART, '<c:chart r:id="{}"/>')
    document.add_paragraph("between")
    drawn(document, "diagramData", DIAGRAM, '<dgm:relIds r:dm="{}"/>')
    document.add_paragraph("after")
    (page,) = texts(saved(document))
    assert [line.text for line in page.lines] == [
        "before", "Sales of a year", "Millions", "2025", "2026", "North South", "between", "Plan it", "Do it", "after",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "link", "there"),
    [(CHART, "no{}", True), (CHART, "{}", False), (f"<c:chartSpace {SPACES}/>", "{}", True), (CHART[:-9], "{}", True)],
    ids=["no link", "elsewhere", "empty", "broken"],
)
def test_without_what_they_say_the_text_around_them_is_read(content: str, link: str, *, there: bool) -> None:
    document = docx.Document()
    document.add_paragraph("kept")
    drawn(document, "chart", content, f'<c:chart r:id="{link}"/>', there=there)
    (page,) = texts(saved(document))
    assert page.text == "kept"
