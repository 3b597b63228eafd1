"""Synthetic pages: grey images and the segments (runs of words on one line) written on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.record import digest_bytes
from ocr_ops.data import render_augment as augment
from ocr_ops.data.render_fonts import Split, choose, load_fonts
from ocr_ops.data.render_layouts import LAYOUTS, Layouts, decorate, receipt
from ocr_ops.data.render_lines import BACKGROUND_SHARE
from ocr_ops.data.render_material import Corpus, on_background
from ocr_ops.data.render_sheet import Segment, Sheet

Gray = NDArray[np.uint8]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """`image` uint8 (h, w)."""

    image: Gray
    segments: tuple[Segment, ...]
    """In the order in which people read them."""
    tables: tuple[dict[tuple[int, int], int], ...] = ()
    """Of each table which segment stands in which row and column."""


class PageRenderer:
    """Draws pages with the machine's fonts of one `split`. A page is a pure function of its generator.

    `crops` (grey line images) are pasted, as ink, in place of `paste_share` of a receipt's segments.
    """

    def __init__(
        self,
        charset: str,
        split: Split = "train",
        crops: Sequence[Gray] = (),
        paste_share: float = 0.4,
        *,
        corpus: Corpus | None = None,
        backgrounds: tuple[Gray, ...] = (),
        layouts: Layouts = LAYOUTS,
    ) -> None:
        self.corpus = corpus
        self.backgrounds = backgrounds
        self.layouts = layouts
        self.fonts = load_fonts(charset, split)
        self.crops = tuple(crop_ink(crop) for crop in crops if crop.shape[1] > 0.6 * crop.shape[0])
        self.paste_share = paste_share

    def page(self, rng: Rng, side: int = 800) -> RenderedPage:
        """One page of about `side` px a side, its text 8 to 30 px high with headings up to 64."""
        layout = self.layouts[int(rng.choice(len(self.layouts), p=[share for _, share in self.layouts]))][0]
        slip = layout is receipt
        font = choose(rng, self.fonts, 0.6 if slip else 0.15)
        family = next(group for group in self.fonts if font in group)
        width = int(side * (rng.uniform(0.55, 1.0) if slip else rng.uniform(0.8, 1.15)))
        sheet = Sheet(
            rng=rng,
            ink=np.zeros((int(side * rng.uniform(0.9, 1.3)), width), np.uint8),
            font=font,
            bold=family[int(rng.integers(len(family)))],
            size=int(np.exp(rng.uniform(np.log(12), np.log(34)))),
            stretch=rng.uniform(0.42, 1.0) if font.mono and slip else rng.uniform(0.9, 1.1),
            spacing=rng.uniform(0, 1.5) if rng.random() < 0.2 else 0.0,
            pasted=self.crops if slip else (),
            paste_share=self.paste_share * 2 if rng.random() < 0.5 else 0.0,
            corpus=self.corpus,
        )
        layout(sheet)
        if rng.random() < 0.45:
            decorate(sheet)
        ink = augment.worn_ink(rng, sheet.ink) if rng.random() < 0.3 and sheet.size > 13 else sheet.ink
        image = _on_paper(rng, ink)
        if self.backgrounds and rng.random() < BACKGROUND_SHARE:
            image = on_background(rng, image, self.backgrounds)
        return RenderedPage(image, tuple(sheet.segments), tuple(sheet.tables))


def crop_ink(crop: Gray) -> Gray:
    """The ink of a photographed line, uint8, 255 full: the paper is divided away, so no edge of the crop shows."""
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
        desk = augment.desk(rng, image.shape)
        edges = rng.integers(0, 80, 4)
        image = image.copy()
        rows = np.flatnonzero(ink.any(axis=1))
        columns = np.flatnonzero(ink.any(axis=0))
        if len(rows) and len(columns):  # never over the text
            top, left = (min(int(edges[i]), max(0, first[0] - 4)) for i, first in enumerate((rows, columns)))
            right = max(image.shape[1] - int(edges[2]), columns[-1] + 4)
            image[:top], image[:, :left], image[:, right:] = desk[:top], desk[:, :left], desk[:, right:]
    return image


def page_digest(renderer: PageRenderer, seed: int, count: int = 4) -> str:
    """Identity of what `renderer` draws from `seed`: the digest of its first `count` pages."""
    parts = []
    for index in range(count):
        page = renderer.page(np.random.default_rng((seed, index)))
        parts += [page.image.tobytes(), *(s.polygon.tobytes() + s.text.encode() for s in page.segments)]
    return digest_bytes(b"".join(parts))
