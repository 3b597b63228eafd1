"""Orientation: which way up a page lies, told by how well it reads. It takes no network of its own.

Text read upside-down or on its side gives few words anybody would be sure of. The page is read as it comes; only
when that reading is doubtful are a few of its pieces read the other ways.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Orientation, Page
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.layout import placed

SURE = 0.84
"""Mean confidence of a page's characters from which on it stands upright. On real pages: upright 0.86 to 0.98,
upside-down 0.61 to 0.80, on their sides 0.36 to 0.76."""
LOST = 0.78
"""Mean confidence below which a page may also lie on its side."""
CLEAR = 0.9
"""Mean confidence from which on a word counts as read."""
LEAST = 12
"""Characters in clear words below which nothing is said about a page: a lone word is never turned."""
MARGIN = 2.0
"""How many times as many characters in clear words one way must give to be the right one. On real pages, the right
way gives five times as many and more."""
CROOKED = 3.0
"""Degrees from which on a page is levelled and read anew: boxes follow their text that far."""
PROBES = 8
"""Pieces that are read the other ways."""
PROBE = 12.0
"""Heights of a piece's length that make a good probe: some words, at a fair price."""


def _marks(text: str) -> int:
    """Letters and figures. Rows of dots and dashes look alike upside-down, and say nothing of how a page lies."""
    return sum(map(str.isalnum, text))


@dataclass(frozen=True, slots=True)
class Pieces:
    """What was found on a page that was held one way, and what was read there."""

    polygons: NDArray[np.float32]
    """(N, 4, 2), in pixels of the page as it was held."""
    texts: Sequence[Decoded]

    @property
    def confidence(self) -> float:
        """Mean over all letters and figures; 0 of none."""
        marks = [_marks(text.text) for text in self.texts]
        told = sum(text.confidence * many for text, many in zip(self.texts, marks, strict=True))
        return told / sum(marks) if any(marks) else 0.0

    @property
    def clear(self) -> int:
        """Letters and figures in words that are `CLEAR`."""
        return sum(_marks(word.text) for text in self.texts for word in text.words if word.confidence >= CLEAR)

    @property
    def lying(self) -> bool:
        """Whether most of the text, by length, was found running down the page."""
        along = (self.polygons[:, 1] - self.polygons[:, 0] + self.polygons[:, 2] - self.polygons[:, 3]) / 2
        length = np.hypot(along[:, 0], along[:, 1])
        return bool(length[np.abs(along[:, 1]) > np.abs(along[:, 0])].sum() > length.sum() / 2)

    @property
    def crooked(self) -> bool:
        """Whether most of the text, by length, runs `CROOKED` degrees or more off the page's sides."""
        along = (self.polygons[:, 1] - self.polygons[:, 0] + self.polygons[:, 2] - self.polygons[:, 3]) / 2
        length = np.hypot(along[:, 0], along[:, 1])
        degrees = np.degrees(np.arctan2(along[:, 1], along[:, 0]))
        off = np.abs((degrees + 45) % 90 - 45)
        return bool(length[off >= CROOKED].sum() > length.sum() / 2)

    @property
    def doubtful(self) -> bool:
        """Whether the page may lie otherwise than it was held."""
        return len(self.polygons) > 0 and (self.confidence < SURE or self.lying)

    @property
    def lost(self) -> bool:
        """Whether the page may lie on its side."""
        return self.confidence < LOST or self.lying

    def at(self, indices: NDArray[np.intp]) -> "Pieces":
        """Only these."""
        return Pieces(self.polygons[indices], [self.texts[i] for i in indices])

    def beats(self, other: "Pieces", margin: float = MARGIN) -> bool:
        """Whether this way of reading is the right one of the two."""
        return self.clear >= max(LEAST, margin * other.clear)


def probes(polygons: NDArray[np.float32]) -> NDArray[np.intp]:
    """Indices of the `PROBES` pieces, of (N, 4, 2), that are nearest to `PROBE` heights long."""
    length = np.linalg.norm(polygons[:, 1] - polygons[:, 0], axis=1)
    height = np.linalg.norm(polygons[:, 3] - polygons[:, 0], axis=1)
    away = np.abs(np.log(np.maximum(length, 1.0) / np.maximum(height, 1.0) / PROBE))
    return np.argsort(away, kind="stable")[:PROBES]


def flipped(polygons: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same places (N, 4, 2), to be read upside-down: each from its other end."""
    return np.roll(polygons, 2, axis=1)


def turned(page: NDArray[np.uint8], degrees: Orientation) -> NDArray[np.uint8]:
    """The page, uint8 (H, W) or (H, W, C), turned against the clock."""
    return np.ascontiguousarray(np.rot90(page, degrees // 90))


def as_given(page: Page, orientation: Orientation) -> Page:
    """A page that was read upright, in pixels of the page as it came: turned clockwise by `orientation` degrees."""
    if not orientation:
        return page
    width, height = page.width, page.height
    across, down = (width, height) if orientation == 180 else (height, width)
    back = {90: ((0, -1, height), (1, 0, 0)), 180: ((-1, 0, width), (0, -1, height)), 270: ((0, 1, 0), (-1, 0, width))}
    turned = placed(page, np.array(back[orientation], np.float64), across, down)
    return turned.model_copy(update={"orientation": orientation})
