"""Stands where the engine stands: reads in this process, and lets tests watch it, hold it up and fail it."""

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence

from PIL import Image

from bentos.deadline import Deadline
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings
from ocr_ops.runtime.documents import LIMITS, Limits, page_images
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import draw

OPTIONS = ReadOptions(orientation=False)


class WatchedEngine:
    """Each page waits for `gate`; of the next documents, each fails after so many pages."""

    def __init__(self, release: Release, settings: ServingSettings | None = None, *, orient: bool = True) -> None:
        self.release, self.settings, self.orient = release, settings or ServingSettings(), orient
        self.limits = LIMITS
        self.reader = Reader(release, threads=1)
        self.calls = self.left = self.given = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[tuple[int, Exception]] = []

    async def pages(
        self,
        data: bytes,
        name: str,
        options: ReadOptions,
        deadline: Deadline,
        *,
        limits: Limits | None = None,
    ) -> AsyncGenerator[Page, None]:
        self.calls += 1
        after, error = self.failures.pop(0) if self.failures else (None, None)
        given = 0
        try:
            images = list(page_images(data, name, limits or self.limits))
            wanted = sum(options.wants(number) for number in range(1, len(images) + 1))
            for number, image in enumerate(images, 1):
                if not options.wants(number):
                    continue
                try:
                    async with deadline.timeout():
                        await self.gate.wait()
                except TimeoutError:
                    raise deadline.too_late(name) from None
                if error is not None and given == after:
                    raise error
                given += 1
                self.given += 1
                page = await asyncio.to_thread(self.reader.read_page, image, options)
                yield page.model_copy(update={"number": number, "of": wanted})
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise


def document(*pages: Sequence[str], form: str = "TIFF") -> bytes:
    """Pages of these lines as one file."""
    images = [Image.fromarray(draw(lines)) for lines in pages]
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(buffer, form, **more)
    return buffer.getvalue()
