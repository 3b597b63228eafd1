"""Sheet: a page of a document as it was opened; what opening one may cost, and the one way it fails."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import page_spans
from ocr_ops.core.reading import Page
from ocr_ops.core.record import Value

T = TypeVar("T")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Lines begun and terminals commanded: documents name their parts as they like, and errors tell of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a document may cost."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 60_000_000
    """A page. Images above are refused; PDF pages are rendered coarser instead."""
    max_pages: int = 50
    """Of those that are wanted."""
    pdf_dpi: int = 200


LIMITS = Limits()


class Caps(Value):
    """What a decoding process may take."""

    page_cpu_seconds: int = 10
    document_cpu_seconds: int = 120
    page_seconds: float = 30.0
    """By the clock."""
    document_seconds: float = 240.0
    """By the clock, of all its pages made into one file."""
    memory_bytes: int = 2 * 2**30
    documents: int = 100
    """Of those that may follow each other in one process: a fresh one costs three times what opening a scan does."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page of a document: its pixels, or its own text where that can be believed."""

    number: int
    """In the document, counted from 1."""
    count: int | None
    """How many pages of the document are wanted, where that is known."""
    image: NDArray[np.uint8] | None
    """(H, W, 3) RGB or (H, W), upright: what is to be read. None where the text is all there is."""
    text: Page | None = None
    """What the document itself says of the page, in pixels of `image`, or as that would have them. In an image
    beside it, it is painted over.
    """


def guard(name: str, step: Callable[[], T]) -> T:
    """Runs one step of a decoder; whatever it trips over becomes an `UnreadableDocument`."""
    try:
        return step()
    except UnreadableDocument:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(name, str(error).partition(",")[0], "a page of fewer pixels") from None
    except MemoryError:
        raise too_large(name, "more than the memory it may take", "less") from None
    except Exception as error:  # noqa: BLE001  decoders fed with hostile bytes raise anything
        if "password" in str(error).lower():
            raise locked(name) from None
        said = re.sub(r" ?<[^>]*>", "", str(error)).partition("\n")[0]  # not where in memory it was
        raise broken(name, f"{type(error).__name__}: {said}".rstrip(".: ")) from None


def broken(name: str, found: str) -> UnreadableDocument:
    return UnreadableDocument(name, _legible(found), "a whole, open document", "save or scan it again", 422)


def locked(name: str) -> UnreadableDocument:
    expected, remedy = "a document that opens without one", "save it without its password"
    return UnreadableDocument(name, "locked with a password", expected, remedy, 422)


def too_large(name: str, found: str, expected: str) -> UnreadableDocument:
    return UnreadableDocument(name, _legible(found), expected, "split or shrink it", 413)


def _legible(found: str) -> str:
    return _UNSEEN.sub("\ufffd", found)


def wanted(name: str, pages: str | None, count: int, limits: Limits) -> list[int]:
    """The numbers of a document's pages that `ReadOptions.pages` names, in order; all of `count` for None."""
    if not count:
        raise broken(name, "no pages")
    spans = ((1, count),) if pages is None else page_spans(pages)
    inside = sorted((first, min(last, count)) for first, last in spans if first <= count)
    if not inside:
        found = f"{count} pages" if count > 1 else "one page"
        raise UnreadableDocument(name, found, f"pages {pages}", "ask for pages that it has", 422)
    numbers: list[int] = []
    for first, last in inside:
        start = max(first, numbers[-1] + 1) if numbers else first
        if len(numbers) + last - start + 1 > limits.max_pages:
            asked = f"{count} pages" if pages is None else f"over {limits.max_pages} pages asked for"
            raise too_large(name, asked, f"at most {limits.max_pages}")
        numbers.extend(range(start, last + 1))
    return numbers
