"""What atheris feeds with bytes, and learns from: `python tests/fuzz/documents.py [libFuzzer's options] CORPUS`.

Whatever it finds, a document gives sheets or `UnreadableDocument`; anything else ends the run, with the bytes that
did it.
"""

import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ocr_ops.runtime", "PIL", "docx", "zipfile"]):
    from ocr_ops.core.errors import UnreadableDocument
    from ocr_ops.runtime.documents import WHOLE, Limits, sheets

LIMITS = Limits(max_bytes=2**20, max_pixels=300_000, max_pages=4, pdf_dpi=40)


def once(data: bytes) -> None:
    """One document."""
    try:
        for sheet in sheets(data, "fuzzed", WHOLE, LIMITS):
            if sheet.image is None and sheet.text is None:
                msg = f"page {sheet.number} has neither pixels nor text"
                raise AssertionError(msg)
    except UnreadableDocument as error:
        if "\n" in str(error) or not error.found:
            msg = f"an error that is not one line: {error}"
            raise AssertionError(msg) from error


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).parents[2]))
    atheris.Setup(sys.argv, once)
    atheris.Fuzz()
