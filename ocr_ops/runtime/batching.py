"""Batching: crops of everybody who waits share calls of the recogniser, by the width they are padded to.

No call waits for company unless settings say so: crops that come while the network is busy are its next calls. So a
lone page is read as fast as without any batching, and the more there is to do, the fuller the calls. A crop's text
never depends on its neighbours.
"""

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocr_ops.runtime.ctc import Decoded, Steps
from ocr_ops.runtime.recognition import Recognizer

Picture = NDArray[np.uint8]


@dataclass(slots=True)
class _Page:
    """Crops that came together, and what is known of them."""

    steps: list[Steps | None]
    missing: int
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Crop:
    page: _Page
    index: int
    pixels: Picture
    since: float


class Batcher:
    """For the callers of one event loop, which hears of whole pages only: its threads take one call after the other."""

    def __init__(self, recognizer: Recognizer, threads: int, max_crops: int, max_wait: float = 0.0) -> None:
        """`threads` calls of the network run at once, each of `max_crops` at most.

        A call that could take more waits for them up to `max_wait` seconds.
        """
        self.recognizer = recognizer
        self.max_crops = max_crops
        self.max_wait = max_wait
        self.pool = ThreadPoolExecutor(threads, "recognition")
        self._lock = threading.Lock()
        self._idle = threads
        self._lanes: defaultdict[int, deque[_Crop]] = defaultdict(deque)
        """Crops that wait, by the width they are padded to; the oldest first."""

    async def recognize(self, crops: Sequence[Picture]) -> list[Decoded]:
        """The texts of prepared crops, as `Recognizer.recognize`. Cancelled, none of them is read any more."""
        loop = asyncio.get_running_loop()
        page = _Page([None] * len(crops), len(crops), loop.create_future())
        now = time.monotonic()
        with self._lock:
            for index, crop in enumerate(crops):
                self._lanes[self.recognizer.width_of(crop)].append(_Crop(page, index, crop, now))
        if crops:
            self._start(loop)
            await page.done
        return self.recognizer.spell([steps for steps in page.steps if steps is not None])

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sets idle threads to work, as many as there are calls for, and looks again when the next is due."""
        with self._lock:
            now = time.monotonic()
            ready = sum(-(-len(self._lanes[width]) // self._most(width)) for width in self._ready(now))
            some = min(self._idle, ready)
            self._idle -= some
            due = self._due() if self._idle else None
        for _ in range(some):
            self.pool.submit(self._work, loop)
        if due is not None and due > now:
            loop.call_at(loop.time() + due - now, self._start, loop)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """One call after the other, until none is ready."""
        while call := self._next(loop):
            width, crops = call
            error, steps = None, list[Steps]()
            try:
                steps = self.recognizer.steps_at([crop.pixels for crop in crops], width)
            except Exception as found:  # noqa: BLE001  its callers are told
                error = found
            with self._lock:
                for crop, made in zip(crops, steps, strict=error is None):
                    crop.page.steps[crop.index] = made
                    crop.page.missing -= 1
                pages = {id(crop.page): crop.page for crop in crops}.values()
                over = [page for page in pages if error or not page.missing]
            if over:
                loop.call_soon_threadsafe(_end, over, error)

    def _next(self, loop: asyncio.AbstractEventLoop) -> tuple[int, list[_Crop]] | None:
        """The call whose crops have waited longest of those that are ready. Without one, its thread is idle."""
        with self._lock:
            while ready := self._ready(time.monotonic()):
                width = min(ready, key=lambda width: self._lanes[width][0].since)
                lane = self._lanes[width]
                crops = [lane.popleft() for _ in range(min(self._most(width), len(lane)))]
                if crops := [crop for crop in crops if not crop.page.done.done()]:
                    return width, crops
            self._idle += 1
            due = self._due()
        if due is not None:
            loop.call_soon_threadsafe(self._start, loop)
        return None

    def _ready(self, now: float) -> list[int]:
        """Widths whose crops fill a call or have waited for long enough."""
        return [
            width
            for width, lane in self._lanes.items()
            if lane and (len(lane) >= self._most(width) or lane[0].since + self.max_wait <= now)
        ]

    def _due(self) -> float | None:
        """When the crops that have waited longest have waited for long enough."""
        oldest = min((lane[0].since for lane in self._lanes.values() if lane), default=None)
        return None if oldest is None else oldest + self.max_wait

    def _most(self, width: int) -> int:
        return min(self.max_crops, self.recognizer.call_size(width))


def _end(pages: Sequence[_Page], error: Exception | None) -> None:
    """Tells their callers, on their event loop, that pages are read or that it failed."""
    for page in pages:
        if page.done.done():
            continue
        if error:
            page.done.set_exception(error)
        else:
            page.done.set_result(None)
