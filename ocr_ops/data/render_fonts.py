"""Fonts of the machine: found, checked for glyphs, split into training and held-out families, and drawn."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from fontTools.ttLib import TTFont, TTLibError
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ocr_ops.core.errors import BadInput

Split = Literal["train", "validation"]
Gray = NDArray[np.uint8]

FONT_FOLDERS = "/usr/share/fonts"
ATLAS_EMS = (24, 48)
"""Sizes, pixels an em, at which letters are kept ready: the smallest that need not be enlarged is drawn from."""
# Families whose letters are not what their code points say, or are no letters.
_UNFIT = re.compile(
    r"caps|initial|symbol|dingbat|icon|math|outline|keyboard|braille|D050000L|awesome|bullets|smallc|-sc|swash|Z003|upright",
    re.IGNORECASE,
)
_MONO = re.compile(
    r"mono|courier|code|typewriter|3270|glass|ocr|consol|hack|spleen|px437|bm437|ibm|cousine|tty", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Font:
    """A face that covers `characters`; `mono` is a guess from its name."""

    path: Path
    family: str
    characters: frozenset[str]
    mono: bool

    def length(self, text: str) -> float:
        """How wide `text` is set, in ems."""
        em = ATLAS_EMS[0]
        letters = _atlas(self.path, em)
        return sum([letters[char].advance for char in text]) / em

    def draw(self, text: str, size: int, spacing: float = 0.0, gap: float = 1.0) -> Gray:
        """The ink of `text` cut to its extent: uint8 (h, w), 255 where ink is full.

        `size` in pixels an em, `spacing` extra pixels between letters, `gap` factor on the space between words.
        Letters come from an atlas, many times faster than FreeType's own lines; no kerning.
        """
        em = next((em for em in ATLAS_EMS if em >= size), ATLAS_EMS[-1])
        scale = size / em
        letters, pen, placed = _atlas(self.path, em), 0.0, []
        for char in text:
            glyph = letters[char]
            placed.append((round(pen) + glyph.left + em, glyph.ink))
            pen += glyph.advance * gap if char == " " else glyph.advance + spacing / scale
        # Column by column: each letter is then one block of memory.
        canvas = np.zeros((round(pen) + 3 * em, 2 * em), np.uint8)
        for left, ink in placed:
            target = canvas[left : left + len(ink)]
            np.maximum(target, ink, out=target)
        ink = tight(np.asarray(cv2.transpose(canvas), np.uint8))
        if em == size:
            return ink
        shape = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
        return np.asarray(cv2.resize(ink, shape, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, slots=True)
class _Glyph:
    """A letter at `em` pixels: ink uint8 (w, 2 em), turned over; pixels from the pen to its left edge and to the next
    pen.
    """

    ink: Gray
    left: int
    advance: float


class _Atlas(dict[str, _Glyph]):
    """The letters of a face at `em` pixels, each drawn when it is first asked for."""

    def __init__(self, path: Path, em: int) -> None:
        super().__init__()
        self.path, self.em = path, em

    def __missing__(self, char: str) -> _Glyph:
        face, em = _face(self.path, self.em), self.em
        left, _, right, _ = (int(side) for side in face.getbbox(char))
        canvas = Image.new("L", (max(1, right - left), 2 * em))
        if char != " ":
            ImageDraw.Draw(canvas).text((-left, em // 4), char, font=face, fill=255)
        ink = np.ascontiguousarray(np.asarray(canvas).T)
        self[char] = glyph = _Glyph(ink, left, face.getlength(char) or em * 0.3)
        return glyph


_atlas = lru_cache(maxsize=1024)(_Atlas)


def tight(ink: Gray) -> Gray:
    """`ink` cut to the box of what is above a faint 24 of 255; a single empty pixel when there is nothing."""
    x, y, width, height = cv2.boundingRect(cv2.threshold(ink, 24, 255, cv2.THRESH_BINARY)[1])
    return ink[y : y + height, x : x + width] if width else np.zeros((1, 1), np.uint8)


@lru_cache(maxsize=1024)
def _face(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def held_out(family: str) -> bool:
    """A tenth of the families, by hash, is never trained on."""
    return hashlib.sha256(family.encode()).digest()[0] < 26


def load_fonts(charset: str, split: Split | None = None) -> tuple[tuple[Font, ...], ...]:
    """The usable faces of this machine, grouped by family, in a stable order.

    `OCR_OPS_FONTS` names folders (parted by a colon) to search instead of the system's.
    `split` keeps the training or the held-out families; with too few families to
    split, or none on that side, all are kept.
    Raises `BadInput` when there is none.
    """
    return _load_fonts(charset, split, os.environ.get("OCR_OPS_FONTS", FONT_FOLDERS))


@lru_cache(maxsize=8)
def _load_fonts(charset: str, split: Split | None, folders: str) -> tuple[tuple[Font, ...], ...]:
    wanted = frozenset(charset)
    families: dict[str, list[Font]] = {}
    for path in sorted(file for folder in folders.split(":") for file in Path(folder).rglob("*")):
        if path.suffix.lower() in (".ttf", ".otf") and not _UNFIT.search(path.stem):
            font = _inspect(path, wanted)
            if font:
                families.setdefault(font.family, []).append(font)
    if not families:
        raise BadInput(folders, "no usable font", "TrueType or OpenType files", "install the packages of ci/fonts.txt")
    groups = [tuple(families[name]) for name in sorted(families)]
    if split and len(groups) >= 10:
        chosen = [group for group in groups if held_out(group[0].family) == (split == "validation")]
        groups = chosen or groups
    return tuple(groups)


def _inspect(path: Path, wanted: frozenset[str]) -> Font | None:
    """The face at `path`, or None when it lacks the Latin alphabet, figures, or does not open."""
    try:
        with path.open("rb") as file, TTFont(file, lazy=True) as font:
            family = str(font["name"].getBestFamilyName() or path.stem)
            if _UNFIT.search(family):
                return None
            covered = wanted & {chr(code) for code in font.getBestCmap() or {}}
        face = _face(path, 32)
        same_case = bytes(face.getmask("g")) == bytes(face.getmask("G"))
    except (TTLibError, OSError, KeyError, ValueError, AssertionError, AttributeError):
        return None
    if same_case:  # capitals drawn for small letters would teach the wrong case
        covered -= {char for char in covered if char.islower()}
    needed = wanted & set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ.-:")
    return Font(path, family, covered, bool(_MONO.search(path.stem))) if needed <= covered else None


def choose(rng: np.random.Generator, groups: tuple[tuple[Font, ...], ...], mono_share: float) -> Font:
    """A family, then a face of it; a `mono_share` of the draws comes from the monospaced families."""
    mono = rng.random() < mono_share
    for _ in range(32):
        group = groups[int(rng.integers(len(groups)))]
        if group[0].mono == mono:
            break
    return group[int(rng.integers(len(group)))]
