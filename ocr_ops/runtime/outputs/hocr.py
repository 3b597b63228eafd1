"""hOCR 1.2: XHTML whose classes and titles say what is where."""

import math
from xml.etree import ElementTree as ET

from ocr_ops import __version__
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Line, Page, Polygon, Reading
from ocr_ops.runtime.outputs.blocks import Box, blocks, box, clean, lines, numbered, words

_DOCTYPE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"'
    b' "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
)
_CLASSES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word"


def hocr(reading: Reading, name: str, options: ReadOptions) -> bytes:
    """Blocks are areas of one paragraph each. Boxes are upright; lines tell their slope."""
    language = {} if options.language is None else {"lang": options.language}
    spoken = {} if options.language is None else {"xml:lang": options.language}
    html = ET.Element("html", {"xmlns": "http://www.w3.org/1999/xhtml", **language, **spoken})
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "title").text = clean(name)
    ET.SubElement(head, "meta", {"http-equiv": "Content-Type", "content": "text/html; charset=utf-8"})
    told = {
        "ocr-system": f"ocr_ops {__version__}",
        "ocr-capabilities": _CLASSES + (" ocrp_lang" if language else ""),
        "ocr-number-of-pages": str(len(reading.pages)),
        "ocr-langs": options.language or "unknown",
    }
    for key, content in told.items():
        ET.SubElement(head, "meta", {"name": key, "content": content})
    body = ET.SubElement(html, "body")
    for number, page in numbered(reading, options):
        _page(body, page, number, name, language)
    # To what reads it as HTML, `<div/>` is the start of one, and `</meta>` the end of nothing.
    data = bytes(ET.tostring(html, encoding="utf-8", short_empty_elements=False))
    return _DOCTYPE + data.replace(b"></meta>", b" />") + b"\n"


def _page(body: ET.Element, page: Page, number: int, name: str, language: dict[str, str]) -> None:
    image = clean(name).replace('"', "'")
    title = f'image "{image}"; {_bbox(Box(0, 0, page.width, page.height))}; ppageno {number - 1}'
    sheet = _part(body, "div", "ocr_page", f"page_{number}", title)
    for i, block in enumerate(blocks(page), 1):
        place = f"{number}_{i}"
        area = _part(sheet, "div", "ocr_carea", f"block_{place}", _bbox(box(block.polygon)))
        paragraph = _part(area, "p", "ocr_par", f"par_{place}", _bbox(box(block.polygon)))
        paragraph.attrib.update(language)
        for j, line in enumerate(lines(page, block), 1):
            _line(paragraph, line, f"{place}_{j}")


def _line(paragraph: ET.Element, line: Line, place: str) -> None:
    title = f"{_bbox(box(line.polygon))}{_slope(line.polygon)}"
    row = _part(paragraph, "span", "ocr_line", f"line_{place}", title)
    for k, word in enumerate(words(line), 1):
        title = f"{_bbox(box(word.polygon))}; x_wconf {100 * word.confidence:.0f}"
        piece = _part(row, "span", "ocrx_word", f"word_{place}_{k}", title)
        piece.text = clean(word.text)
        piece.tail = " "
    row.tail = "\n"


def _part(parent: ET.Element, tag: str, kind: str, name: str, title: str) -> ET.Element:
    part = ET.SubElement(parent, tag, {"class": kind, "id": name, "title": title})
    part.tail = "\n"
    return part


def _bbox(extent: Box) -> str:
    return "bbox " + " ".join(map(str, _whole(extent)))


def _whole(extent: Box) -> tuple[int, ...]:
    """In whole pixels, and nothing left of the page or above it: hOCR has no sign there, and readers drop what has."""
    return tuple(max(0, round(side)) for side in extent)


def _slope(polygon: Polygon) -> str:
    """The baseline of text that runs along the page, relative to its box's lower left corner; else its angle."""
    if len(polygon) != 4:
        return ""
    (x0, y0), (x1, y1) = polygon[3], polygon[2]
    angle = math.degrees(math.atan2(y0 - y1, x1 - x0))
    if abs(angle) > 45:
        return f"; textangle {angle % 360:.1f}"
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    left, _, _, bottom = _whole(box(polygon))
    return f"; baseline {slope:.4f} {round(y0 + slope * (left - x0) - bottom)}"
