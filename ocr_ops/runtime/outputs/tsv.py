"""TSV: a row for each page, block, paragraph, line and word, in the columns Tesseract writes."""

from collections.abc import Iterator

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime.outputs.blocks import Box, blocks, box, clean, lines, numbered, words

COLUMNS = (
    "level", "page_num", "block_num", "par_num", "line_num", "word_num", "left", "top", "width", "height", "conf",
    "text",
)  # fmt: skip
_NO_CONFIDENCE = "-1"


def tsv(reading: Reading, options: ReadOptions) -> str:
    """Blocks have one paragraph each. Confidence is a percentage, of words alone."""
    rows = (row for number, page in numbered(reading, options) for row in _rows(number, page))
    return "".join("\t".join(row) + "\n" for row in (COLUMNS, *rows))


def _rows(number: int, page: Page) -> Iterator[tuple[str, ...]]:
    yield _row(1, (number, 0, 0, 0, 0), Box(0, 0, page.width, page.height))
    for block_number, block in enumerate(blocks(page), 1):
        extent = box(block.polygon)
        yield _row(2, (number, block_number, 0, 0, 0), extent)
        yield _row(3, (number, block_number, 1, 0, 0), extent)
        for line_number, line in enumerate(lines(page, block), 1):
            yield _row(4, (number, block_number, 1, line_number, 0), box(line.polygon))
            for word_number, word in enumerate(words(line), 1):
                place = (number, block_number, 1, line_number, word_number)
                yield _row(5, place, box(word.polygon), f"{100 * word.confidence:.2f}", clean(word.text))


def _row(
    level: int, place: tuple[int, ...], extent: Box, confidence: str = _NO_CONFIDENCE, text: str = ""
) -> tuple[str, ...]:
    left, top = round(extent.left), round(extent.top)
    where = (left, top, round(extent.right) - left, round(extent.bottom) - top)
    return (*map(str, (level, *place, *where)), confidence, text)
