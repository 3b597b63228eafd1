"""Synthetic text lines: a grey crop as a detector would cut it, and its text."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.record import digest_bytes
from ocr_ops.data import render_augment as augment
from ocr_ops.data import render_text
from ocr_ops.data.render_fonts import Font, Split, choose, load_fonts
from ocr_ops.data.render_material import Corpus, on_background

Gray = NDArray[np.uint8]
Rng = np.random.Generator

CORPUS_SHARE = 0.5
"""Lines out of a corpus, where there is one; the rest comes from the grammars of `render_text`."""
BACKGROUND_SHARE = 0.3
"""Lines on a given background, where there are some."""
EMS_A_HEIGHT = 0.62
"""Ems of text that fit a crop for each of its heights, with room for margins and wide setting."""
DASHES = "-\N{EN DASH}\N{EM DASH}=~"


class LineRenderer:
    """Draws lines of `charset` with the machine's fonts of one `split`. A line is a pure function of its generator."""

    def __init__(
        self,
        charset: str,
        split: Split = "train",
        strength: float = 1.0,
        *,
        corpus: Corpus | None = None,
        backgrounds: tuple[Gray, ...] = (),
    ) -> None:
        self.charset = charset
        self.corpus = corpus
        self.backgrounds = backgrounds
        self.fonts = load_fonts(charset, split)
        self.strength = strength

    def line(self, rng: Rng, longest: int = 1024) -> tuple[Gray, str]:
        """One crop, uint8 (h, w) with h about 10 to 70 px, and its text.

        Redrawn while it would be wider than `longest` px at a height of 32.
        """
        while True:
            font = choose(rng, self.fonts, 0.4)
            text = _shortened(fitting(self._text(rng), font), font, longest / 32 * EMS_A_HEIGHT)
            ink = self._ink(rng, font, text)
            if ink.shape[0] > 2 and ink.shape[1] * 32 <= longest * ink.shape[0] * 0.8:
                return self._crop(rng, ink), text

    def _text(self, rng: Rng) -> str:
        if self.corpus and rng.random() < CORPUS_SHARE:
            text = "".join(char for char in self.corpus.phrase(rng, 1, 8) if char in self.charset)
            if text.strip():
                return " ".join(text.split())
        return render_text.line(rng, self.charset)

    def blank(self, rng: Rng) -> Gray:
        """A crop of what a detector takes for text and is none: specks, strokes, blobs, bars, rules, texture."""
        height = int(rng.integers(10, 48))
        width = int(height * np.exp(rng.uniform(np.log(1.6), np.log(10))))  # narrow ones would look like letters
        ink = np.zeros((height, width), np.uint8)
        draw, tone = rng.random(), (int(rng.integers(120, 256)),)
        spots = rng.integers((0, 0), (width, height), (int(rng.integers(2, 9)), 2))
        if draw < 0.25:
            for x, y in spots:
                cv2.circle(ink, (int(x), int(y)), int(rng.integers(0, max(2, height // 7))), tone, -1)
        elif draw < 0.45:
            cv2.polylines(ink, [spots[:4].astype(np.int32)], False, tone, int(rng.integers(1, 4)))
        elif draw < 0.6:
            size = (width // 2, int(height * rng.uniform(0.2, 0.6)))
            cv2.ellipse(ink, (width // 2, height // 2), size, 0, 0, 360, tone, int(rng.integers(-1, 4)) or -1)
        elif draw < 0.7:
            ink[:] = np.repeat(rng.integers(0, 2, width // 2 + 1), 2)[:width].astype(np.uint8) * 255
        elif draw < 0.85:
            grain = (rng.random((max(2, height // 2), max(2, width // 2)), dtype=np.float32) * 255).astype(np.uint8)
            grain = np.where(grain > rng.integers(100, 250), 255, 0).astype(np.uint8)
            ink = np.asarray(cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        elif draw < 0.95:
            ink[height // 2 : height // 2 + int(rng.integers(1, 4))] = tone[0]
            ink[:, :: int(rng.integers(2, 9))] = 0
        return augment.camera(rng, augment.paper(rng, ink), self.strength)

    def _ink(self, rng: Rng, font: Font, text: str) -> Gray:
        size = int(np.exp(rng.uniform(np.log(9), np.log(46))))
        spacing = rng.uniform(-0.04, 0.18) * size if rng.random() < 0.25 else 0.0
        gap = 1.0 if rng.random() < 0.6 else float(np.exp(rng.uniform(np.log(0.6), np.log(2.2))))
        ink = font.draw(text, size, spacing, gap)
        stretch = self._stretch(rng, mono=font.mono)
        if stretch != 1.0:
            size_x = max(1, round(ink.shape[1] * stretch))
            ink = np.asarray(cv2.resize(ink, (size_x, ink.shape[0]), interpolation=cv2.INTER_AREA), np.uint8)
        if font.mono and rng.random() < 0.12 and ink.shape[0] > 12:
            ink = augment.dots(rng, ink)
        if rng.random() < 0.35 * self.strength:
            ink = augment.worn_ink(rng, ink)
        # A dash or a dot is cut with the height of its line, not of its ink.
        least = round(size * rng.uniform(0.45, 0.75))
        if ink.shape[0] < least:
            extra = least - ink.shape[0]
            above = (
                int(rng.integers(extra + 1))
                if text in DASHES
                else round(extra * rng.uniform(0.6, 1.0))
                if text[0] in ".,_"
                else extra // 2
            )
            ink = cv2.copyMakeBorder(ink, above, extra - above, 0, 0, cv2.BORDER_CONSTANT, value=(0,)).astype(np.uint8)
        return ink

    def _stretch(self, rng: Rng, *, mono: bool) -> float:
        """Widths of real print: tills write narrow, and stress with letters of double height or double width."""
        draw = rng.random()
        if draw < 0.35:
            return 1.0
        if draw < 0.41:
            return float(rng.uniform(1.3, 2.2))
        if mono and draw < 0.50:
            return float(rng.uniform(0.36, 0.5))
        return float(rng.uniform(0.5, 1.05) if mono else rng.uniform(0.7, 1.3))

    def _crop(self, rng: Rng, ink: Gray) -> Gray:
        height = ink.shape[0]
        top, bottom = (max(0, round(height * rng.normal(0.14, 0.09))) for _ in range(2))
        left, right = (round(height * rng.uniform(0.0, 0.4)) for _ in range(2))
        framed = cv2.copyMakeBorder(ink, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0,))
        canvas = np.asarray(framed, np.uint8)
        if rng.random() < 0.3 * self.strength:
            canvas = augment.warp(rng, canvas, 0)
        if rng.random() < 0.12 * self.strength:
            self._bleed(rng, canvas)
        if rng.random() < 0.06 * self.strength:
            self._rule(rng, canvas)
        image = augment.paper(rng, canvas)
        if self.backgrounds and rng.random() < BACKGROUND_SHARE:
            image = on_background(rng, image, self.backgrounds)
        image = augment.camera(rng, image, self.strength)
        return augment.reframe(rng, image, 0.06, 0.12) if rng.random() < 0.3 * self.strength else image

    def _bleed(self, rng: Rng, canvas: Gray) -> None:
        """The feet of the line above or the heads of the line below come into the crop."""
        font = choose(rng, self.fonts, 0.4)
        other = font.draw(fitting(render_text.receipt(rng), font), max(8, int(canvas.shape[0] * 0.7)))
        rows = min(other.shape[0], max(1, int(canvas.shape[0] * rng.uniform(0.04, 0.16))))
        left = int(rng.integers(-other.shape[1] // 2, max(1, canvas.shape[1] - 4)))
        part = other[:, max(-left, 0) : max(-left, 0) + canvas.shape[1] - max(left, 0)]
        rng_above = rng.random() < 0.5
        target = canvas[:rows] if rng_above else canvas[-rows:]
        target = target[:, max(left, 0) : max(left, 0) + part.shape[1]]
        np.maximum(target, part[-rows:] if rng_above else part[:rows], out=target)

    def _rule(self, rng: Rng, canvas: Gray) -> None:
        """A ruled line near an edge, or a table's upright at an end."""
        height, width = canvas.shape
        thick = int(rng.integers(1, max(2, height // 12) + 1))
        if rng.random() < 0.75:
            row = int(height * rng.uniform(0.88, 1.0)) if rng.random() < 0.7 else int(height * rng.uniform(0.0, 0.08))
            canvas[row : row + thick] = int(rng.integers(120, 256))
        else:
            column = width - thick - 1 if rng.random() < 0.5 else 0
            canvas[:, column : column + thick] = int(rng.integers(120, 256))


def _shortened(text: str, font: Font, longest: float) -> str:
    """`text` without the last words that reach beyond `longest` ems."""
    while " " in text and font.length(text) > longest:
        text = text.rpartition(" ")[0]
    return text


def fitting(text: str, font: Font) -> str:
    """`text` without the characters `font` cannot draw (a missing glyph's box would poison the label)."""
    if font.characters.issuperset(text):
        return text
    upper = "".join(char if char in font.characters else char.upper() for char in text)
    return " ".join("".join(char for char in upper if char in font.characters or char == " ").split()) or "0"


def to_height(crop: Gray, height: int, stride: int, longest: int) -> Gray:
    """`crop` resized to `height` px keeping its aspect; its width becomes a multiple of `stride`, at most `longest`."""
    width = crop.shape[1] * height / crop.shape[0]
    width = min(longest, max(stride, round(width / stride) * stride))
    way = cv2.INTER_AREA if crop.shape[0] > height else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(crop, (width, height), interpolation=way), np.uint8)


def line_digest(renderer: LineRenderer, seed: int, count: int = 16) -> str:
    """Identity of what `renderer` draws from `seed`: the digest of its first `count` lines."""
    parts = []
    for index in range(count):
        crop, text = renderer.line(np.random.default_rng((seed, index)))
        parts.append(crop.tobytes() + text.encode())
    return digest_bytes(b"".join(parts))
