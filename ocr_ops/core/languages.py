"""Languages: which of them a recogniser can write, by the letters each needs.

`languages.tsv`: a BCP 47 tag and the language's letters in lower case, a line each, as CLDR 48.2 lists them (exemplar
characters, main set), apart from marks and modifier letters of scripts that are read without them. Of Chinese,
Japanese and Korean the commonest characters stand for all: whoever has these has the others.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ocr_ops.core.errors import UnwritableLanguage

_TABLE = Path(__file__).with_name("languages.tsv")
_NO_CAPITAL = frozenset("ÿ")
"""Letters no word begins with; `ß` and its like have no capital that is one character."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language by its BCP 47 tag."""

    tag: str
    letters: str
    """In lower case and as the first of a word."""

    def writable(self, charset: str) -> bool:
        return set(self.letters) <= set(charset)


@cache
def languages() -> dict[str, Language]:
    """All in the table, by tag."""
    found = {}
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        tag, lower = line.split("\t")
        capitals = (char.title() for char in lower if char not in _NO_CAPITAL)
        letters = {*lower, *(char for char in capitals if len(char) == 1)}
        found[tag] = Language(tag, "".join(sorted(letters)))
    return found


@cache
def writable(charset: str) -> tuple[str, ...]:
    """Tags of the languages that can be written with these characters."""
    return tuple(tag for tag, language in languages().items() if language.writable(charset))


def require_writable(tag: str, charset: str) -> None:
    """`UnwritableLanguage` for one that these characters do not suffice for, or that is not in the table.

    `de-AT` is `de`; a script that the table tells apart, such as `sr-Latn`, is a language of its own.
    """
    language = _known(tag)
    if language is not None and language.writable(charset):
        return
    missing = "" if language is None else "".join(sorted(set(language.letters) - set(charset)))
    found = f"cannot be written by this release, which lacks {missing[:20]}" if missing else "not a known language"
    able = ", ".join(writable(charset)) or "none"
    raise UnwritableLanguage(f"language `{tag}`", found, f"one of: {able}", "leave it out, or ask another release")


def _known(tag: str) -> Language | None:
    parts = tag.split("-")
    parts = [parts[0], *(part.title() if len(part) == 4 else part for part in parts[1:])]
    for length in range(len(parts), 0, -1):
        if language := languages().get("-".join(parts[:length])):
            return language
    return None
