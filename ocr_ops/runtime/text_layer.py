"""Whether a PDF page's own text is what the page shows, and if so the page that it makes.

A layer is taken when its letters are characters, and stand where there is ink of their shape. What looks like text
beside it, and has no letters, is then still to be read from the page's pixels; else the whole page is.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import cv2
import numpy as np
import pypdfium2
from numpy.typing import NDArray

from ocr_ops.core.reading import Orientation, Page
from ocr_ops.runtime import orientation
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.layout import assemble
from ocr_ops.runtime.pdf_text import Extent, Letter, box, extent, letters_of, lines_of, text_of, words_of
from ocr_ops.runtime.recognition import MARGIN_X

INK_DPI = 100
"""Of the picture that the layer is judged by."""
CONTRAST = 30
"""Of 255, between paper and print."""
MOST_LETTERS = 100_000
STRANGE = 0.05
"""Share of letters that no character stands for, or another than the font draws."""
UNSEEN = 0.3
"""Share of letters without ink where they should stand. Such lines are left out."""
UNSEEN_OF_SCAN = 0.05
UNREAD = 0.1
"""Share of what looks like letters, and has none, from which on a scan's earlier recognition is not believed."""
LEAST_UNREAD = 12
"""Marks that look like letters and have none, from which on they are read beside the text that is sound."""
PLAIN = 0.5
"""Least share of letters and figures among all marks."""
FILLED = 0.25
"""Share of the spaces between words where the page shows something."""
LEAST_GAPS = 8
LONGEST_WORD = 25
ODD_WORDS = 0.15
"""Share of words that no language has, in text that was recognized in a scan."""
SURE = 1.0
SURE_OF_SCAN = 0.9
_SHORT, _TALL = frozenset("acemnorsuvwxz"), frozenset("bdfhklgpqy")
_LINE_END_HYPHENS = "\x02\ufffe"
"""What PDFium makes of a hyphen that parts a word at a line's end."""
_LEADERS = frozenset("._-…·")

Mask = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A page made of a text layer; or none, and why."""

    page: Page | None
    reason: str = "sound"
    painted: tuple[Extent, ...] = ()
    """Where the text stands, if the page shows text beside it that is still to be read."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A line of letters that are read in one direction."""

    letters: list[Letter]
    """Turned level."""
    turn: int
    """Quarter turns clockwise, from level to where they stand."""


def own_text(page: pypdfium2.PdfPage, width: int, height: int) -> Judgement:
    """The page of a PDF by its text layer, in pixels of its picture of `width` x `height`.

    Call it under PDFium's lock.
    """
    layer = page.get_textpage()
    try:
        count = layer.count_chars()
        if not 0 < count <= MOST_LETTERS:
            return Judgement(None, "no text" if not count else "more letters than a page has")
        letters = letters_of(page, layer, width, height)
    finally:
        layer.close()
    letters = [letter for letter in letters if not _solid(letter) or _inside(letter, width, height)]
    for letter in letters:
        letter.char = "-" if letter.char in _LINE_END_HYPHENS else letter.char
    pieces = list(_pieces(letters, width, height))
    if not pieces:
        return Judgement(None, "no text")
    ink = _Ink.of(page, width)
    seen = [piece for piece in pieces if ink.under(_place(extent(piece.letters), piece.turn, width, height), 1)]
    reason = _fault(pieces, seen) or _misplaced(ink, seen, (width, height))
    if reason:
        return Judgement(None, reason)
    places = [_place(extent(piece.letters), piece.turn, width, height) for piece in seen]
    askew = [letter for letter in letters if letter.turn is None and _solid(letter)]
    unread = ink.beside([*places, *((one.left, one.top, one.right, one.bottom) for one in askew)])
    if _scan(pieces):
        found = unread > UNREAD * sum(map(_solid, letters))
        return Judgement(None, "text that has no letters") if found else Judgement(_page(seen, ink.grey, width, height))
    painted = tuple(places) if unread >= LEAST_UNREAD else ()
    return Judgement(_page(seen, ink.grey, width, height), painted=painted)


def without(image: NDArray[np.uint8], places: Sequence[Extent]) -> NDArray[np.uint8]:
    """A page, uint8 (H, W, 3) RGB, with these places painted over in the colour that is around each."""
    made = image.copy() if places else image
    for x0, y0, x1, y1 in places:
        pad = max(2, round(0.15 * min(x1 - x0, y1 - y0)))
        left, top = max(0, int(x0) - pad), max(0, int(y0) - pad)
        part = made[top : int(y1) + pad + 1, left : int(x1) + pad + 1]
        if part.size:
            edge = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
            part[:] = np.median(edge, axis=0)
    return made


