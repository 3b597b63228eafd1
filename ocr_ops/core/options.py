"""ReadOptions: what a caller may ask of a reading, the same on the command line, in Python and over HTTP."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from ocr_ops.core.record import Told, canonical_json, digest_bytes

_RANGES = re.compile(r"[1-9]\d{0,4}(-[1-9]\d{0,4})?(,[1-9]\d{0,4}(-[1-9]\d{0,4})?)*", re.ASCII)
_LANGUAGE = r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"

LAST_PAGE = 99_999
"""The last that can be asked for. No document has it."""

OutputFormat = Literal["json", "text", "hocr", "alto", "tsv", "markdown", "pdf"]


def _ranges(value: str) -> str:
    spans = page_spans(value)
    if any(first > last for first, last in spans):
        msg = "a range counts upwards"
        raise ValueError(msg)
    return value


def page_spans(value: str) -> tuple[tuple[int, int], ...]:
    """`1-3,8` as ((1, 3), (8, 8)). `ValueError` for anything else."""
    if not _RANGES.fullmatch(value):
        msg = "expected page numbers and ranges, such as 1-3,8"
        raise ValueError(msg)
    parts = (part.partition("-") for part in value.split(","))
    return tuple((int(first), int(last or first)) for first, _, last in parts)


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same pages in spans that rise and do not touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def written(spans: Iterable[tuple[int, int]]) -> str:
    """As `page_spans` reads them; without any, a page that no document has."""
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans) or f"{LAST_PAGE}"


Ranges = Annotated[
    str,
    StringConstraints(max_length=200, pattern=f"^{_RANGES.pattern}$"),
    AfterValidator(_ranges),
    Field(json_schema_extra={"format": "page-ranges"}),  # no pattern tells that they count upwards
]


class ReadOptions(Told):
    """The defaults read a whole document as well as it can be. The digest is part of a cached answer's key."""

    pages: Ranges | None = None
    """Which pages, counted from 1: `1-3,8`, each range upwards. None: all. Those beyond the document's end are left
    out."""
    language: Annotated[str, StringConstraints(pattern=_LANGUAGE, max_length=35)] | None = None
    """BCP 47 tag of the document's language. It is told in outputs; a release that cannot write it refuses."""
    text_layer: Literal["auto", "ignore"] = "auto"
    """Whether a PDF page's own text is taken where it is sound, or every page is read from its pixels."""
    orientation: bool = True
    """Turn pages on their sides or upside-down."""
    contrast: bool = True
    """Faint print is darkened."""
    sharpen: bool = True
    """Pages out of focus are sharpened."""
    deskew: bool = True
    """Level a crooked page before its text is looked for."""
    denoise: bool = True
    """Take specks out of a page that is full of them."""
    upscale: bool = False
    """Enlarge pages of few pixels: at 75 dpi they read a little better, for half as much again of the work."""

    @property
    def digest(self) -> str:
        return digest_bytes(canonical_json(self.model_dump(mode="json")).encode())

    def wants(self, page: int) -> bool:
        """Whether page `page`, counted from 1, is to be read."""
        return self.pages is None or any(first <= page <= last for first, last in page_spans(self.pages))
