"""Contact sheets: pages with their boxes, or lines with their texts, many on one picture for a person to look at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ocr_ops.core.errors import BadInput
from ocr_ops.data.labels import Region
from ocr_ops.data.lines import LineSet
from ocr_ops.data.pages import PageSet
from ocr_ops.data.pixels import Gray, gray_file
from ocr_ops.data.render_lines import LineRenderer
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.data.render_sheet import Segment

Rgb = NDArray[np.uint8]

PAGE_WIDTH, PAGE_HEIGHT = 480, 640
LINE_WIDTH, LINE_HEIGHT = 640, 40
PAGE_COLUMNS, LINE_COLUMNS = 4, 2
GAP = 8
RENDERED_SIDE = 1100
READ, UNREAD, IGNORED = (0, 150, 60), (30, 90, 220), (170, 170, 170)
"""Colours of boxes: with a text, with an unknown text, not to be read."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A contact sheet as uint8 (h, w, 3) RGB, and how many examples are on it."""

    picture: Rgb
    count: int


def pages_sheet(pages: PageSet, count: int) -> Sheet:
    """The first pages that decode, with their boxes."""

    def cells() -> Iterator[Rgb]:
        for page in pages.pages:
            try:
                image = gray_file(pages.folder / page.image)
            except BadInput:
                continue
            yield _page_cell(image, [(region.polygon, _colour(region)) for region in page.regions])

    return _sheet(pages.folder, list(islice(cells(), count)), PAGE_COLUMNS)


def lines_sheet(lines: LineSet, count: int) -> Sheet:
    """Lines from all over the dataset, with their texts."""

    def cells() -> Iterator[Rgb]:
        for line in lines.lines[:: max(1, len(lines.lines) // count)]:
            try:
                yield _line_cell(line.image(), line.text)
            except BadInput:
                continue

    return _sheet(lines.folder, list(islice(cells(), count)), LINE_COLUMNS)


def rendered_pages_sheet(renderer: PageRenderer, seed: int, count: int) -> Sheet:
    """Pages as training draws them, with the boxes it learns from."""
    drawn = (renderer.page(np.random.default_rng((seed, i)), RENDERED_SIDE) for i in range(count))

    def colour(segment: Segment) -> tuple[int, int, int]:
        return READ if segment.text else UNREAD

    cells = [_page_cell(page.image, [(s.polygon, colour(s)) for s in page.segments]) for page in drawn]
    return _sheet("rendered pages", cells, PAGE_COLUMNS)


def rendered_lines_sheet(renderer: LineRenderer, seed: int, count: int) -> Sheet:
    """Lines as training draws them, with their texts."""
    drawn = (renderer.line(np.random.default_rng((seed, i))) for i in range(count))
    return _sheet("rendered lines", [_line_cell(image, text) for image, text in drawn], LINE_COLUMNS)


def _colour(region: Region) -> tuple[int, int, int]:
    return IGNORED if region.ignored else READ if region.readable else UNREAD


def _page_cell(
    image: Gray, boxes: Sequence[tuple[Sequence[Sequence[float]] | NDArray[np.float32], tuple[int, int, int]]]
) -> Rgb:
    scale = min(PAGE_WIDTH / image.shape[1], PAGE_HEIGHT / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB)
    for polygon, colour in boxes:
        points = np.clip(np.asarray(polygon, np.float64) * scale, -1e4, 1e4).astype(np.int32)
        if len(points):
            cv2.polylines(small, [points], isClosed=True, color=colour, lineType=cv2.LINE_AA)
    return _framed(np.asarray(small, np.uint8), PAGE_WIDTH, size[1])


def _line_cell(image: Gray, text: str) -> Rgb:
    scale = min(LINE_WIDTH / image.shape[1], LINE_HEIGHT / image.shape[0])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    crop = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB)
    label = Image.new("RGB", (LINE_WIDTH, LINE_HEIGHT // 2), "white")
    ImageDraw.Draw(label).text((2, 1), text, fill=READ, font=ImageFont.load_default(15))
    return np.vstack([_framed(np.asarray(crop, np.uint8), LINE_WIDTH, LINE_HEIGHT), np.asarray(label, np.uint8)])


def _framed(image: Rgb, width: int, height: int) -> Rgb:
    cell = np.full((height, width, 3), 235, np.uint8)
    cell[: image.shape[0], : image.shape[1]] = image
    return cell


def _sheet(subject: object, cells: list[Rgb], columns: int) -> Sheet:
    if not cells:
        raise BadInput(subject, "nothing to show", "at least one image that decodes", "see `ocr-ops data check`")
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    width = cells[0].shape[1] + GAP
    bands = []
    for row in rows:
        band = np.full((max(cell.shape[0] for cell in row) + GAP, columns * width + GAP, 3), 255, np.uint8)
        for index, cell in enumerate(row):
            band[GAP : GAP + cell.shape[0], GAP + index * width : (index + 1) * width] = cell
        bands.append(band)
    return Sheet(np.vstack(bands), len(cells))
