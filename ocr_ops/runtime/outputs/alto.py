"""ALTO XML 4.4, as libraries and archives keep it: pixels, shapes, and confidence of every word."""

from xml.etree import ElementTree as ET

from ocr_ops import __version__
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Block, Line, Page, Polygon, Reading
from ocr_ops.runtime.outputs.blocks import Box, blocks, box, clean, lines, numbered, words

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "https://www.loc.gov/standards/alto/v4/alto-4-4.xsd"
_HEADING = "heading"


def alto(reading: Reading, name: str, options: ReadOptions) -> bytes:
    """Headings are tagged; a table is a composed block of its cells' lines."""
    root = ET.Element(
        "alto",
        {"xmlns": NAMESPACE, "xmlns:xsi": _XSI, "xsi:schemaLocation": f"{NAMESPACE} {_SCHEMA}", "SCHEMAVERSION": "4.4"},
    )
    _description(root, name)
    if any(block.kind == "heading" for page in reading.pages for block in page.blocks):
        ET.SubElement(ET.SubElement(root, "Tags"), "StructureTag", {"ID": _HEADING, "LABEL": _HEADING})
    layout = ET.SubElement(root, "Layout")
    language = {} if options.language is None else {"LANG": options.language}
    for number, page in numbered(reading, options):
        _page(layout, page, number, language)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _description(root: ET.Element, name: str) -> None:
    description = ET.SubElement(root, "Description")
    ET.SubElement(description, "MeasurementUnit").text = "pixel"
    ET.SubElement(ET.SubElement(description, "sourceImageInformation"), "fileName").text = clean(name)
    step = ET.SubElement(description, "Processing", {"ID": "ocr"})
    ET.SubElement(step, "processingCategory").text = "contentGeneration"
    software = ET.SubElement(step, "processingSoftware")
    ET.SubElement(software, "softwareName").text = "ocr_ops"
    ET.SubElement(software, "softwareVersion").text = __version__


def _page(layout: ET.Element, page: Page, number: int, language: dict[str, str]) -> None:
    size = {"WIDTH": str(page.width), "HEIGHT": str(page.height)}
    # ROTATION counts against the clock, a page's orientation with it.
    turned = {"ROTATION": str(360 - page.orientation)} if page.orientation else {}
    place = {"ID": f"page_{number}", "PHYSICAL_IMG_NR": str(number)}
    sheet = ET.SubElement(layout, "Page", place | size | turned | language)
    space = ET.SubElement(sheet, "PrintSpace", {"HPOS": "0", "VPOS": "0"} | size)
    for i, block in enumerate(blocks(page), 1):
        _block(space, page, block, f"{number}_{i}")


def _block(space: ET.Element, page: Page, block: Block, name: str) -> None:
    parent = space
    if block.kind == "table":
        parent = _placed(space, "ComposedBlock", f"table_{name}", block.polygon, {"TYPE": "table"})
    tags = {"TAGREFS": _HEADING} if block.kind == "heading" else {}
    part = _placed(parent, "TextBlock", f"block_{name}", block.polygon, tags)
    for j, line in enumerate(lines(page, block), 1):
        _line(part, line, f"{name}_{j}")


def _line(part: ET.Element, line: Line, name: str) -> None:
    baseline = {"BASELINE": _points(line.polygon[:1:-1])} if len(line.polygon) == 4 else {}
    row = _placed(part, "TextLine", f"line_{name}", line.polygon, baseline)
    before: Box | None = None
    for k, word in enumerate(words(line), 1):
        here = box(word.polygon)
        if before is not None:
            ET.SubElement(row, "SP", _position(_between(before, here)))
        content = {"CONTENT": clean(word.text), "WC": f"{word.confidence:.4f}"}
        _placed(row, "String", f"word_{name}_{k}", word.polygon, content)
        before = here


def _between(word: Box, other: Box) -> Box:
    """What is between two words, whichever way their line runs."""
    left, right = sorted((min(word.right, other.right), max(word.left, other.left)))
    top, bottom = sorted((min(word.bottom, other.bottom), max(word.top, other.top)))
    return Box(left, top, right, bottom)


def _placed(parent: ET.Element, tag: str, name: str, polygon: Polygon, more: dict[str, str]) -> ET.Element:
    part = ET.SubElement(parent, tag, {"ID": name} | _position(box(polygon)) | more)
    if polygon:
        shape = ET.SubElement(part, "Shape")
        ET.SubElement(shape, "Polygon", {"POINTS": _points(polygon)})
    return part


def _position(extent: Box) -> dict[str, str]:
    figures = {"HPOS": extent.left, "VPOS": extent.top, "WIDTH": extent.width, "HEIGHT": extent.height}
    return {key: _figure(value) for key, value in figures.items()}


def _points(polygon: Polygon) -> str:
    return " ".join(f"{_figure(x)},{_figure(y)}" for x, y in polygon)


def _figure(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
