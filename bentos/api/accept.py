"""Accept: what a client would rather have, by the header of that name (RFC 9110, 12.5.1)."""

from starlette.datastructures import Headers

from bentos.api.problems import PROBLEM, Refusal
from ocr_ops.core.options import OutputFormat

NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"
STREAMS = (NDJSON, EVENTS)
"""Answers that come a page at a time."""

MEDIA_TYPES: dict[str, OutputFormat] = {
    "application/json": "json",
    "text/plain": "text",
    "text/vnd.hocr+html": "hocr",
    "text/html": "hocr",
    "application/alto+xml": "alto",
    "application/xml": "alto",
    "text/xml": "alto",
    "text/tab-separated-values": "tsv",
    "text/markdown": "markdown",
    "application/pdf": "pdf",
}


def accepted(headers: Headers) -> str:
    """What a request accepts; it may say so in several lines."""
    return ", ".join(headers.getlist("accept"))


def preferred(header: str) -> OutputFormat:
    """The output a header likes best; JSON where it does not mind. A 406 `Refusal` where it likes none."""
    ranges = _ranges(header)
    if not ranges or stream_of(header) is not None:
        return "json"
    liked = {kind: _liking(kind, ranges) for kind in MEDIA_TYPES}
    best = max(liked, key=lambda kind: liked[kind])  # of equals, the first
    if not liked[best]:
        found, expected = header[:80], ", ".join([*MEDIA_TYPES, *STREAMS])
        raise Refusal("header `Accept`", found, expected, "add one of these, or */*", 406, "not-acceptable")
    return MEDIA_TYPES[best]


def stream_of(header: str) -> str | None:
    """The kind of stream a header asks for by name, and likes no less than the rest; None: the whole answer at once."""
    ranges = _ranges(header)
    return next((kind for kind, liking in ranges if kind in STREAMS and 0 < liking == ranges[0][1]), None)


def _ranges(header: str) -> list[tuple[str, float]]:
    """`text/plain;q=0.5, */*` as [("*/*", 1.0), ("text/plain", 0.5)], the most liked first. What is no range is left
    out; so is the problems' own type, which every client may name and no reading has.
    """
    found: list[tuple[str, float]] = []
    for part in header.split(",")[:50]:
        kind, _, parameters = part.partition(";")
        kind = kind.strip().lower()
        if "/" in kind and kind != PROBLEM:
            found.append((kind, _quality(parameters)))
    return sorted(found, key=lambda one: -one[1])


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0) if value.strip().lower() not in ("nan", "inf") else 1.0
            except ValueError:
                return 1.0
    return 1.0


def _liking(kind: str, ranges: list[tuple[str, float]]) -> float:
    """How much a media type is liked: as the most particular range that takes it in says."""
    likings = dict(reversed(ranges))
    for one in (kind, kind.partition("/")[0] + "/*", "*/*"):
        if one in likings:
            return likings[one]
    return 0.0
