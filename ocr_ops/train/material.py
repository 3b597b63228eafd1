"""What a training may learn from beside the renderer's own: folders anyone can add."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Material:
    """Folders; all of them may be missing."""

    lines: tuple[Path, ...] = ()
    """Labelled line crops."""
    pages: tuple[Path, ...] = ()
    """Labelled pages."""
    corpus: Path | None = None
    """Plain text, written by the renderer."""
    backgrounds: Path | None = None
    """Images of empty paper, written on by the renderer."""
    apart: frozenset[str] = frozenset()
    """Documents that are neither learnt from nor examined: kept for a judgement after the training."""


NOTHING = Material()
