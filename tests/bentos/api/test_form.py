import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from bentos.api.form import Asked, receive
from bentos.api.problems import Refusal, answer_of
from ocr_ops.core.options import ReadOptions

PNG = b"\x89PNG\r\n\x1a\n and so on"
LIMIT = 4096


def asked(
    body: bytes | Sequence[bytes] = b"",
    kind: str = "",
    query: str = "",
    files: int = 1,
    limit: int = LIMIT,
    **more: str,
) -> Asked:
    """What a request of this body, in one piece or several, asks for."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    headers = {"content-type": kind, **more}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/ocr",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
    }

    async def hear() -> Message:
        return messages.pop(0)

    return asyncio.run(receive(Request(scope, hear), limit=limit, files=files))


def form(fields: Any = None, files: Any = None) -> tuple[bytes, str]:
    """A multipart body and its type, as httpx makes them."""
    request = httpx.Request("POST", "http://x", data=fields, files=files or {"file": ("a.png", PNG)})
    return request.read(), request.headers["content-type"]


def status(*args: Any, **more: Any) -> int:
    """200, or that of the refusal; any other error is one of ours."""
    try:
        asked(*args, **more)
    except Refusal as refused:
        return refused.status
    return 200


def refusal(*args: Any, **more: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        asked(*args, **more)
    return refused.value


def test_a_document_alone_is_read_as_well_as_it_can_be() -> None:
    found = asked(*form())
    assert [(one.name, one.data) for one in found.documents] == [("a.png", PNG)]
    assert (found.options, found.output) == (ReadOptions(), "json")


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "pages": st.sampled_from(["1", "1-3,8", "2,4-5"]),
        "language": st.sampled_from(["de", "en-GB", "sr-Latn"]),
        "text_layer": st.sampled_from(["auto", "ignore"]),
        **{name: st.booleans() for name in ("orientation", "contrast", "deskew", "denoise", "upscale")},
    },
)


def texts(options: dict[str, Any]) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}


@given(OPTIONS, OPTIONS)
def test_options_come_from_form_and_query_and_the_form_wins(form_: dict[str, Any], query: dict[str, Any]) -> None:
    found = asked(*form(texts(form_)), query=urlencode(texts(query)))
    assert found.options == ReadOptions(**{**query, **form_})


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=4), st.booleans())
def test_any_fields_are_options_or_refused(fields: dict[str, str], queried: bool) -> None:
    """Never another error, whatever their names and values."""
    body, kind = form(None if queried else fields)
    told = status(body, kind, query=urlencode(fields) if queried else "")
    assert told in ((200, 422) if fields.keys() <= {*ReadOptions.model_fields, "output"} else (400, 422))


@given(st.binary(max_size=300), st.text(st.characters(codec="latin-1"), max_size=40))
def test_any_body_is_a_form_or_refused(body: bytes, boundary: str) -> None:
    for kind in ("multipart/form-data; boundary=x", f"multipart/form-data; boundary={boundary}", boundary):
        for data in (
            body,
            b"--x\r\n" + body,
            b"--x\r\nContent-Disposition: form-data; " + body + b"\r\n\r\na\r\n--x--",
        ):
            assert status(data, kind) in (200, 400, 413, 415, 422)


@given(st.data())
def test_how_a_body_is_cut_changes_nothing(data: st.DataObject) -> None:
    body, kind = form({"pages": "2-3", "deskew": "true"})
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert asked(pieces, kind) == asked(body, kind)


@given(st.data())
def test_a_body_cut_short_is_refused(data: st.DataObject) -> None:
    body, kind = form()
    end = data.draw(st.integers(0, body.rindex(b"--") - 1))
    assert refusal(body[:end], kind).status == 400


def test_a_file_without_a_name_beside_others_is_told_as_such() -> None:
    """It is a text then, and none of its name is known; but what is wrong is how it was sent."""
    refused = refusal(*form(files=[("file", ("a.png", PNG)), ("file", ("", PNG))]), files=2)
    assert (refused.status, refused.kind) == (400, "bad-request")
    assert "without a file name" in refused.found


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"pages": "3-1"}, "counts upwards"),
        ({"pages": "0"}, "such as 1-3,8"),
        ({"language": "German"}, "such as de"),
        *(({"deskew": value}, "true or false") for value in ("perhaps", "", "on", "1", "True", "TRUE", "yes")),
        ({"pages": ""}, "such as 1-3,8"),
        ({"output": ""}, "json, text"),
        ({"text_layer": "never"}, "'auto' or 'ignore'"),
        ({"output": "docx"}, "json, text, hocr, alto, tsv, markdown, pdf"),
        ({"page": "1"}, "pages, language"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_should_be(fields: dict[str, str], word: str) -> None:
    """In the form as in the query."""
    (name,) = fields
    for refused in (refusal(*form(fields)), refusal(*form(), query=urlencode(fields))):
        assert (refused.status, refused.kind) == (422, "invalid-option")
        assert f"`{name}`" in refused.subject
        assert word in refused.expected


def test_a_field_is_given_once_and_as_text() -> None:
    assert refusal(*form(), query="deskew=true&deskew=false").found == "given twice"
    assert refusal(*form(files=[("file", ("a.png", PNG)), ("pages", ("p.txt", b"1"))]), files=2).found == "a file"
    assert refusal(*form({"file": "http://127.0.0.1/a.png"}, {"pages": (None, "1")})).status == 400


def test_the_query_is_checked_before_a_byte_is_received() -> None:
    assert refusal([], "multipart/form-data; boundary=x", query="bogus=1").status == 422


def test_files_beyond_those_taken_are_refused() -> None:
    many = [("file", (f"{number}.png", PNG)) for number in range(3)]
    assert [one.name for one in asked(*form(files=many), files=3).documents] == ["0.png", "1.png", "2.png"]
    assert refusal(*form(files=many), files=2).status == 400


def test_a_large_body_is_refused_by_its_length_or_as_it_comes() -> None:
    body, kind = form(files={"file": ("a.png", bytes(200_000))})
    assert refusal([], kind, **{"content-length": str(len(body))}).status == 413
    pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    assert refusal(pieces, kind).status == 413
    assert len(asked(pieces, kind, limit=200_000).documents[0].data) == 200_000


def test_bombs_of_parts_and_headers_are_refused() -> None:
    """Thousands of fields, a field without end, a header without end."""
    assert refusal(*form({f"f{number}": "" for number in range(5000)}), limit=10**7).status == 400
    assert refusal(*form({"pages": "1," * 10_000}), limit=10**7).status == 400
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + b"a" * 10**6 + b'"\r\n\r\na\r\n--x--\r\n'
    found = refusal(head, "multipart/form-data; boundary=x", limit=10**7)
    assert found.status == 400


@pytest.mark.parametrize("name", ["ü.png", "a\u202eb.png", "../../etc/passwd", "a" * 500, "a\x00b.png", '"; x="y'])
def test_any_file_name_is_taken_as_it_is(name: str) -> None:
    """It is a label, never a path of ours."""
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    found = asked(head + PNG + b"\r\n--x--\r\n", "multipart/form-data; boundary=x")
    assert found.documents[0].data == PNG


@pytest.mark.parametrize(
    "charset", ["utf-7", "unicode_escape", "raw_unicode_escape", "utf-16", "punycode", "idna", "x"]
)
def test_a_form_is_utf_8_whatever_charset_it_names(charset: str) -> None:
    """Of Python's codecs some make half of a character, which no answer can hold, or fail in ways of their own."""
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    for name in ("+2AA-", "\\ud800", "ü"):
        part = f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{name}\r\n'
        file = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        refused = refusal((part + file).encode() + PNG + b"\r\n--x--\r\n", kind)
        assert refused.status == 422
        assert answer_of(refused).status_code == 422
        found = asked(file.encode() + PNG + b"\r\n--x--\r\n", kind)
        assert found.documents[0].name == name
        value = part.replace(f'name="{name}"', 'name="pages"') + file
        assert answer_of(refusal(value.encode() + PNG + b"\r\n--x--\r\n", kind)).status_code == 422
    latin = b'--x\r\nContent-Disposition: form-data; name="file"; filename="\xfc.png"\r\n\r\n' + PNG + b"\r\n--x--\r\n"
    assert asked(latin, "multipart/form-data; boundary=x; charset=iso-8859-1").documents[0].name == "ü.png"
