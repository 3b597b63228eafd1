from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from bentos.api.accept import EVENTS, MEDIA_TYPES, NDJSON, accepted, preferred, stream_of
from bentos.api.problems import Refusal


@pytest.mark.parametrize(
    ("header", "output"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("text/*", "text"),
        ("application/pdf", "pdf"),
        ("Text/Markdown; charset=utf-8", "markdown"),
        ("text/plain;q=0.2, application/pdf;q=0.9", "pdf"),
        ("text/plain, application/json", "json"),
        ("text/plain;q=1.0, application/json;q=0.5", "text"),
        ("application/json;q=0, */*", "text"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "hocr"),
        ("application/json, application/problem+json", "json"),
        ("application/problem+json, text/plain", "text"),
        ("image/png, */*;q=0.1", "json"),
        ("text/plain;q=nonsense", "text"),
        (NDJSON, "json"),
        (f"text/plain, {NDJSON};q=0", "text"),
        (f"{EVENTS};q=0.5, text/markdown", "markdown"),
    ],
)
def test_the_best_liked_output_is_chosen(header: str, output: str) -> None:
    assert preferred(header) == output


@pytest.mark.parametrize("header", ["image/png", "application/json;q=0", "text/*;q=0.0"])
def test_what_cannot_be_had_is_refused_with_what_can(header: str) -> None:
    with pytest.raises(Refusal) as refused:
        preferred(header)
    assert refused.value.status == 406
    assert all(kind in refused.value.expected for kind in MEDIA_TYPES)


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("", None),
        ("*/*", None),
        ("application/json", None),
        (NDJSON, NDJSON),
        (f"{EVENTS}, */*;q=0.1", EVENTS),
        (f"{NDJSON};q=0.5, {EVENTS}", EVENTS),
        (f"{NDJSON};q=0", None),
        (f"application/json, {EVENTS}", EVENTS),
        (f"application/json, {NDJSON};q=0.9", None),
        (f"{NDJSON}, application/problem+json", NDJSON),
    ],
)
def test_streams_are_asked_for_by_name(header: str, kind: str | None) -> None:
    assert stream_of(header) == kind


def test_a_header_in_several_lines_is_one() -> None:
    """As Java's clients send it."""
    lines = [(b"accept", b"image/png"), (b"host", b"a"), (b"accept", b"text/plain;q=0.5, text/markdown")]
    assert preferred(accepted(Headers(raw=lines))) == "markdown"
    assert not accepted(Headers(raw=[]))


@given(st.text(max_size=200) | st.from_regex(r"([a-z]{1,4}/[a-z*]{1,5}(;q=[0-9.]{0,4})?,? ?){0,5}", fullmatch=True))
def test_any_header_has_an_answer(header: str) -> None:
    """An output or a refusal."""
    stream_of(header)
    with suppress(Refusal):
        assert preferred(header) in MEDIA_TYPES.values()
