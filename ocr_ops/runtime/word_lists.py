"""The lists of a Word document: the number or bullet of each of their paragraphs, counted through the document."""

from collections.abc import Mapping
from typing import Any

from docx.oxml.ns import qn

from ocr_ops.runtime.word_notes import number_of

_LEVELS = 9


class Lists:
    """Of one document. Lists of one definition go on counting, until one says where it starts anew."""

    def __init__(self, numbering: Any, styles: Mapping[str, Any]) -> None:
        """By the part that defines them, if there is one, and the paragraphs' styles."""
        self._styles = styles
        self._lists = _named(numbering, "w:num", "w:numId")
        self._definitions = _named(numbering, "w:abstractNum", "w:abstractNumId")
        self._last: dict[tuple[str, int], int] = {}
        """By definition and level, the number that was given last."""
        self._begun: set[tuple[str, int]] = set()
        """Lists and their levels that began where they say."""

    def label(self, properties: Any) -> str:
        """The number or bullet of the next paragraph, of these properties, as its list writes it."""
        place = _place(properties) or self._by_style(properties)
        found = self._lists.get(place[0]) if place is not None else None
        if place is None or found is None:
            return ""
        name, level = place
        definition = value_of(found, "w:abstractNumId")
        levels = _named(self._definitions.get(definition), "w:lvl", "w:ilvl")
        starts = dict[str, str]()
        for own in found.findall(qn("w:lvlOverride")):
            starts[own.get(qn("w:ilvl"), "")] = value_of(own, "w:startOverride")
            levels |= _named(own, "w:lvl", "w:ilvl")
        if str(level) not in levels:
            return ""
        begins = bool(starts.get(str(level))) and (name, level) not in self._begun
        self._begun.add((name, level))
        firsts = [_whole(starts.get(str(at)) or value_of(levels.get(str(at)), "w:start")) for at in range(level + 1)]
        last = self._last.get((definition, level))
        self._last[definition, level] = firsts[level] if begins or last is None else last + 1
        for deeper in range(level + 1, _LEVELS):
            self._last.pop((definition, deeper), None)
        if value_of(levels[str(level)], "w:numFmt") == "bullet":
            return "•"
        text = value_of(levels[str(level)], "w:lvlText")
        for above, first in enumerate(firsts):
            form = value_of(levels.get(str(above)), "w:numFmt") or "decimal"
            text = text.replace(f"%{above + 1}", number_of(self._last.get((definition, above), first), form))
        return text

    def _by_style(self, properties: Any) -> tuple[str, int] | None:
        name = value_of(properties, "w:pStyle")
        for _ in range(8):  # styles are based on others
            style = self._styles.get(name)
            place = _place(style.find(qn("w:pPr"))) if style is not None else None
            if style is None or place is not None:
                return place
            name = value_of(style, "w:basedOn")
        return None


def value_of(element: Any, name: str) -> str:
    """The value of a child, by its name; nothing of none."""
    found = element.find(qn(name)) if element is not None else None
    return str(found.get(qn("w:val"), "")) if found is not None else ""


def _named(element: Any, name: str, key: str) -> dict[str, Any]:
    """An element's children of a name, by an attribute; the first of each."""
    found = dict[str, Any]()
    for child in element.findall(qn(name)) if element is not None else ():
        found.setdefault(child.get(qn(key), ""), child)
    return found


def _place(properties: Any) -> tuple[str, int] | None:
    """The list and the level in it that a paragraph or a style names."""
    found = properties.find(qn("w:numPr")) if properties is not None else None
    if found is None or found.find(qn("w:numId")) is None:
        return None
    return value_of(found, "w:numId"), min(_whole(value_of(found, "w:ilvl"), 0), _LEVELS - 1)


def _whole(written: str, default: int = 1) -> int:
    return int(written[:9]) if written.isascii() and written.isdigit() else default
