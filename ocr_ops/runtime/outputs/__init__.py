"""Outputs: a reading as one of the formats its users' tools take. The CLI and the service share these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.runtime.outputs.alto import alto
from ocr_ops.runtime.outputs.hocr import hocr
from ocr_ops.runtime.outputs.markdown import markdown
from ocr_ops.runtime.outputs.pdf import searchable_pdf
from ocr_ops.runtime.outputs.text import text
from ocr_ops.runtime.outputs.tsv import tsv


@dataclass(frozen=True, slots=True)
class Form:
    """How files of an output format are called."""

    media_type: str
    suffix: str


FORMS: Mapping[OutputFormat, Form] = {
    "json": Form("application/json", ".json"),
    "text": Form("text/plain; charset=utf-8", ".txt"),
    "hocr": Form("text/vnd.hocr+html; charset=utf-8", ".hocr"),
    "alto": Form("application/xml", ".xml"),
    "tsv": Form("text/tab-separated-values; charset=utf-8", ".tsv"),
    "markdown": Form("text/markdown; charset=utf-8", ".md"),
    "pdf": Form("application/pdf", ".pdf"),
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished file."""

    data: bytes
    media_type: str
    suffix: str


def render(reading: Reading, output: OutputFormat, *, name: str, document: bytes, options: ReadOptions) -> Rendered:
    """`reading` in the format `output`.

    `name` and `options` are those it was read with, and are told where the format has a place for them. `document`
    is the original's bytes; only `pdf` looks at them, in this process, which those of strangers are not for: see
    `runtime.decoders`.
    """
    return rendered(output, _WRITERS[output](reading, name, document, options))


def rendered(output: OutputFormat, data: bytes) -> Rendered:
    """A file of this format."""
    return Rendered(data, FORMS[output].media_type, FORMS[output].suffix)


_Writer = Callable[[Reading, str, bytes, ReadOptions], bytes]
_WRITERS: Mapping[OutputFormat, _Writer] = {
    "json": lambda reading, *_: reading.model_dump_json().encode(),
    "text": lambda reading, *_: text(reading).encode(),
    "hocr": lambda reading, name, _, options: hocr(reading, name, options),
    "alto": lambda reading, name, _, options: alto(reading, name, options),
    "tsv": lambda reading, _, __, options: tsv(reading, options).encode(),
    "markdown": lambda reading, *_: markdown(reading).encode(),
    "pdf": searchable_pdf,
}
