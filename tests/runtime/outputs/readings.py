"""Readings to render: one with everything in it, and any that hypothesis can think of."""

from hypothesis import strategies as st

from ocr_ops.core.reading import Block, Cell, Line, Page, Polygon, Reading, Table, Word


def upright(left: float, top: float, width: float, height: float) -> Polygon:
    return ((left, top), (left + width, top), (left + width, top + height), (left, top + height))


def line_of(text: str, left: float = 40, top: float = 40, height: float = 24, pitch: float = 14) -> Line:
    """A line set level in a type of fixed pitch; its words are what spaces part."""
    words, at = [], 0
    for part in text.split(" "):
        extent = upright(left + at * pitch, top, len(part) * pitch, height)
        words.append(Word(text=part, confidence=0.9, polygon=extent))
        at += len(part) + 1
    return Line(text=text, confidence=0.95, polygon=upright(left, top, len(text) * pitch, height), words=tuple(words))


def page_of(*texts: str, width: int = 640, height: int = 480, blocks: tuple[Block, ...] = ()) -> Page:
    lines = tuple(line_of(text, top=40 + 40 * row) for row, text in enumerate(texts))
    return Page(width=width, height=height, lines=lines, blocks=blocks)


def rich_page() -> Page:
    """A heading, a paragraph of two lines, a table of two rows and columns, and a last line of its own."""
    texts = ("Head | line", "first *line*", "second line", "Item Price", "Tea 2|50", "# not a heading")
    words = (((3, 0),), ((3, 1),), ((4, 0),), ((4, 1),))
    cells = tuple(
        Cell(row=i // 2, column=i % 2, text=text, polygon=(), words=words[i])
        for i, text in enumerate(("Item", "Price", "Tea", "2|50"))
    )
    page = page_of(*texts)
    table = Table(rows=2, columns=2, cells=cells)

    def block(kind: str, *lines: int, table: Table | None = None) -> Block:
        top = page.lines[lines[0]].polygon[0][1]
        extent = upright(40, top, 300, 40 * len(lines) - 16)
        return Block(kind=kind, confidence=0.9, polygon=extent, lines=lines, table=table)

    blocks = (block("heading", 0), block("text", 1, 2), block("table", 3, 4, table=table), block("text", 5))
    return page_of(*texts, blocks=blocks)


_TEXT = st.text(max_size=12)
_FIGURE = st.floats(-50, 2000, width=32)
_POLYGON = st.one_of(
    st.just(()),
    st.tuples(*[st.tuples(_FIGURE, _FIGURE)] * 4),
    st.builds(upright, _FIGURE, _FIGURE, st.floats(0, 500, width=32), st.floats(0, 90, width=32)),
)
_SURE = st.floats(0, 1)
_WORD = st.builds(Word, text=_TEXT, confidence=_SURE, polygon=_POLYGON)
_LINE = st.builds(Line, text=_TEXT, confidence=_SURE, polygon=_POLYGON, words=st.lists(_WORD, max_size=3).map(tuple))
_CELL = st.builds(
    Cell, row=st.integers(0, 3), column=st.integers(0, 3), text=_TEXT, polygon=_POLYGON, words=st.just(())
)
_TABLE = st.builds(
    Table, rows=st.integers(0, 4), columns=st.integers(0, 4), cells=st.lists(_CELL, max_size=4).map(tuple)
)


@st.composite
def pages(draw: st.DrawFn) -> Page:
    """Lines in blocks of all kinds, or in none."""
    lines = draw(st.lists(_LINE, max_size=5))
    blocks = []
    if draw(st.booleans()):
        cuts = sorted(draw(st.sets(st.integers(1, max(len(lines) - 1, 1)), max_size=3)))
        for start, end in zip([0, *cuts], [*cuts, len(lines)], strict=True):
            if start < end <= len(lines):
                kind = draw(st.sampled_from(["text", "heading", "table"]))
                table = draw(_TABLE) if kind == "table" else None
                indices = tuple(range(start, end))
                blocks.append(
                    Block(kind=kind, confidence=draw(_SURE), polygon=draw(_POLYGON), lines=indices, table=table)
                )
        if sum(len(block.lines) for block in blocks) != len(lines):
            blocks = []
    size = draw(st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
    orientation = draw(st.sampled_from([0, 90, 180, 270]))
    return Page(width=size[0], height=size[1], orientation=orientation, lines=tuple(lines), blocks=tuple(blocks))


def readings(most: int = 3) -> st.SearchStrategy[Reading]:
    return st.lists(pages(), min_size=1, max_size=most).map(lambda some: Reading(pages=tuple(some)))
