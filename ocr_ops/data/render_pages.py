"""Synthetic pages: grey images and the segments (runs of words on one line) written on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.record import digest_bytes
from ocr_ops.data import render_augment as augment
from ocr_ops.data import render_text as text
from ocr_ops.data.render_fonts import Font, Split, choose, load_fonts
from ocr_ops.data.render_lines import DASHES, fitting

Gray = NDArray[np.uint8]
Rng = np.random.Generator

MARGIN = 0.11
"""Paper kept around the ink of a segment, in heights of it."""
SPLIT_GAP = 1.3
"""Words further apart than this, in heights of the line, are two segments."""


HIGH = DASHES + "*\"'“”‘’°"  # noqa: RUF001 (quotation marks, not look-alikes)
"""Characters that stand clear of the base line."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`polygon` float32 (4, 2), clockwise from the text's top-left corner, page pixels; `text` may be unknown ("")."""

    polygon: NDArray[np.float32]
    text: str


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """`image` uint8 (h, w)."""

    image: Gray
    segments: tuple[Segment, ...]


@dataclass(slots=True)
class _Sheet:
    """A page in the making: ink on a blank sheet, and one font in three sizes as documents have them."""

    rng: Rng
    ink: Gray
    font: Font
    bold: Font
    size: int
    stretch: float
    spacing: float
    pasted: Sequence[Gray]
    paste_share: float
    segments: list[Segment] = field(default_factory=list)

    @property
    def width(self) -> int:
        return int(self.ink.shape[1])

    @property
    def height(self) -> int:
        return int(self.ink.shape[0])

    def write(
        self, x: float, y: float, words: str, scale: float = 1.0, align: str = "left", *, bold: bool = False
    ) -> int:
        """Writes a segment whose line box begins at (x, y); `align` says which end of it `x` is. Returns its width."""
        height = self.size * scale
        if self.pasted and self.rng.random() < self.paste_share:
            return self._paste(x, y, height, align)
        font = self.bold if bold else self.font
        words = fitting(words, font)
        ink = font.draw(words, max(6, round(height)), self.spacing * scale)
        if self.stretch != 1.0:
            ink = cv2.resize(
                ink, (max(1, round(ink.shape[1] * self.stretch)), ink.shape[0]), interpolation=cv2.INTER_AREA
            ).astype(np.uint8)
        lower = round(height * 0.75) - ink.shape[0]  # ink sits near the base line, whatever its height
        if all(char in HIGH for char in words):
            lower = round(height * 0.4) - ink.shape[0] // 2
        elif any(char in "gjpqyQ,;()[]{}$@|/ç" for char in words):
            lower = round(height * 0.92) - ink.shape[0]
        return self._stamp(x, y + lower, ink, align, words, least=round(height * 0.4))

    def _paste(self, x: float, y: float, height: float, align: str) -> int:
        """A real crop's ink instead of a font's."""
        crop = self.pasted[int(self.rng.integers(len(self.pasted)))]
        scale = height / crop.shape[0]
        if crop.shape[1] * scale > self.width * 0.6:
            return 0
        size = (max(2, round(crop.shape[1] * scale)), max(2, round(height)))
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return self._stamp(x, y, small.astype(np.uint8), align, "", framed=True)

    def _stamp(
        self, x: float, y: float, ink: Gray, align: str, words: str, least: int = 0, *, framed: bool = False
    ) -> int:
        height, width = ink.shape
        left = round(x) - {"left": 0, "right": width, "centre": width // 2}[align]
        top = round(y)
        if left < 1 or top < 1 or left + width >= self.width - 1 or top + height >= self.height - 1:
            return 0
        target = self.ink[top : top + height, left : left + width]
        if np.count_nonzero(target) > 0.12 * target.size:  # text over text is nobody's document
            return 0
        np.maximum(target, ink, out=target)
        extra = max(0, least - height) / 2
        pad = -0.02 * height if framed else MARGIN * max(height, least)
        side = 0.0 if framed else pad
        box = (left - side, top - pad - extra, left + width + side, top + height + pad + extra)
        self.segments.append(Segment(_rectangle(*box), words))
        return width

    def rule(self, y: float, x0: float = 0.04, x1: float = 0.96) -> None:
        """A printed rule: solid, dashed, or a row of characters (which is no text)."""
        row, left, right = round(y), round(x0 * self.width), round(x1 * self.width)
        if not 0 < row < self.height - 3:
            return
        thick = int(self.rng.integers(1, 3))
        self.ink[row : row + thick, left:right] = int(self.rng.integers(130, 256))
        if self.rng.random() < 0.5:
            period = int(self.rng.integers(4, 12))
            for start in range(left, right, period):
                self.ink[row : row + thick, start : start + period // 3] = 0


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> NDArray[np.float32]:
    return np.array(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), np.float32)


def _receipt(sheet: _Sheet) -> None:
    rng, size, width = sheet.rng, sheet.size, sheet.width
    left, right = width * rng.uniform(0.03, 0.1), width * rng.uniform(0.9, 0.97)
    pitch = size * rng.uniform(1.0, 1.55)
    y = size * rng.uniform(0.5, 4)
    for _ in range(int(rng.integers(2, 7))):
        scale = rng.uniform(1.0, 1.8) if rng.random() < 0.25 else 1.0
        words = text.pick(rng, ("company", "address", "contact", "code"))
        sheet.write(width / 2, y, getattr(text, words)(rng), scale, "centre", bold=scale > 1.2)
        y += pitch * scale
    columns = sorted(rng.uniform(0.35, 0.8, int(rng.integers(0, 3))))
    while y < sheet.height - 2 * size:
        kind = rng.random()
        if kind < 0.08:
            sheet.rule(y + size * 0.4)
        elif kind < 0.16:
            y += pitch * rng.uniform(0.3, 2)
            continue
        elif kind < 0.55:  # an article and its figures
            end = left + sheet.write(left, y, _article(rng)) + SPLIT_GAP * 1.2 * size
            for column in columns:
                if column * width > end and rng.random() < 0.8:
                    end = column * width + sheet.write(column * width, y, text.number(rng)) + SPLIT_GAP * 1.2 * size
            if right - size * 5 > end:
                sheet.write(right, y, text.number(rng), 1.0, "right")
        elif kind < 0.75:  # a name and an amount
            scale = rng.uniform(1.2, 2.0) if rng.random() < 0.12 else 1.0
            place = rng.uniform(0.2, 0.5) * width if rng.random() < 0.5 else left
            end = place + sheet.write(place, y, text.receipt(rng)[:24], scale, bold=scale > 1)
            if right - size * 6 * scale > end:
                sheet.write(right, y, text.price(rng), scale, "right", bold=scale > 1)
            y += pitch * (scale - 1)
        elif kind < 0.9:
            sheet.write(left, y, text.line(rng)[:40])
        else:
            sheet.write(width / 2, y, text.words(rng, 2, 5), 1.0, "centre")
        y += pitch


def _article(rng: Rng) -> str:
    head = (
        f"{rng.integers(1, 9)} " if rng.random() < 0.3 else f"{text.digits(rng, 4, 13)} " if rng.random() < 0.2 else ""
    )
    return head + text.words(rng, 1, 3)[:28]


def _paragraphs(sheet: _Sheet, x0: float, x1: float, y: float, end: float) -> None:
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
                words = f"{words} {text.words(rng, 1, 4) if rng.random() < 0.9 else text.line(rng)}".strip()
            sheet.write(x0, y, words[: int(room)].strip())
            y += pitch
            if y > end:
                return
        sheet.write(x0, y, text.words(rng, 1, 3))
        y += pitch * rng.uniform(1.3, 2.5)


def _letter(sheet: _Sheet) -> None:
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


def _columns(sheet: _Sheet) -> None:
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


def _table(sheet: _Sheet, y: float, rows: int) -> float:
    rng, width, size = sheet.rng, sheet.width, sheet.size
    count = int(rng.integers(2, 7))
    edges = np.sort(np.concatenate(((0.05, 0.95), rng.uniform(0.12, 0.9, count - 1)))) * width
    pitch = size * rng.uniform(1.3, 2.4)
    ruled, upright = rng.random() < 0.6, rng.random() < 0.4
    makers = (text.number, text.price, _article, text.code, text.date)
    kinds = [makers[int(rng.integers(len(makers)))] for _ in range(count)]
    top = y
    for row in range(rows):
        if ruled or row < 2:
            sheet.rule(y, 0.05, 0.95)
        for left, right, kind in zip(edges, edges[1:], kinds, strict=False):
            words = text.words(rng, 1, 2) if row == 0 else kind(rng)
            room = int((right - left - size) / (size * 0.55))
            if room >= 2 and rng.random() < 0.92:
                end = kind is text.number or kind is text.price
                sheet.write(
                    right - size * 0.6 if end else left + size * 0.6,
                    y + (pitch - size) / 2,
                    words[:room].strip() or "0",
                    1.0,
                    "right" if end else "left",
                    bold=row == 0,
                )
        y += pitch
        if y > sheet.height - 2 * size:
            break
    sheet.rule(y, 0.05, 0.95)
    if upright:
        for edge in edges:
            sheet.ink[round(top) : round(y), round(edge) : round(edge) + 1] = 200
    return y + pitch


def _invoice(sheet: _Sheet) -> None:
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
    y = _table(sheet, y + size, int(rng.integers(3, 16)))
    while y < sheet.height - 3 * size:
        if rng.random() < 0.6:
            sheet.write(width * 0.6, y, text.receipt(rng)[:16])
            sheet.write(width * 0.94, y, text.price(rng), 1.0, "right")
        else:
            sheet.write(left, y, text.words(rng, 2, 7))
        y += size * rng.uniform(1.3, 2.2)


def _form(sheet: _Sheet) -> None:
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


def _textless(sheet: _Sheet) -> None:
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


def _decorate(sheet: _Sheet) -> None:
    """Bar codes, logos and stamps where no text is."""
    rng = sheet.rng
    for _ in range(int(rng.integers(0, 3))):
        width, height = (int(sheet.size * rng.uniform(*span)) for span in ((4, 14), (2, 6)))
        x, y = int(rng.integers(max(1, sheet.width - width))), int(rng.integers(max(1, sheet.height - height)))
        if sheet.ink[y : y + height, x : x + width].any():
            continue
        if rng.random() < 0.5:
            bars = np.repeat(rng.integers(0, 2, width // 2 + 1), 2)[:width].astype(np.uint8) * 255
            sheet.ink[y : y + height, x : x + width] = bars[: sheet.width - x]
        else:
            centre = (x + width // 2, y + height // 2)
            cv2.ellipse(sheet.ink, centre, (width // 3, height // 2), 0, 0, 360, (220,), int(rng.integers(-1, 4)) or 1)


LAYOUTS: tuple[tuple[Callable[[_Sheet], None], float], ...] = (
    (_receipt, 0.48), (_invoice, 0.14), (_letter, 0.1), (_columns, 0.09), (_form, 0.12), (_textless, 0.07),
)  # fmt: skip


class PageRenderer:
    """Draws pages with the machine's fonts of one `split`. A page is a pure function of its generator.

    `crops` (grey line images) are pasted, as ink, in place of `paste_share` of a receipt's segments.
    """

    def __init__(
        self, charset: str, split: Split = "train", crops: Sequence[Gray] = (), paste_share: float = 0.4
    ) -> None:
        self.fonts = load_fonts(charset, split)
        self.crops = tuple(crop_ink(crop) for crop in crops if crop.shape[1] > 0.6 * crop.shape[0])
        self.paste_share = paste_share

    def page(self, rng: Rng, side: int = 800) -> RenderedPage:
        """One page of about `side` px a side, its text 8 to 30 px high with headings up to 64."""
        layout = LAYOUTS[int(rng.choice(len(LAYOUTS), p=[share for _, share in LAYOUTS]))][0]
        receipt = layout is _receipt
        font = choose(rng, self.fonts, 0.6 if receipt else 0.15)
        family = next(group for group in self.fonts if font in group)
        width = int(side * (rng.uniform(0.55, 1.0) if receipt else rng.uniform(0.8, 1.15)))
        sheet = _Sheet(
            rng=rng,
            ink=np.zeros((int(side * rng.uniform(0.9, 1.3)), width), np.uint8),
            font=font,
            bold=family[int(rng.integers(len(family)))],
            size=int(np.exp(rng.uniform(np.log(12), np.log(34)))),
            stretch=rng.uniform(0.6, 1.0) if font.mono and receipt else rng.uniform(0.9, 1.1),
            spacing=rng.uniform(0, 1.5) if rng.random() < 0.2 else 0.0,
            pasted=self.crops if receipt else (),
            paste_share=self.paste_share * 2 if rng.random() < 0.5 else 0.0,
        )
        layout(sheet)
        if rng.random() < 0.35:
            _decorate(sheet)
        ink = augment.worn_ink(rng, sheet.ink) if rng.random() < 0.3 and sheet.size > 13 else sheet.ink
        return RenderedPage(_on_paper(rng, ink), tuple(sheet.segments))


def crop_ink(crop: Gray) -> Gray:
    """The ink of a photographed line, uint8, 255 full: the paper under it divided away, so no edge of the crop shows."""
    ground = cv2.morphologyEx(crop, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)).astype(np.float32)
    ground = cv2.GaussianBlur(np.maximum(ground, np.percentile(crop, 85)), (0, 0), 5)
    ink = 1.0 - crop / np.maximum(ground, 1)
    return np.asarray(np.clip((ink - 0.06) * 1.06, 0, 1) * 255, np.uint8)


def _on_paper(rng: Rng, ink: Gray) -> Gray:
    """Paper, shadows, and sometimes the desk the paper lies on."""
    image = augment.paper(rng, ink)
    if rng.random() < 0.3:
        image = np.clip(image * augment.field(rng, image.shape, 0.7, 1.05, 3), 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        desk = int(rng.integers(0, 200))
        edges = rng.integers(0, 40, 4)
        image = cv2.copyMakeBorder(image[:, :], 0, 0, 0, 0, cv2.BORDER_CONSTANT).astype(np.uint8)
        rows = np.flatnonzero(ink.any(axis=1))
        columns = np.flatnonzero(ink.any(axis=0))
        if len(rows) and len(columns):  # never over the text
            image[: min(int(edges[0]), max(0, rows[0] - 4))] = desk
            image[:, : min(int(edges[1]), max(0, columns[0] - 4))] = desk
            image[:, max(image.shape[1] - int(edges[2]), columns[-1] + 4) :] = desk
    return image


def page_digest(renderer: PageRenderer, seed: int, count: int = 4) -> str:
    """Identity of what `renderer` draws from `seed`: the digest of its first `count` pages."""
    parts = []
    for index in range(count):
        page = renderer.page(np.random.default_rng((seed, index)))
        parts += [page.image.tobytes(), *(s.polygon.tobytes() + s.text.encode() for s in page.segments)]
    return digest_bytes(b"".join(parts))
