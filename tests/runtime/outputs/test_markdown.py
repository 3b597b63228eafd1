"""Markdown: what a parser makes of it is what was read."""

import re
from itertools import chain, pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ocr_ops.core.reading import Block, Cell, Reading, Table
from ocr_ops.runtime.outputs.blocks import clean
from ocr_ops.runtime.outputs.markdown import markdown
from tests.runtime.outputs.readings import page_of, readings, rich_page

GITHUB = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def said(token: Token) -> str:
    """The text a reader sees of an inline token; only text and line breaks may be in it."""
    assert {child.type for child in token.children or ()} <= {"text", "text_special", "softbreak"}
    return "".join("\n" if child.type == "softbreak" else child.content for child in token.children or ())


def parsed(text: str) -> list[tuple[str, str]]:
    """Blocks by the tag that opens them, with what they say."""
    tokens = GITHUB.parse(text)
    return [(before.tag, said(token)) for before, token in pairwise(tokens) if token.type == "inline"]


def test_headings_paragraphs_tables_and_pages() -> None:
    """As they look."""
    assert markdown(Reading(pages=(rich_page(), page_of("next page")))) == (
        "## Head \\| line\n\nfirst \\*line\\*\nsecond line\n\n"
        "| Item | Price |\n| --- | --- |\n| Tea | 2\\|50 |\n\n\\# not a heading\n\n***\n\nnext page\n"
    )


def test_a_page_after_an_empty_one_is_no_metadata() -> None:
    """Which stands between dashes at the top of a file, as Jekyll and others have it."""
    text = markdown(Reading(pages=(page_of(), page_of("second page"), page_of("third page"))))
    assert not re.match(r"\A---\s*\n.*?^(---|\.\.\.)\s*$", text, re.MULTILINE | re.DOTALL)
    assert [token.type for token in GITHUB.parse(text)].count("hr") == 2


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=4))
@example(["1. one", "2) two", "- three", "+ four", "= five", "===", "---", ": - six", "> seven", "#"])
@example(["a | b", "--|--", "~~x~~", "`y`", "**z**", "![i](j)", "<k>", "&amp;", "\\", "$m$ _n_", "0.", "1)", "*"])
@example(["    code", "\tcode", "two  ", "spaces\\"])
def test_any_paragraph_comes_back(texts: list[str]) -> None:
    """No text starts a list, a heading, a quote, a table, or anything but a line."""
    expected = "\n".join(kept for text in texts if (kept := clean(text).strip()))
    found = parsed(markdown(Reading(pages=(page_of(*texts),))))
    assert found == ([("p", expected)] if expected else [])


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=2))
@example(["Invoice #"])
@example(["C# ##", "#"])
@example(["## #"])
def test_any_heading_comes_back(texts: list[str]) -> None:
    """On one line, also one that ends with what closes a heading."""
    page = page_of(*texts)
    lines = tuple(range(len(texts)))
    heading = page.model_copy(update={"blocks": (Block(kind="heading", confidence=1, polygon=(), lines=lines),)})
    expected = " ".join(kept for text in texts if (kept := clean(text).strip()))
    assert parsed(markdown(Reading(pages=(heading,)))) == ([("h2", expected)] if expected else [])


@settings(max_examples=60)
@given(st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), min_size=2, max_size=2), min_size=1))
def test_any_table_comes_back(rows: list[list[str]]) -> None:
    """Cell by cell, also those of pipes."""
    cells = tuple(
        Cell(row=i, column=j, text=text, polygon=(), words=())
        for i, row in enumerate(rows)
        for j, text in enumerate(row)
    )
    page = rich_page()
    block = page.blocks[2].model_copy(update={"table": Table(rows=len(rows), columns=2, cells=cells)})
    found = parsed(markdown(Reading(pages=(page.model_copy(update={"blocks": (block,)}),))))
    tags = ["th"] * 2 + ["td"] * 2 * (len(rows) - 1)
    assert found == [(tag, clean(text).strip()) for tag, text in zip(tags, chain(*rows), strict=True)]


@settings(max_examples=25)
@given(readings())
def test_any_reading_renders(reading: Reading) -> None:
    """Into headings, paragraphs, tables and rules."""
    for tag, text in parsed(markdown(reading)):
        assert tag in ("p", "h2", "th", "td")
        assert "\x00" not in text
