"""Engine: documents in, pages out. Where the models run, in what order work is done, and by when."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import numpy as np
from bentoml.exceptions import BentoMLException
from numpy.typing import NDArray

from bentos.deadline import Deadline, too_late
from ocr_ops.core.errors import ModelAway
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.spec import TASKS
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.documents import LIMITS, Limits, page_images
from ocr_ops.runtime.pipeline import read_page

__all__ = ["Deadline", "Engine"]

log = logging.getLogger("bentoml.ocr_ops")
T = TypeVar("T")
Picture = NDArray[np.uint8]

AHEAD = 3
"""Pages of one document that are worked on at once: one is decoded, one searched for text, one read."""
PROBE_SECONDS = 5.0
DEAD_SECONDS = 120.0
"""How long a model may go without an answer before /livez says to start anew: it hangs, for a dead one is replaced."""


@dataclass(frozen=True, slots=True)
class _Hops:
    """`Models`, each a hop away."""

    models: Mapping[str, Any]
    workers: ThreadPoolExecutor
    batch: int
    """Crops of one call."""

    async def detect(self, page: Picture) -> NDArray[np.float32]:
        [found] = await self.models["detection"].detect(pages=[page])
        return np.asarray(found, np.float32)

    async def recognize(self, crops: Sequence[Picture]) -> list[Decoded]:
        chunks = [crops[start : start + self.batch] for start in range(0, len(crops), self.batch)]
        texts = await asyncio.gather(*(self.models["recognition"].recognize(crops=chunk) for chunk in chunks))
        return [text for chunk in texts for text in chunk]

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        """Runs `work` off the event loop, on one of as many threads as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, work, *args)


class Engine:
    """Of one gateway process. `orient` False: pages are only read as they come, whatever a caller asks."""

    def __init__(
        self,
        release: Release,
        settings: ServingSettings,
        models: Mapping[str, Any],
        limits: Limits = LIMITS,
        *,
        orient: bool = True,
    ) -> None:
        tuned = settings.tuned(release)
        self.release = release
        self.settings = settings
        self.limits = limits
        self.orient = orient
        self.inputs = (tuned.detection.manifest.input, tuned.recognition.manifest.input)
        threads = thread_count()
        self.hops = _Hops(models, ThreadPoolExecutor(threads, "page"), settings.max_batch_size)
        # A page may hold 180 MB of pixels: only so many are open at a time, still enough to fill batches.
        self.open_pages = asyncio.Semaphore(2 * threads + 2)
        self.last_ready = time.monotonic()

    async def pages(
        self, data: bytes, name: str, options: ReadOptions, deadline: Deadline
    ) -> AsyncGenerator[Page, None]:
        """Reads a document, page after page in their order; closing it early cancels what is still to do.

        `UnreadableDocument` as `page_images`, also after some pages; `TooLate`; `ModelAway`. A few pages are worked on
        at once, and no more: a long document does not push the others aside, nor fill the memory.
        """
        turn = asyncio.Lock()
        ahead: deque[asyncio.Task[Page | None]] = deque()
        async with aclosing(self._images(data, name)) as images:
            try:
                while True:
                    while len(ahead) < AHEAD:
                        ahead.append(asyncio.create_task(self._page(images, turn, options)))
                    try:
                        async with deadline.timeout():
                            page = await ahead[0]
                    except TimeoutError:
                        raise too_late(name) from None
                    if page is None:
                        return
                    ahead.popleft()
                    yield page
            finally:
                for task in ahead:
                    task.cancel()
                await asyncio.gather(*ahead, return_exceptions=True)

    async def _page(self, images: AsyncIterator[Picture], turn: asyncio.Lock, options: ReadOptions) -> Page | None:
        """The next page of a document; None after the last one. `turn` lets one page at a time be decoded."""
        async with AsyncExitStack() as held:
            async with turn:
                await held.enter_async_context(self.open_pages)
                image = await anext(images, None)
            if image is None:
                return None
            if not self.orient:
                options = options.model_copy(update={"orientation": False})
            try:
                return await read_page(image, self.hops, *self.inputs, options)
            except (aiohttp.ClientError, BentoMLException) as error:
                log.exception("a model service failed")
                raise ModelAway("model service", type(error).__name__, "an answer", "try again soon") from None

    async def _images(self, data: bytes, name: str) -> AsyncGenerator[Picture, None]:
        images = await self.hops.aside(page_images, data, name, self.limits)
        while (image := await self.hops.aside(_next, images)) is not None:
            yield image

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        """The status of /readyz and its body: 200 once both models run the very bundles of this release."""
        models = dict(zip(TASKS, await asyncio.gather(*map(self.loaded, TASKS)), strict=True))
        ready = all(models[task].get("digest") == getattr(self.release.manifest, task) for task in TASKS)
        if ready:
            self.last_ready = time.monotonic()
        attested = all(models[task].get("attested") for task in TASKS)
        state = {
            "ready": ready,
            "release": self.release.digest,
            "attested": attested,
            "serving": self.settings.digest,
            "models": models,
        }
        return 200 if ready else 503, state

    async def liveness(self) -> tuple[int, dict[str, Any]]:
        """The status of /livez and its body: 503 when the models have been away for too long."""
        await self.readiness()
        away = time.monotonic() - self.last_ready
        return 200 if away < DEAD_SECONDS else 503, {"alive": away < DEAD_SECONDS}

    async def loaded(self, task: str) -> dict[str, str | bool]:
        """What the worker of a task says it runs; `error` when it does not answer."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return dict(await self.hops.models[task].loaded())
        except (TimeoutError, aiohttp.ClientError, BentoMLException) as error:
            return {"error": f"no answer: {type(error).__name__}"}


def _next(images: Iterator[Picture]) -> Picture | None:
    start = time.perf_counter()
    image = next(images, None)
    if image is not None:
        telemetry.stage_took("decode", time.perf_counter() - start)
    return image
