"""The layout grammar: what receipts, invoices, letters, columns, forms and pages without text look like."""

from collections.abc import Callable

import cv2
import numpy as np

from ocr_ops.data import render_text as text
from ocr_ops.data.render_sheet import Rng, Sheet
from ocr_ops.runtime.pdf_text import SPLIT_GAP


def receipt(sheet: Sheet) -> None:
    rng, size, width = sheet.rng, sheet.size, sheet.width
    left, right = width * rng.uniform(0.03, 0.1), width * rng.uniform(0.9, 0.97)
    pitch = size * rng.uniform(0.8, 1.5)
    y = size * rng.uniform(0.5, 4)
    for _ in range(int(rng.integers(2, 7))):
        scale = rng.uniform(1.0, 1.8) if rng.random() < 0.25 else 1.0
        kind = text.pick(rng, ("company", "address", "contact", "code"))
        sheet.write(width / 2, y, getattr(text, kind)(rng), scale, "centre", bold=scale > 1.2)
        y += pitch * scale
    columns = sorted(rng.uniform(0.35, 0.8, int(rng.integers(0, 3))))
    while y < sheet.height - 2 * size:
        draw = rng.random()
        if draw < 0.08:
            sheet.rule(y + size * 0.4)
        elif draw < 0.16:
            y += pitch * rng.uniform(0.3, 2)
            continue
        elif draw < 0.55:
            _bought(sheet, y, left, right, columns)
        elif draw < 0.75:
            y += pitch * (_amount(sheet, y, left, right) - 1)
        elif draw < 0.9:
            sheet.write(left, y, text.line(rng)[:40])
        else:
            sheet.write(width / 2, y, text.words(rng, 2, 5), 1.0, "centre")
        y += pitch


def _bought(sheet: Sheet, y: float, left: float, right: float, columns: list[float]) -> None:
    """An article and its figures."""
    rng, size = sheet.rng, sheet.size
    end = left + sheet.write(left, y, _article(rng)) + SPLIT_GAP * 1.2 * size
    for column in columns:
        if column * sheet.width > end and rng.random() < 0.8:
            end = column * sheet.width + sheet.write(column * sheet.width, y, text.number(rng)) + SPLIT_GAP * 1.2 * size
    if right - size * 5 > end:
        sheet.write(right, y, text.number(rng), 1.0, "right")


def _amount(sheet: Sheet, y: float, left: float, right: float) -> float:
    """A name and an amount, now and then large; the scale they are written at."""
    rng, size = sheet.rng, sheet.size
    scale = rng.uniform(1.2, 2.0) if rng.random() < 0.12 else 1.0
    place = rng.uniform(0.2, 0.5) * sheet.width if rng.random() < 0.5 else left
    end = place + sheet.write(place, y, text.receipt(rng)[:24], scale, bold=scale > 1)
    if right - size * 6 * scale > end:
        sheet.write(right, y, text.price(rng), scale, "right", bold=scale > 1)
    return scale


def _article(rng: Rng) -> str:
    head = (
        f"{rng.integers(1, 9)} " if rng.random() < 0.3 else f"{text.digits(rng, 4, 13)} " if rng.random() < 0.2 else ""
    )
    return head + text.words(rng, 1, 3)[:28]


def _paragraphs(sheet: Sheet, x0: float, x1: float, y: float, end: float) -> None:
    """Lines of running text between x0 and x1."""
    rng, size = sheet.rng, sheet.size
    pitch = size * rng.uniform(1.15, 1.7)
    while y < end:
        if rng.random() < 0.12:
            scale = rng.uniform(1.1, 2.2)
            sheet.write(x0, y, text.words(rng, 1, 4), scale, bold=True)
            y += pitch * scale
        for _ in range(int(rng.integers(1, 9))):
            words, room = "", (x1 - x0) / (size * 0.6 * sheet.stretch)
            while len(words) < room - 6:
                words = f"{words} {sheet.prose(1, 9) if rng.random() < 0.9 else text.line(rng)}".strip()
            sheet.write(x0, y, words[: int(room)].strip())
            y += pitch
            if y > end:
                return
        sheet.write(x0, y, sheet.prose(1, 3))
        y += pitch * rng.uniform(1.3, 2.5)