def _solid(letter: Letter) -> bool:
    return letter.char not in " \n"


def _inside(letter: Letter, width: int, height: int) -> bool:
    return 0 <= letter.left + letter.right <= 2 * width and 0 <= letter.top + letter.bottom <= 2 * height


def _pieces(letters: Sequence[Letter], width: int, height: int) -> Iterator[_Piece]:
    """The lines of a page, whichever way they are turned or read. Text that is askew is left out."""
    for (turn, leftward), run in groupby(_ways(letters), lambda way: way[:2]):
        if turn is None:
            continue
        level = [_level(letter, turn, width, height) if turn and _solid(letter) else letter for *_, letter in run]
        for line in lines_of([_mirrored(letter) for letter in level] if leftward else level):
            if text_of(line):
                yield _Piece([_mirrored(letter) for letter in line] if leftward else line, turn)


def _ways(letters: Sequence[Letter]) -> Iterator[tuple[int | None, bool, Letter]]:
    """Each letter with its turn, and whether it is read from right to left: spaces and marks as what is before them."""
    turn: int | None = 0
    leftward = False
    for letter in letters:
        if _solid(letter):
            turn = letter.turn
        direction = unicodedata.bidirectional(letter.char)
        if direction in {"L", "R", "AL", "EN", "AN"}:
            leftward = direction in {"R", "AL"}
        yield turn, leftward, letter


def _mirrored(letter: Letter) -> Letter:
    return replace(letter, left=-letter.right, right=-letter.left)


def _level(letter: Letter, turn: int, width: int, height: int) -> Letter:
    """The letter on the page turned so that it stands upright."""
    x0, y0, x1, y1 = letter.left, letter.top, letter.right, letter.bottom
    if turn == 1:
        x0, y0, x1, y1 = y0, width - x1, y1, width - x0
    elif turn == 2:
        x0, y0, x1, y1 = width - x1, height - y1, width - x0, height - y0
    elif turn == 3:
        x0, y0, x1, y1 = height - y1, x0, height - y0, x1
    return replace(letter, left=x0, top=y0, right=x1, bottom=y1)


def _corners(sides: Extent, turn: int, width: int, height: int) -> NDArray[np.float64]:
    """Corners (4, 2) on the page, clockwise from the text's top-left, of a box on the page turned level."""
    x0, y0, x1, y1 = sides
    x, y = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]).T
    if turn == 1:
        x, y = width - y, x
    elif turn == 2:
        x, y = width - x, height - y
    elif turn == 3:
        x, y = y, height - x
    return np.stack([x, y], axis=1)


def _place(sides: Extent, turn: int, width: int, height: int) -> Extent:
    """A box on the page turned level, on the page."""
    corners = _corners(sides, turn, width, height)
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return x0, y0, x1, y1


def _fault(pieces: Sequence[_Piece], seen: Sequence[_Piece]) -> str:
    """What is wrong with the text by itself; nothing of sound text."""
    solid = [letter for piece in pieces for letter in piece.letters if _solid(letter)]
    garbled = _garbled(pieces)
    strange = sum(letter.unknown or letter.font in garbled or _strange(letter.char) for letter in solid)
    words = [text_of(word) for piece in pieces for word in words_of(piece.letters)]
    marks = [letter.char for letter in solid if letter.char not in _LEADERS]
    scan = _scan(pieces)
    shown = sum(_solid(letter) for piece in seen for letter in piece.letters)
    if strange > STRANGE * len(solid):
        return "letters that no character stands for"
    if sum(mark.isalnum() for mark in marks) < PLAIN * len(marks):
        return "marks rather than words"
    if _run_together(words) or _spaced_out(words):
        return "words that are not parted"
    if shown < (1 - (UNSEEN_OF_SCAN if scan else UNSEEN)) * len(solid):
        return "letters where the page shows none"
    if scan and sum(map(_odd, words)) > ODD_WORDS * len(words):
        return "poorly recognized text"
    return ""


