"""What of a text was read wrong, for people to see: characters of a line, words of a page."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

from ocr_ops.core.scores import normalise

_JOINER = "\u200d"
_INERT = {char: f"\\{char}" for char in "\\`*_[]|~#$!"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text that is right or wrong as a whole. An empty wrong one: something is missing here."""

    text: str
    wrong: bool


def marked(expected: str, readings: Sequence[str], *, fold: bool) -> tuple[tuple[Piece, ...], ...]:
    """The expected line, then each reading, in pieces. Of the expected, what any reading got wrong is wrong.

    Texts are NFKC-normalised, as they were scored; case is shown as it was read, and compared folded with `fold`.
    A letter and its accents are never parted.
    """
    want = list(_clusters(normalise(expected)))
    missed = [False] * len(want)
    shown = []
    for reading in readings:
        have = list(_clusters(normalise(reading)))
        pieces: list[Piece] = []
        match = SequenceMatcher(None, _keys(want, fold=fold), _keys(have, fold=fold), autojunk=False)
        for kind, start, stop, first, last in match.get_opcodes():
            pieces.append(Piece("".join(have[first:last]), kind != "equal"))
            if kind != "equal":
                missed[start:stop] = [True] * (stop - start)
        shown.append(tuple(pieces))
    told = groupby(zip(want, missed, strict=True), key=lambda entry: entry[1])
    return tuple(Piece("".join(text for text, _ in run), wrong) for wrong, run in told), *shown


def strays(expected: str, reading: str, *, fold: bool) -> tuple[list[str], list[str]]:
    """Words a page's reading missed, and words it made up, each in the order of its text; order does not count."""
    want, have = normalise(expected).split(), normalise(reading).split()
    return list(_left(want, have, fold=fold)), list(_left(have, want, fold=fold))


def _left(words: Sequence[str], others: Sequence[str], *, fold: bool) -> Iterator[str]:
    spare = Counter(_keys(others, fold=fold))
    for word, key in zip(words, _keys(words, fold=fold), strict=True):
        if spare[key]:
            spare[key] -= 1
        else:
            yield word


def _keys(parts: Sequence[str], *, fold: bool) -> list[str]:
    return [part.casefold() for part in parts] if fold else list(parts)


def _clusters(text: str) -> Iterator[str]:
    """Letters with what belongs to them: combining marks, and what a joiner joins."""
    held = ""
    for char in text:
        if held and not (unicodedata.category(char).startswith("M") or _JOINER in (char, held[-1])):
            yield held
            held = ""
        held += char
    if held:
        yield held


def visible(text: str) -> str:
    """Control characters as their pictures: what cannot be seen cannot be compared."""
    return "".join(
        chr(0x2400 + ord(char)) if ord(char) < 32 else "\ufffd" if unicodedata.category(char) == "Cc" else char
        for char in text
    )


def inert(text: object) -> str:
    """Text that Markdown and HTML leave as it is."""
    return "".join(_INERT.get(char, char) for char in visible(str(text)))
