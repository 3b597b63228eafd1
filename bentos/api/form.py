"""Form: a request's documents and options, from its multipart body and its query, each checked before it is used."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Message

from bentos.api.accept import accepted, preferred
from bentos.api.problems import Refusal
from ocr_ops.core.options import OutputFormat, ReadOptions

FIELD = "file"
OUTPUT = "output"
OUTPUTS: tuple[OutputFormat, ...] = get_args(OutputFormat)
OPTIONS = (*ReadOptions.model_fields, OUTPUT)
"""The fields of a form and of a query, beside the file."""
EXAMPLES = {"pages": "1-3,8", "language": "de"}
"""Of the options that are text of a form."""
RECEIVE_SECONDS = 60.0
_ENVELOPE_BYTES = 64 * 1024
"""What a body may hold besides its files: boundaries, headers, a few small fields."""
_FIELD_BYTES = 2048
_SWITCHES = frozenset(name for name, field in ReadOptions.model_fields.items() if field.annotation is bool)
_SAID = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Document:
    """A document as it was sent."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    documents: tuple[Document, ...]
    options: ReadOptions
    output: OutputFormat
    more: Mapping[str, str] = field(default_factory=dict)
    """The fields beside those that every form may have."""


async def receive(
    request: Request,
    *,
    limit: int,
    files: int = 1,
    more: tuple[str, ...] = (),
    otherwise: OutputFormat | None = None,
) -> Asked:
    """Receives a form: at most `files` documents, of at most `limit` bytes together. `Refusal` says the status.

    The query is checked before a byte of the body is received; where both name an option, the form wins. `more` are
    fields it may have beside the options. The output that none of them names is `otherwise`, or what `Accept` prefers.
    """
    names = (*OPTIONS, *more)
    query = _fields(request.query_params.multi_items(), names, "query parameter")
    if otherwise is not None:
        query = {OUTPUT: otherwise, **query}
    asked_for({name: value for name, value in query.items() if name in OPTIONS}, request)
    items = await _items(request, limit, files)
    documents = [value for name, value in items if name == FIELD and isinstance(value, Document)]
    if any(name == FIELD and isinstance(value, str) for name, value in items):
        raise _bad(f"a field `{FIELD}` of text, without a file name", files)
    if not documents:
        raise _bad(f"no complete field `{FIELD}`", files)
    texts = ((name, value) for name, value in items if not (name == FIELD and isinstance(value, Document)))
    form = {**query, **_fields(texts, names)}
    beside = {name: form.pop(name) for name in more if name in form}
    options, output = asked_for(form, request)
    return Asked(tuple(documents), options, output, beside)


def output_of(request: Request, otherwise: OutputFormat) -> OutputFormat:
    """The output the query names, which may name nothing else."""
    query = _fields(request.query_params.multi_items(), (OUTPUT,), "query parameter")
    return asked_for({OUTPUT: query.get(OUTPUT, otherwise)}, request)[1]


def asked_for(fields: Mapping[str, str], request: Request) -> tuple[ReadOptions, OutputFormat]:
    """Options and output of these fields. An output that no field names is what the header `Accept` prefers."""
    given = dict(fields)
    output = given.pop(OUTPUT, None)
    switches = {name: _SAID.get(given[name]) for name in given if name in _SWITCHES}
    for name, said in switches.items():
        if said is None:
            raise _invalid(name, given[name], "true or false")
    try:
        options = ReadOptions.model_validate({**given, **switches})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0])
        no_such = first["type"] == "string_pattern_mismatch"
        expected = (
            f"such as {EXAMPLES[name]}"
            if no_such
            else first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        )
        raise _invalid(name, given[name], expected) from None
    if output is None:
        return options, preferred(accepted(request.headers))
    for one in OUTPUTS:
        if one == output:
            return options, one
    raise _invalid(OUTPUT, output, f"one of {', '.join(OUTPUTS)}")


