"""Engine: documents in, pages out. Where the models run, in what order work is done, and by when."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bentos.admission import Pace
from bentos.deadline import Deadline
from bentos.hop import Hop
from bentos.packing import pack, unpack_boxes, unpack_texts
from ocr_ops.core.errors import ModelAway
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.spec import TASKS
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.decoders import CAPS, Decoders
from ocr_ops.runtime.documents import LIMITS, Limits, Sheet
from ocr_ops.runtime.pipeline import read_sheet
from ocr_ops.runtime.sheet import Caps

__all__ = ["Deadline", "Engine"]

T = TypeVar("T")
Picture = NDArray[np.uint8]

AHEAD = 3
"""Pages of one document that are worked on at once: one is decoded, one searched for text, one read."""
LARGE = 12_000_000
"""Values of a page's pixels beyond which it is worked on beside the others: an A4 page at 300 dpi has 8.7 million."""
PROBE_SECONDS = 5.0
DEAD_SECONDS = 120.0
"""How long a model may go without an answer before /livez says to start anew: it hangs, for a dead one is replaced."""


@dataclass(frozen=True, slots=True)
class _Hops:
    """`Models`, each a hop away."""

    models: Mapping[str, Hop]
    workers: ThreadPoolExecutor
    deadline: Deadline

    async def detect(self, page: Picture) -> NDArray[np.float32]:
        return unpack_boxes(await self._call("detection", "/detect", [page]))

    async def recognize(self, crops: Sequence[Picture]) -> list[Decoded]:
        return unpack_texts(await self._call("recognition", "/recognize", crops)) if len(crops) else []

    async def _call(self, task: str, route: str, pictures: Sequence[Picture]) -> bytes:
        return await self.models[task].call(route, pack(pictures), self.deadline)

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        """Runs `work` off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, work, *args)


@dataclass(slots=True)
class _Document:
    """A document that is being read."""

    sheets: AsyncIterator[Sheet]
    options: ReadOptions
    deadline: Deadline
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Lets one page at a time be decoded."""
    left: int | None = None
    """Pages that are still to be decoded, once that is known."""


class Engine:
    """Of one gateway process, which has the CPU for so many `threads`; None: for as many as its share holds.

    `orient` False: pages are only read as they come, whatever a caller asks.
    """

    def __init__(
        self,
        release: Release,
        settings: ServingSettings,
        models: Mapping[str, Hop],
        limits: Limits = LIMITS,
        *,
        threads: int | None = None,
        orient: bool = True,
        caps: Caps = CAPS,
    ) -> None:
        tuned = settings.tuned(release)
        self.release = release
        self.settings = settings
        self.limits = limits
        self.orient = orient
        self.inputs = (tuned.detection.manifest.input, tuned.recognition.manifest.input)
        threads = threads or thread_count()
        self.models = models
        # One for ordinary pages: two would spend a sixth of their time on handing the interpreter to each other. What
        # takes long in OpenCV, without the interpreter, is done beside it.
        self.ordinary, self.large = ThreadPoolExecutor(1, "page"), ThreadPoolExecutor(threads, "large page")
        self.decoders = Decoders(caps, at_once=threads)
        self.decoders.start()
        # A page may hold 180 MB of pixels: only so many are open at a time, still enough to fill batches.
        self.open_pages = asyncio.Semaphore(2 * threads + 2)
        self.pace = Pace()
        self.documents: dict[int, _Document] = {}
        self.away_since: float | None = None
        """When the models were first found away, since they were last found ready."""

    def expected(self, others: int) -> float:
        """Seconds that one more page would take to be read, beside so many documents.

        Of each no more than `AHEAD` pages come before it, however long it is.
        """
        pages = sum(min(AHEAD, document.left or 1) for document in self.documents.values())
        return self.pace.expected(max(pages, others))

    async def pages(
        self,
        data: bytes,
        name: str,
        options: ReadOptions,
        deadline: Deadline,
        *,
        limits: Limits | None = None,
    ) -> AsyncGenerator[Page, None]:
        """Reads a document, page after page in their order; closing it early cancels what is still to do.

        `UnreadableDocument` as `documents.sheets`, also after some pages; `TooLate`; `ModelAway`. A few pages are
        worked on at once, and no more: a long document does not push the others aside, nor fill the memory.

        `limits` stand in for the engine's.
        """
        ahead: deque[asyncio.Task[Page | None]] = deque()
        async with aclosing(self._opened(data, name, options, limits)) as sheets:
            document = _Document(sheets, options, deadline)
            start, expected, waits = time.monotonic(), self.expected(0), self.open_pages.locked()
            self.documents[id(document)] = document
            try:
                while True:
                    while len(ahead) < AHEAD:
                        ahead.append(asyncio.create_task(self._page(document)))
                    try:
                        async with deadline.timeout():
                            page = await ahead[0]
                    except TimeoutError:
                        raise deadline.too_late(name) from None
                    if page is None:
                        return
                    if waits and expected:
                        self.pace.learn(expected, time.monotonic() - start)
                        waits = False
                    ahead.popleft()
                    yield page
            finally:
                del self.documents[id(document)]
                for task in ahead:
                    task.cancel()
                await asyncio.gather(*ahead, return_exceptions=True)

    def _opened(
        self, data: bytes, name: str, options: ReadOptions, limits: Limits | None
    ) -> AsyncGenerator[Sheet, None]:
        grey = all(spec.channels == 1 for spec in self.inputs)
        return self.decoders.sheets(data, name, options, limits or self.limits, grey=grey)

    async def _page(self, document: _Document) -> Page | None:
        """The next page of a document; None after the last one."""
        async with AsyncExitStack() as held:
            async with document.turn:
                if document.left == 0:
                    return None  # a place is not waited for only to learn this
                await held.enter_async_context(self.open_pages)
                start = time.perf_counter()
                sheet = await anext(document.sheets, None)
                if sheet is None:
                    return None
                if sheet.count is not None:
                    document.left = (sheet.count if document.left is None else document.left) - 1
            held.enter_context(self.pace.page())
            telemetry.stage_took("decode", time.perf_counter() - start)
            options = document.options
            if not self.orient:
                options = options.model_copy(update={"orientation": False})
            large = sheet.image is not None and sheet.image.size > LARGE
            hops = _Hops(self.models, self.large if large else self.ordinary, document.deadline)
            return await read_sheet(sheet, hops, *self.inputs, options)

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        """The status of /readyz and its body: 200 once both models run the very bundles of this release."""
        models = dict(zip(TASKS, await asyncio.gather(*map(self.loaded, TASKS)), strict=True))
        ready = all(models[task].get("digest") == getattr(self.release.manifest, task) for task in TASKS)
        if ready:
            self.away_since = None
        elif self.away_since is None:
            self.away_since = time.monotonic()
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
        # Not since they were last seen: another worker may have been asked for a long time, or nobody.
        alive = self.away_since is None or time.monotonic() - self.away_since < DEAD_SECONDS
        return 200 if alive else 503, {"alive": alive}

    async def loaded(self, task: str) -> dict[str, str | bool]:
        """What the worker of a task says it runs; `error` when it does not answer."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self.models[task].loaded()
        except (TimeoutError, ModelAway) as error:
            return {"error": f"no answer: {type(error).__name__}"}
