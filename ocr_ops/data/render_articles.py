"""Pages of several columns, as journals, newspapers and brochures set them: what reading order is measured on."""

from ocr_ops.data import render_text as text
from ocr_ops.data.render_layouts import Layouts, table
from ocr_ops.data.render_sheet import Sheet


def _column(sheet: Sheet, x: float, width: float, y: float, end: float) -> None:
    """Running text from edge to edge in paragraphs, some with a heading of their own."""
    rng, size = sheet.rng, sheet.size
    pitch = size * 1.28
    while y < end - pitch:
        if rng.random() < 0.3:
            sheet.write(x, y, text.words(rng, 1, 3)[: int(width / size / 0.8)], rng.uniform(1.0, 1.25), bold=True)
            y += pitch * 1.3
        for line in range(int(rng.integers(2, 9))):
            if y > end:
                return
            indent = size * 1.2 if line == 0 and rng.random() < 0.6 else 0.0
            sheet.fill(x + indent, y, width - indent)
            y += pitch
        if y < end:
            sheet.write(x, y, sheet.prose(1, 3)[: int(width / size / 0.7)])
        y += pitch * (1.0 if rng.random() < 0.5 else 1.7)


def _columns(sheet: Sheet, count: int, y: float, end: float, gutter: float) -> None:
    left, each = sheet.width * 0.06, (sheet.width * 0.88 - gutter * (count - 1)) / count
    for column in range(count):
        # A column need not reach the foot: the last one may end early.
        foot = end - sheet.rng.uniform(0, 0.3) * (end - y) * (column == count - 1)
        _column(sheet, left + column * (each + gutter), each, y, foot)


def _title(sheet: Sheet, y: float) -> float:
    rng, size = sheet.rng, sheet.size
    scale = rng.uniform(1.7, 2.8)
    sheet.write(sheet.width / 2, y, text.words(rng, 2, 4)[:26], scale, "centre", bold=True)
    y += size * scale * 1.6
    sheet.write(sheet.width / 2, y, sheet.prose(2, 4)[:40], 1.0, "centre")
    return y + size * 3


def _foot(sheet: Sheet) -> None:
    sheet.write(sheet.width / 2, sheet.height - sheet.size * 2.2, str(int(sheet.rng.integers(1, 900))), 1.0, "centre")


def journal(sheet: Sheet) -> None:
    """A title, an abstract across the page, two columns, a page number."""
    rng, size = sheet.rng, sheet.size
    sheet.size = min(size, 20)
    y = _title(sheet, sheet.size * 2.0)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(2, 5))):
            sheet.fill(sheet.width * 0.12, y, sheet.width * 0.76)
            y += sheet.size * 1.28
        y += sheet.size * 1.5
    _columns(sheet, 2, y, sheet.height - sheet.size * 4, sheet.size * rng.uniform(1.4, 2.4))
    _foot(sheet)


def newspaper(sheet: Sheet) -> None:
    """Three or four narrow columns below a headline; now and then a second story below them."""
    rng = sheet.rng
    sheet.size = min(sheet.size, 16)
    y = _title(sheet, sheet.size * 2.0)
    middle = sheet.height * rng.uniform(0.45, 0.6) if rng.random() < 0.5 else sheet.height - sheet.size * 4
    gutter = sheet.size * rng.uniform(1.4, 1.9)
    _columns(sheet, int(rng.integers(3, 5)), y, middle, gutter)
    if middle < sheet.height * 0.7:
        y = _title(sheet, middle + sheet.size * 3)
        _columns(sheet, int(rng.integers(2, 4)), y, sheet.height - sheet.size * 4, gutter)
    _foot(sheet)


def report(sheet: Sheet) -> None:
    """Two columns, a table across both, and two columns again."""
    rng = sheet.rng
    sheet.size = min(sheet.size, 18)
    size, gutter = sheet.size, sheet.size * rng.uniform(1.4, 2.4)
    middle = sheet.height * rng.uniform(0.3, 0.4)
    _columns(sheet, 2, size * 2.5, middle, gutter)
    sheet.write(sheet.width * 0.06, middle + size * 2.2, sheet.prose(3, 7)[:50])
    y = table(sheet, middle + size * 4, int(rng.integers(3, 8))) + size
    _columns(sheet, 2, y, sheet.height - size * 4, gutter)
    _foot(sheet)


ARTICLES: Layouts = ((journal, 0.4), (newspaper, 0.3), (report, 0.3))
