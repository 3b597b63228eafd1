"""A page in the making: what the layouts of `render_layouts` write on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.data import render_text
from ocr_ops.data.render_fonts import Font
from ocr_ops.data.render_lines import DASHES, fitting
from ocr_ops.data.render_material import Corpus
from ocr_ops.runtime.pdf_text import MARGIN

Gray = NDArray[np.uint8]
Rng = np.random.Generator
Align = Literal["left", "right", "centre"]


HIGH = DASHES + "*\"'“”‘’°"  # noqa: RUF001 (quotation marks, not look-alikes)
"""Characters that stand clear of the base line."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`polygon` float32 (4, 2), clockwise from the text's top-left corner, page pixels; `text` may be unknown ("")."""

    polygon: NDArray[np.float32]
    text: str


@dataclass(slots=True)
class Sheet:
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
    corpus: Corpus | None = None
    segments: list[Segment] = field(default_factory=list)
    """In the order in which people read them."""
    tables: list[dict[tuple[int, int], int]] = field(default_factory=list)
    """Of each table which segment stands in which row and column."""

    @property
    def width(self) -> int:
        return int(self.ink.shape[1])

    @property
    def height(self) -> int:
        return int(self.ink.shape[0])

    def prose(self, low: int, high: int) -> str:
        """`low` to `high` words of running text: the corpus's where there is one."""
        if self.corpus and self.rng.random() < 0.8:
            return self.corpus.phrase(self.rng, low, high)
        return render_text.words(self.rng, low, high)

    def write(
        self, x: float, y: float, words: str, scale: float = 1.0, align: Align = "left", *, bold: bool = False
    ) -> int:
        """Writes a segment whose line box begins at (x, y); `align` says which end of it `x` is. Returns its width."""
        height = self.size * scale
        if self.pasted and self.rng.random() < self.paste_share:
            return self._paste((x, y), height, align)
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
        return self._stamp((x, y + lower), ink, align, words, least=round(height * 0.4))

    def fill(self, x: float, y: float, width: float) -> None:
        """Writes running text as wide as that, as printers set it: from edge to edge."""
        words = self.prose(8, 14).split()
        drawn = [self.font.draw(fitting(word, self.font), self.size, self.spacing) for word in words]
        space = 0.28 * self.size
        reach = np.cumsum([ink.shape[1] + space for ink in drawn]) - space
        count = max(int(np.searchsorted(reach, width, side="right")), 1)
        while count < len(words) and reach[count] - width < 0.5 * drawn[count].shape[1]:
            count += 1
        ink = self.font.draw(fitting(" ".join(words[:count]), self.font), self.size, self.spacing)
        size = round(width), int(ink.shape[0])
        if ink.shape[1] and ink.any():
            ink = np.asarray(cv2.resize(ink, size, interpolation=cv2.INTER_AREA), np.uint8)
        lower = round(self.size * 0.92) - ink.shape[0]
        self._stamp((x, y + lower), ink, "left", " ".join(words[:count]), least=round(self.size * 0.4))

    def _paste(self, place: tuple[float, float], height: float, align: Align) -> int:
        """A real crop's ink instead of a font's."""
        crop = self.pasted[int(self.rng.integers(len(self.pasted)))]
        height *= self.rng.uniform(0.75, 1.0)
        scale = height / crop.shape[0]
        if crop.shape[1] * scale > self.width * 0.6:
            return 0
        size = (max(2, round(crop.shape[1] * scale)), max(2, round(height)))
        small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        return self._stamp(place, np.asarray(small, np.uint8), align, "", framed=True)

    def _stamp(
        self, place: tuple[float, float], ink: Gray, align: Align, words: str, *, least: int = 0, framed: bool = False
    ) -> int:
        """Puts ink down if it fits the sheet and nothing is there; a `framed` one has its margin within."""
        if not ink.any():  # too small a letter to leave a trace
            return 0
        height, width = int(ink.shape[0]), int(ink.shape[1])
        left = round(place[0]) - {"left": 0, "right": width, "centre": width // 2}[align]
        top = round(place[1])
        if left < 1 or top < 1 or left + width >= self.width - 1 or top + height >= self.height - 1:
            return 0
        target = self.ink[top : top + height, left : left + width]
        if np.count_nonzero(target) > 0.12 * target.size:  # text over text is nobody's document
            return 0
        extra = max(0, least - height) / 2
        pad = -0.02 * height if framed else MARGIN * max(height, least)
        side = 0.0 if framed else pad
        box = (left - side, top - pad - extra, left + width + side, top + height + pad + extra)
        if self._crowded(*box):
            return 0
        np.maximum(target, ink, out=target)
        self.segments.append(Segment(_rectangle(*box), words))
        return width

    def _crowded(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        """Whether a box would lie on another, or so near on the same row that both would be one segment."""
        if not self.segments:
            return False
        others = np.array([segment.polygon[(0, 2), :].ravel() for segment in self.segments])
        shared = np.minimum(y1, others[:, 3]) - np.maximum(y0, others[:, 1])
        least = np.minimum(y1 - y0, others[:, 3] - others[:, 1])
        gap = np.maximum(x0, others[:, 0]) - np.minimum(x1, others[:, 2])
        return bool((((shared > 0.5 * least) & (gap < least)) | ((shared > 0.25 * least) & (gap < 0))).any())

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