def _scan(pieces: Sequence[_Piece]) -> bool:
    """Whether most of the letters are those that were recognized in a scan."""
    solid = [letter for piece in pieces for letter in piece.letters if _solid(letter)]
    return sum(letter.hidden for letter in solid) > len(solid) / 2


def _misplaced(ink: "_Ink", pieces: Sequence[_Piece], size: tuple[int, int]) -> str:
    """What is wrong with where the text stands; nothing of sound text."""
    gaps = [_place(gap, piece.turn, *size) for piece in pieces for gap in _gaps(piece, 4 / ink.scale)]
    if len(gaps) >= LEAST_GAPS and sum(map(ink.under, gaps)) > FILLED * len(gaps):
        return "words that stand across those of the page"
    return ""


def _gaps(piece: _Piece, least: float) -> Iterator[Extent]:
    """The middle of each space between two words that is wide enough, above where a line may be drawn under them."""
    _, top, _, bottom = extent(piece.letters)
    for word, after in pairwise(sorted(map(extent, words_of(piece.letters)))):
        middle = (word[2] + after[0]) / 2
        if after[0] - word[2] > least:
            yield middle, top, middle, top + 0.7 * (bottom - top)


def _strange(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Co", "Cn", "Cs"}


def _garbled(pieces: Sequence[_Piece]) -> set[int]:
    """Fonts whose letters have not the shapes of their characters: an `l` should be higher than an `a`.

    Broken tables of characters give text that looks well until it is read.
    """
    short, tall = defaultdict(list), defaultdict(list)
    for piece in pieces:
        highest = max(letter.bottom - letter.top for letter in piece.letters)
        for letter in piece.letters:
            share = (letter.bottom - letter.top) / max(highest, 1e-6)
            if letter.char in _SHORT:
                short[letter.font].append(share)
            elif letter.char in _TALL:
                tall[letter.font].append(share)
    return {font for font in short if len(short[font]) >= 20 <= len(tall[font]) and _alike(short[font], tall[font])}


def _alike(short: Sequence[float], tall: Sequence[float]) -> bool:
    """Whether tall letters are seldom higher than short ones, though letters differ in height at all."""
    heights, others = np.array(short), np.sort(np.array(tall))
    higher = 1 - np.searchsorted(others, heights * 1.1).mean() / len(others)
    return bool(higher < 0.75 and heights.std() > 0.1 * heights.mean())


def _run_together(words: Sequence[str]) -> bool:
    """Scripts that part no words have letters without case."""
    cased = [word for word in words if word.lower() != word.upper()]
    return sum(len(word) for word in cased if len(word) > LONGEST_WORD) > 0.5 * sum(map(len, cased))


def _spaced_out(words: Sequence[str]) -> bool:
    cased = [word for word in words if word.lower() != word.upper()]
    return len(cased) > 20 and sum(len(word) == 1 for word in cased) > 0.6 * len(cased)


def _odd(word: str) -> bool:
    """Whether a word looks misread: a figure or capital amid small letters, marks that text seldom has, marks alone."""
    kinds = "".join(
        "a" if char.islower() else "A" if char.isupper() else "0" if char.isdigit() else "." for char in word
    )
    alone = len(word) > 2 and not any(char.isalnum() for char in word)
    return alone or "a0a" in kinds or "aAa" in kinds or any(mark in word for mark in "|~^_\\<>¬°{}")


@dataclass(frozen=True, slots=True)
class _Ink:
    """What a page shows, small: strokes of either dark on light or light on dark."""

    mask: Mask
    grey: Mask
    """As it was rendered."""
    scale: float

    @classmethod
    def of(cls, page: pypdfium2.PdfPage, width: int) -> "_Ink":
        bitmap = page.render(scale=min(INK_DPI / 72, width / page.get_width()), grayscale=True)
        try:
            gray = np.array(bitmap.to_numpy()).reshape(bitmap.height, bitmap.width)
        finally:
            bitmap.close()
        # Of the lightest and the darkest around, paper is what most of the surroundings are nearer to.
        kernel = np.ones((25, 25), np.uint8)
        light, dark = cv2.morphologyEx(gray, cv2.MORPH_CLOSE, kernel), cv2.morphologyEx(gray, cv2.MORPH_OPEN, kernel)
        mean = cv2.blur(gray, (51, 51)).astype(np.int16)
        on_light = 2 * mean >= cv2.blur(light, (51, 51)).astype(np.int16) + cv2.blur(dark, (51, 51))
        mask = (np.where(on_light, light - gray, gray - dark) > CONTRAST).astype(np.uint8)
        return cls(mask, gray, gray.shape[1] / width)

    def _part(self, sides: Extent, pad: int = 0) -> tuple[slice, slice]:
        x0, y0, x1, y1 = (round(side * self.scale) for side in sides)
        return slice(max(0, y0 - pad), max(0, y1 + 1 + pad)), slice(max(0, x0 - pad), max(0, x1 + 1 + pad))

    def under(self, sides: Extent, pad: int = 0) -> bool:
        """Whether anything is shown there."""
        return bool(self.mask[self._part(sides, pad)].any())

    def beside(self, places: Sequence[Extent]) -> int:
        """How many marks elsewhere look like letters in a row."""
        covered = np.zeros_like(self.mask)
        for sides in places:
            covered[self._part(sides, 2)] = 1
        _, _, stats, centres = cv2.connectedComponentsWithStats(self.mask, connectivity=8)
        x, y, w, h, area = stats[1:].T
        free = covered[centres[1:, 1].astype(int), centres[1:, 0].astype(int)] == 0
        like = free & (h >= 4) & (h <= 40) & (w <= 60) & (w <= 6 * h) & (area >= 4)
        return _in_rows(self.mask.shape, x[like], y[like], w[like], h[like])


def _in_rows(shape: tuple[int, ...], x: Mask, y: Mask, w: Mask, h: Mask) -> int:
    """How many of these marks stand in rows of four or more."""
    rows = np.zeros(shape, np.uint8)
    for left, top, wide, high in zip(x, y, w, h, strict=True):
        rows[top : top + high, max(0, left - high // 2 - 1) : left + wide + high // 2 + 1] = 1
    _, labels, stats, _ = cv2.connectedComponentsWithStats(rows, connectivity=4)
    row = labels[y + h // 2, x + w // 2]
    found = 0
    for label in np.unique(row):
        high = h[row == label]
        if len(high) >= 4 and stats[label, cv2.CC_STAT_HEIGHT] <= 1.6 * np.median(high) + 2:
            found += len(high)
    return found


def _page(pieces: Sequence[_Piece], grey: Mask, width: int, height: int) -> Page:
    """Laid out as a page of recognized pieces is, upright by the way most letters stand; `grey` shows its rules."""
    sizes = [0] * 4
    for piece in pieces:
        sizes[piece.turn] += len(piece.letters)
    most = max(range(4), key=sizes.__getitem__)
    degrees: Orientation = (0, 90, 180, 270)[most]
    across, down = (height, width) if most % 2 else (width, height)
    polygons, texts = [], []
    for piece in pieces:
        corners = _corners(box(piece.letters), piece.turn, width, height)
        polygons.append(_upright(corners, most, width, height).astype(np.float32))
        texts.append(_decoded(piece.letters))
    pixels = np.asarray(cv2.resize(orientation.turned(grey, degrees), (across, down)), np.uint8)
    page = orientation.as_given(assemble(across, down, polygons, texts, pixels), degrees)
    return page.model_copy(update={"source": "text-layer"})


def _upright(corners: NDArray[np.float64], turn: int, width: int, height: int) -> NDArray[np.float64]:
    x, y = corners.T
    if turn == 1:
        x, y = y, width - x
    elif turn == 2:
        x, y = width - x, height - y
    elif turn == 3:
        x, y = height - y, x
    return np.stack([x, y], axis=1)


def _decoded(line: list[Letter]) -> Decoded:
    """A line as a recognizer tells it: its characters, and which share of its box each takes."""
    x0, y0, x1, y1 = box(line)
    margin = MARGIN_X * (y1 - y0)
    text, spans = "", list[tuple[float, float]]()
    for word in words_of(line):
        characters = text_of(word)
        if characters == "\ufffd":  # a bullet in a font of its own
            characters = "•"
        left, _, right, _ = extent(word)
        first, last = ((side - x0 + margin) / (x1 - x0 + 2 * margin) for side in (left, right))
        if text:
            spans.append((spans[-1][1], first))
            text += " "
        step = (last - first) / max(len(characters), 1)
        spans += [(first + i * step, first + (i + 1) * step) for i in range(len(characters))]
        text += characters
    sure = SURE_OF_SCAN if any(letter.hidden for letter in line) else SURE
    return Decoded(text, (sure,) * len(text), tuple(spans))