def _fields(items: Iterable[tuple[str, Any]], names: tuple[str, ...], what: str = "field") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in items:
        subject = f"{what} `{name[:80]}`"
        if name not in names:
            raise _unprocessable(subject, "unknown", f"{', '.join(names)}, and a file in `{FIELD}`", "leave it out")
        if not isinstance(value, str):
            raise _unprocessable(subject, "a file", "text", "send it without a file name")
        if name in found:
            raise _unprocessable(subject, "given twice", "once", "leave one of them out")
        found[name] = value
    return found


async def _items(request: Request, limit: int, files: int) -> list[tuple[str, str | Document]]:
    """The fields of the body, files as documents."""
    found = request.headers.get("content-type", "no content type").partition(";")[0].strip()[:100]
    if found.lower() != "multipart/form-data":
        expected = f"multipart/form-data with a field `{FIELD}`"
        raise Refusal("request", found, expected, _as_curl(files), 415, "unsupported-media-type")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and len(declared) < 20 and int(declared) > limit + _ENVELOPE_BYTES:
        raise _too_large(limit)
    bounded = Request(request.scope, _Bounded(request, limit).receive)
    parser = _Parser(
        bounded.headers, bounded.stream(), max_files=files, max_fields=len(OPTIONS) + 2, max_part_size=_FIELD_BYTES
    )
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            form = await parser.parse()
        return [(name, await _value(value)) for name, value in form.multi_items()]
    except (MultiPartException, HTTPException, ValueError, KeyError) as error:
        raise _bad(str(getattr(error, "message", "") or error)[:200] or "no multipart body", files) from None
    except TimeoutError:
        found = f"not received within {RECEIVE_SECONDS:.0f} s"
        raise Refusal("request", found, "the whole document", _as_curl(files), 408, "request-timeout") from None
    finally:
        parser.close()


async def _value(value: str | UploadFile) -> str | Document:
    return value if isinstance(value, str) else Document(value.filename or FIELD, await value.read())


class _Parser(MultiPartParser):
    """Keeps files in memory, which the bounded body bounds: documents of strangers are not written to disk.

    Names and values are UTF-8, or else Latin-1, whatever `charset` says: it could name any codec Python has, and some,
    as UTF-7, make what cannot be written into an answer.
    """

    spool_max_size = 0

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._charset = "utf-8"

    def close(self) -> None:
        """Closes the files, also one that is not whole, which no form has."""
        for file in self._files_to_close_on_error:
            file.close()


class _Bounded:
    """A body that ends in a refusal where it grows too large."""

    def __init__(self, request: Request, limit: int) -> None:
        self.request = request
        self.limit = limit
        self.received = 0

    async def receive(self) -> Message:
        message = await self.request.receive()
        self.received += len(message.get("body", b""))
        if self.received > self.limit + _ENVELOPE_BYTES:
            raise _too_large(self.limit)
        return message


def _as_curl(files: int) -> str:
    return f"send it as `curl -F {FIELD}=@page.png URL/v1/ocr{'/batch' if files > 1 else ''}` does"


def _bad(found: str, files: int) -> Refusal:
    expected = f"one file, in the field `{FIELD}`" if files == 1 else f"1 to {files} files, each in a field `{FIELD}`"
    return Refusal("request", found, expected, _as_curl(files), 400, "bad-request")


def _too_large(limit: int) -> Refusal:
    remedy = "send fewer pages, or smaller ones"
    return Refusal("request", "too large", f"at most {limit:,} bytes", remedy, 413, "content-too-large")


def _invalid(name: str, value: str, expected: str) -> Refusal:
    return _unprocessable(f"option `{name}`", repr(value[:80]), expected, "correct it, or leave it out")


def _unprocessable(subject: str, found: str, expected: str, remedy: str) -> Refusal:
    return Refusal(subject, found, expected, remedy, 422, "invalid-option")
