"""What anyone may add to the renderer by a folder: running text and sheets of paper. (Fonts: see `render_fonts`.)"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import digest_bytes

Gray = NDArray[np.uint8]
Rng = np.random.Generator

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})


@dataclass(frozen=True, slots=True)
class Corpus:
    """Lines of text, white space normalised."""

    lines: tuple[str, ...]

    @property
    def digest(self) -> str:
        return digest_bytes("\n".join(self.lines).encode())

    def phrase(self, rng: Rng, low: int, high: int) -> str:
        """`low` to `high` words that follow each other; fewer where a line ends. Mostly in the case they have."""
        words = self.lines[int(rng.integers(len(self.lines)))].split(" ")
        count = int(rng.integers(low, high + 1))
        start = int(rng.integers(max(1, len(words) - count + 1)))
        text = " ".join(words[start : start + count])
        draw = rng.random()
        if draw < 0.08:
            return text.upper()
        return text.title() if draw < 0.14 else text


@lru_cache(maxsize=4)
def load_corpus(folder: Path) -> Corpus:
    """The `.txt` files (UTF-8) below `folder`. Raises `BadInput` when there is no text in them."""
    lines: list[str] = []
    for path in sorted(folder.rglob("*.txt")):
        try:
            lines += (" ".join(line.split()) for line in path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(path, str(error), "text in UTF-8", "save it as UTF-8, or take it away") from None
    lines = [line for line in lines if line]
    if not lines:
        raise BadInput(folder, "no text", ".txt files in UTF-8", "point --corpus at a folder of them")
    return Corpus(tuple(lines))


@lru_cache(maxsize=4)
def load_backgrounds(folder: Path) -> tuple[Gray, ...]:
    """The images below `folder`, uint8 (h, w), grey: paper without text. Raises `BadInput` when one is unreadable."""
    grounds = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise BadInput(path, "unreadable", "an image of empty paper", "save it again, or take it away")
        grounds.append(np.asarray(image, np.uint8))
    if not grounds:
        raise BadInput(folder, "no image", "images of empty paper", "point --backgrounds at a folder of them")
    return tuple(grounds)


def on_background(rng: Rng, image: Gray, grounds: tuple[Gray, ...]) -> Gray:
    """`image`, uint8 (h, w), as if printed on a piece of one of the `grounds`: both darken."""
    ground = grounds[int(rng.integers(len(grounds)))]
    height, width = (min(side, limit) for side, limit in zip(image.shape, ground.shape, strict=True))
    top, left = (int(rng.integers(limit - side + 1)) for side, limit in zip((height, width), ground.shape, strict=True))
    piece = cv2.resize(ground[top : top + height, left : left + width], image.shape[::-1])
    brightest = max(1.0, float(np.percentile(piece, 95)))
    return np.asarray(np.clip(image * (piece / brightest), 0, 255), np.uint8)