def _letter(sheet: Sheet) -> None:
    rng, width, size = sheet.rng, sheet.width, sheet.size
    left, right = width * rng.uniform(0.06, 0.14), width * rng.uniform(0.86, 0.94)
    sheet.write(
        text_x := (left if rng.random() < 0.5 else width / 2),
        size * 2,
        text.company(rng),
        rng.uniform(1.3, 3),
        "left" if text_x == left else "centre",
        bold=True,
    )
    y = size * 6.0
    for _ in range(int(rng.integers(3, 7))):
        sheet.write(left, y, text.address(rng))
        if rng.random() < 0.5:
            sheet.write(right, y, text.contact(rng) if rng.random() < 0.5 else text.date(rng), 1.0, "right")
        y += size * 1.4
    _paragraphs(sheet, left, right, y + size * 2, sheet.height - size * 4)


def _columns(sheet: Sheet) -> None:
    rng, width = sheet.rng, sheet.width
    count = int(rng.integers(2, 4))
    gutter = sheet.size * rng.uniform(1.8, 3.5)
    each = (width * 0.9 - gutter * (count - 1)) / count
    top = sheet.size * 2.0
    if rng.random() < 0.6:
        sheet.write(width * 0.05, top, text.words(rng, 2, 5), rng.uniform(1.8, 3.5), bold=True)
        top += sheet.size * 6
    for column in range(count):
        x = width * 0.05 + column * (each + gutter)
        _paragraphs(sheet, x, x + each, top + sheet.size * rng.uniform(0, 1), sheet.height - sheet.size * 2)


def table(sheet: Sheet, y: float, rows: int) -> float:
    rng, width, size = sheet.rng, sheet.width, sheet.size
    count = int(rng.integers(2, 7))
    edges = np.sort(np.concatenate(((0.05, 0.95), rng.uniform(0.12, 0.9, count - 1)))) * width
    pitch = size * rng.uniform(1.3, 2.4)
    ruled, upright = rng.random() < 0.6, rng.random() < 0.4
    makers = (text.number, text.price, _article, text.code, text.date)
    kinds = [makers[int(rng.integers(len(makers)))] for _ in range(count)]
    top = y
    cells: dict[tuple[int, int], int] = {}
    sheet.tables.append(cells)
    for row in range(rows):
        if ruled or row < 2:
            sheet.rule(y, 0.05, 0.95)
        for column, (left, right, kind) in enumerate(zip(edges, edges[1:], kinds, strict=False)):
            words = text.words(rng, 1, 2) if row == 0 else kind(rng)
            room = int((right - left - size) / (size * 0.55))
            if room >= 2 and rng.random() < 0.92:
                end = kind is text.number or kind is text.price
                if sheet.write(
                    right - size * 0.6 if end else left + size * 0.6,
                    y + (pitch - size) / 2,
                    words[:room].strip() or "0",
                    1.0,
                    "right" if end else "left",
                    bold=row == 0,
                ):
                    cells[row, column] = len(sheet.segments) - 1
        y += pitch
        if y > sheet.height - 2 * size:
            break
    sheet.rule(y, 0.05, 0.95)
    if upright:
        for edge in edges:
            sheet.ink[round(top) : round(y), round(edge) : round(edge) + 1] = 200
    return y + pitch


def _invoice(sheet: Sheet) -> None:
    rng, width, size = sheet.rng, sheet.width, sheet.size
    left = width * 0.06
    sheet.write(left, size * 2, text.company(rng), rng.uniform(1.2, 2.6), bold=True)
    y = size * 6.0
    for _ in range(int(rng.integers(3, 8))):
        sheet.write(left, y, text.address(rng)[:36])
        label = width * 0.58
        end = label + sheet.write(label, y, text.receipt(rng)[:14]) + SPLIT_GAP * 1.3 * size
        sheet.write(max(end, width * 0.76), y, text.code(rng) if rng.random() < 0.5 else text.date(rng))
        y += size * rng.uniform(1.25, 1.6)
    y = table(sheet, y + size, int(rng.integers(3, 16)))
    while y < sheet.height - 3 * size:
        if rng.random() < 0.6:
            sheet.write(width * 0.6, y, text.receipt(rng)[:16])
            sheet.write(width * 0.94, y, text.price(rng), 1.0, "right")
        else:
            sheet.write(left, y, text.words(rng, 2, 7))
        y += size * rng.uniform(1.3, 2.2)


def ledger(sheet: Sheet) -> None:
    """A heading and tables to the foot of the page."""
    rng, size = sheet.rng, sheet.size
    y = size * 2.0
    while y < sheet.height - 6 * size:
        sheet.write(sheet.width * 0.06, y, sheet.prose(2, 6)[:50], rng.uniform(1.0, 1.8), bold=True)
        y = table(sheet, y + size * rng.uniform(2, 3.5), int(rng.integers(3, 40))) + size
        if rng.random() < 0.4:
            sheet.write(sheet.width * 0.06, y, sheet.prose(3, 9)[:70])
            y += 2 * size


