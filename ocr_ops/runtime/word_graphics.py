"""What is written in the charts and diagrams (SmartArt) of a Word document, which parts of their own hold."""

from collections.abc import Iterator
from typing import Any

from docx.opc.part import Part
from docx.oxml import parse_xml
from docx.oxml.ns import qn

_CHARTS = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DIAGRAMS = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_LINKS = {f"{_CHARTS}chart": qn("r:id"), f"{_DIAGRAMS}relIds": qn("r:dm")}
"""Elements that stand for one, and the link each has to what it shows."""
GRAPHICS = tuple(_LINKS)


def graphic_texts(graphic: Any, part: Part) -> Iterator[str]:
    """The texts of a chart or diagram that is in the document, which `graphic`, one of `GRAPHICS`, stands for."""
    link = part.rels.get(graphic.get(_LINKS[graphic.tag], ""))
    if link is None or link.is_external:
        return
    try:
        shown = parse_xml(link.target_part.blob)
    except SyntaxError:
        return  # a broken one is no reason to refuse the text around it
    texts = _chart_texts(shown) if graphic.tag.startswith(_CHARTS) else _paragraphs(shown)
    yield from filter(None, map(str.strip, texts))


def _chart_texts(chart: Any) -> Iterator[str]:
    """Titles, then what its series are called, then what is along its axis, each on a line."""
    for title in chart.iter(f"{_CHARTS}title"):
        yield " ".join(_paragraphs(title))
    series = list(chart.iter(f"{_CHARTS}ser"))
    for kind in ("tx", "cat"):
        rows = (" ".join(value.text or "" for value in one.iterfind(f"{_CHARTS}{kind}//{_CHARTS}v")) for one in series)
        yield from dict.fromkeys(rows)


def _paragraphs(element: Any) -> Iterator[str]:
    for paragraph in element.iter(qn("a:p")):
        yield "".join(text.text or "" for text in paragraph.iter(qn("a:t")))
