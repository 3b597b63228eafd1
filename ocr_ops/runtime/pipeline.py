"""How a page is read, wherever its models run; and Reader: a release reading documents in this process."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Orientation, Page, Reading
from ocr_ops.core.release import Release
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime import orientation, telemetry
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.detection import Detector, PreparedPage, prepare_page
from ocr_ops.runtime.documents import LIMITS, Limits, Sheet, sheets
from ocr_ops.runtime.layout import assemble, placed
from ocr_ops.runtime.mixed import merged
from ocr_ops.runtime.orientation import Pieces, flipped, probes
from ocr_ops.runtime.preprocess import AS_IT_IS, View, levelled, prepared
from ocr_ops.runtime.recognition import Recognizer, prepare_crops
from ocr_ops.runtime.session import to_channels

T = TypeVar("T")
Picture = NDArray[np.uint8]
Polygons = NDArray[np.float32]


class Models(Protocol):
    """The two models, here or a hop away, and a place for the work between them."""

    async def detect(self, page: Picture) -> Polygons:
        """Boxes of a prepared page, float32 (N, 4, 2) in its pixels."""

    async def recognize(self, crops: Sequence[Picture]) -> list[Decoded]:
        """The texts of prepared crops, in their order."""

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        """`work(*args)`, run where nobody waits for it."""


AS_A_RULE = ReadOptions()


async def read_page(
    page: Picture, models: Models, detection: InputSpec, recognition: InputSpec, options: ReadOptions = AS_A_RULE
) -> Page:
    """Reads one page, uint8 (H, W, 3) RGB or (H, W), with models of these inputs, and counts it.

    With `options.orientation`, a page on its side or upside-down is read as well as an upright one, for two to three
    times the work; an upright one that reads well takes none. All polygons are in pixels of the page as given.
    """
    view, scaled = await models.aside(_begun, page, detection, recognition, options)
    held = _Held(view.pixels, models, detection, recognition)
    pieces = await held.read(await held.find(scaled))
    if options.deskew and pieces.crooked:
        level = await models.aside(view.then, levelled)
        if level.back is not view.back:
            view, held = level, replace(held, page=level.pixels)
            pieces = await held.read_all()
    degrees: Orientation = 0
    if options.orientation and pieces.doubtful:
        degrees, pieces = await _upright(held, pieces)
    made = await models.aside(_assembled, view, degrees, pieces, page.shape[:2])
    telemetry.page_read(made, [text.confidence for text in pieces.texts if text.text])
    return made


async def read_sheet(
    sheet: Sheet, models: Models, detection: InputSpec, recognition: InputSpec, options: ReadOptions = AS_A_RULE
) -> Page:
    """Reads a page of a document with `read_page`, takes its own text where it has some, or both; and numbers it."""
    if sheet.image is not None:
        page = await read_page(sheet.image, models, detection, recognition, options)
        if sheet.text is not None:
            page = await models.aside(merged, sheet.text, page, sheet.image)
    elif sheet.text is not None:
        page = sheet.text
        telemetry.page_read(page, [])
    else:
        msg = "a sheet has an image or text"
        raise ValueError(msg)
    return page.model_copy(update={"number": sheet.number, "of": sheet.count})


def _begun(
    page: Picture, detection: InputSpec, recognition: InputSpec, options: ReadOptions
) -> tuple[View, PreparedPage]:
    """The page after its steps, and as the detector is given it."""
    view = _prepared(page, detection, recognition, options)
    return view, prepare_page(view.pixels, detection)


def _prepared(page: Picture, detection: InputSpec, recognition: InputSpec, options: ReadOptions) -> View:
    """The page after its steps, as grey from the start if neither model reads colours."""
    return prepared(to_channels(page, detection) if detection.channels == recognition.channels else page, options)


def _assembled(view: View, degrees: Orientation, pieces: Pieces, shape: tuple[int, int]) -> Page:
    """The page that pieces make which were read on a view turned by so many degrees; `shape` is that of it as given."""
    pixels = orientation.turned(view.pixels, degrees)
    upright = assemble(pixels.shape[1], pixels.shape[0], pieces.polygons, pieces.texts, pixels)
    there = orientation.as_given(upright, degrees)
    return there if view.back is AS_IT_IS else placed(there, view.back, shape[1], shape[0])


@dataclass(frozen=True, slots=True)
class _Held:
    """A page held one way up, and what reads it."""

    page: Picture
    models: Models
    detection: InputSpec
    recognition: InputSpec

    async def turned(self, degrees: Orientation) -> "_Held":
        """The same page turned against the clock."""
        return replace(self, page=await self.models.aside(orientation.turned, self.page, degrees))

    async def read_all(self) -> Pieces:
        """Its text, found and read."""
        return await self.read(await self.find())

    async def find(self, scaled: PreparedPage | None = None) -> Polygons:
        """Boxes of its text, float32 (N, 4, 2) in its pixels; `scaled`: as the detector is given it, where it is."""
        if scaled is None:
            scaled = await self.models.aside(prepare_page, self.page, self.detection)
        return scaled.restore(await self.models.detect(scaled.pixels))

    async def read(self, polygons: Polygons) -> Pieces:
        """What stands in these boxes."""
        return Pieces(polygons, await self.models.recognize(await self.models.aside(self._crops, polygons)))

    def _crops(self, polygons: Polygons) -> list[Picture]:
        return prepare_crops(to_channels(self.page, self.recognition), polygons, self.recognition)


async def _upright(held: _Held, plain: Pieces) -> tuple[Orientation, Pieces]:
    """How a page is turned, and its pieces on the page held upright; `plain` ones, unless it reads better turned.

    It is found again once it is upright: what a detector finds in text upside-down is not quite where it stands.
    """
    degrees: Orientation = 0
    best = plain
    if not plain.lying:
        tried = plain.at(probes(plain.polygons))
        over = await held.read(flipped(tried.polygons))
        if over.beats(tried) and (whole := await (await held.turned(180)).read_all()).beats(plain):
            degrees, best = 180, whole
    if best.doubtful and plain.lost:
        side = await held.turned(90)
        found = await side.find()
        down = await side.read(found[probes(found)])
        up = await side.read(flipped(down.polygons))
        margin = 1.0 if plain.lying else orientation.MARGIN
        if down.beats(up) and (whole := await side.read(found)).beats(best, margin):
            degrees, best = 90, whole
        elif up.beats(down) and (whole := await (await held.turned(270)).read_all()).beats(best, margin):
            degrees, best = 270, whole
    return degrees, best


class Reader:
    """May be shared by threads."""

    def __init__(self, release: Release, threads: int | None = None) -> None:
        """Loads both bundles; errors as `Session`."""
        self.detector = Detector(release.detection, threads)
        self.recognizer = Recognizer(release.recognition, threads)

    def read_page(self, page: Picture, options: ReadOptions = AS_A_RULE) -> Page:
        """Reads one page, uint8 (H, W, 3) RGB: as the function of this name."""
        detection, recognition = self.detector.bundle.manifest.input, self.recognizer.bundle.manifest.input
        return finished(read_page(page, _Here(self), detection, recognition, options))

    def read_sheet(self, sheet: Sheet, options: ReadOptions = AS_A_RULE) -> Page:
        """Reads a page of a document, or takes its own text: as the function of this name."""
        detection, recognition = self.detector.bundle.manifest.input, self.recognizer.bundle.manifest.input
        return finished(read_sheet(sheet, _Here(self), detection, recognition, options))

    def read(self, data: bytes, name: str, options: ReadOptions = AS_A_RULE, limits: Limits = LIMITS) -> Reading:
        """Reads a document from its bytes; `UnreadableDocument` as `documents.sheets`."""
        grey = all(model.bundle.manifest.input.channels == 1 for model in (self.detector, self.recognizer))
        pages = tuple(self.read_sheet(sheet, options) for sheet in sheets(data, name, options, limits, grey=grey))
        return Reading(pages=pages, language=options.language)


@dataclass(frozen=True, slots=True)
class _Here:
    """A reader's own models: nothing is ever waited for."""

    reader: Reader

    async def detect(self, page: Picture) -> Polygons:
        return self.reader.detector.detect([page])[0]

    async def recognize(self, crops: Sequence[Picture]) -> list[Decoded]:
        return self.reader.recognizer.recognize(crops)

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        return work(*args)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing: no event loop is needed, nor in the way."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    msg = "a reader's own models never wait"
    raise AssertionError(msg)