def _form(sheet: Sheet) -> None:
    rng, width, size = sheet.rng, sheet.width, sheet.size
    y = size * 2.0
    sheet.write(width / 2, y, text.words(rng, 2, 4), rng.uniform(1.3, 2.4), "centre", bold=True)
    y += size * 4
    while y < sheet.height - 3 * size:
        x = width * 0.05
        for _ in range(int(rng.integers(1, 4))):
            x += sheet.write(x, y, text.receipt(rng)[:18]) + size * SPLIT_GAP * 1.3
            span = width * rng.uniform(0.1, 0.3)
            if x + span > width * 0.95:
                break
            if rng.random() < 0.5:
                sheet.rule(y + size * 1.05, x / width, (x + span) / width)
            else:
                box = (round(x), round(y - size * 0.3)), (round(x + span), round(y + size * 1.2))
                cv2.rectangle(sheet.ink, *box, (180,), 1)
            if rng.random() < 0.7:
                sheet.write(x + size * 0.3, y, text.line(rng)[: max(1, int(span / size / 0.6))].strip() or "1", 0.9)
            x += span + size * SPLIT_GAP * 1.3
        y += size * rng.uniform(1.7, 2.8)


def _textless(sheet: Sheet) -> None:
    """Shapes, textures, bar codes: nothing to read."""
    rng = sheet.rng
    for _ in range(int(rng.integers(0, 14))):
        x, y = int(rng.integers(sheet.width)), int(rng.integers(sheet.height))
        end = x + int(rng.integers(5, sheet.width // 2)), y + int(rng.integers(5, sheet.height // 2))
        tone, thick = (int(rng.integers(40, 255)),), int(rng.integers(-1, 5)) or 1
        if rng.random() < 0.5:
            cv2.rectangle(sheet.ink, (x, y), end, tone, thick)
        elif rng.random() < 0.5:
            cv2.line(sheet.ink, (x, y), end, tone, abs(thick))
        else:
            cv2.circle(sheet.ink, (x, y), int(rng.integers(4, sheet.width // 3)), tone, thick)


def decorate(sheet: Sheet) -> None:
    """What is on paper beside text: bar codes, logos, punch holes, specks, and a pen's marks also over the text."""
    rng = sheet.rng
    for _ in range(int(rng.integers(1, 6))):
        width, height = (int(sheet.size * rng.uniform(*span)) for span in ((2, 14), (1.5, 6)))
        x, y = int(rng.integers(max(1, sheet.width - width))), int(rng.integers(max(1, sheet.height - height)))
        centre, tone, draw = (x + width // 2, y + height // 2), (int(rng.integers(140, 256)),), rng.random()
        if draw < 0.15:
            angle = int(rng.integers(-20, 20))
            cv2.ellipse(sheet.ink, centre, (width // 2, height // 2), angle, 20, 340, tone, int(rng.integers(1, 4)))
        elif draw < 0.3:
            points = np.cumsum(rng.integers(-sheet.size, sheet.size + 1, (4, 1, 2)), axis=0) + centre
            cv2.polylines(sheet.ink, [points.astype(np.int32)], False, tone, int(rng.integers(1, 4)))
        elif draw < 0.5:
            for spot in rng.integers((0, 0), (sheet.width, sheet.height), (int(rng.integers(1, 12)), 2)):
                cv2.circle(sheet.ink, (int(spot[0]), int(spot[1])), int(rng.integers(0, 4)), tone, -1)
        elif sheet.ink[y : y + height, x : x + width].any():
            continue
        elif draw < 0.65:
            cv2.circle(sheet.ink, centre, min(width, height) // 2, tone, int(rng.integers(-1, 4)) or -1)
        elif draw < 0.8:
            bars = np.repeat(rng.integers(0, 2, width // 2 + 1), 2)[:width].astype(np.uint8) * 255
            sheet.ink[y : y + height, x : x + width] = bars[: sheet.width - x]
        else:
            cv2.ellipse(sheet.ink, centre, (width // 3, height // 2), 0, 0, 360, tone, int(rng.integers(-1, 4)) or 1)


Layouts = tuple[tuple[Callable[[Sheet], None], float], ...]
"""With their shares."""

LAYOUTS: Layouts = (
    (receipt, 0.48), (_invoice, 0.12), (_letter, 0.08), (_columns, 0.08), (_form, 0.12), (ledger, 0.05),
    (_textless, 0.07),
)  # fmt: skip
