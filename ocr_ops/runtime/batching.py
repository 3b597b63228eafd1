"""Batching: crops of everybody who waits share calls of the recogniser, by the width they are padded to.

No call waits for company unless settings say so: crops that come while the network is busy are its next calls. So a
lone page is read as fast as without any batching, and the more there is to do, the fuller the calls. A crop's text
never depends on its neighbours.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ocr_ops.runtime.ctc import Decoded, Steps
from ocr_ops.runtime.recognition import Recognizer, call_size

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
    """For the callers of one event loop."""

    def __init__(self, recognizer: Recognizer, threads: int, max_crops: int, max_wait: float = 0.0) -> None:
        """`threads` calls of the network run at once, each of `max_crops` at most.

        A call that could take more waits for them up to `max_wait` seconds.
        """
        self.recognizer = recognizer
        self.max_crops = max_crops
        self.max_wait = max_wait
        self.idle = threads
        self.pool = ThreadPoolExecutor(threads, "recognition")
        self.lanes: defaultdict[int, deque[_Crop]] = defaultdict(deque)
        """Crops that wait, by the width they are padded to; the oldest first."""

    async def recognize(self, crops: Sequence[Picture]) -> list[Decoded]:
        """The texts of prepared crops, as `Recognizer.recognize`. Cancelled, none of them is read any more."""
        loop = asyncio.get_running_loop()
        page = _Page([None] * len(crops), len(crops), loop.create_future())
        now = time.monotonic()
        for index, crop in enumerate(crops):
            self.lanes[self.recognizer.width_of(crop)].append(_Crop(page, index, crop, now))
        if crops:
            self._start(loop)
            await page.done
        return self.recognizer.spell([steps for steps in page.steps if steps is not None])

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """As many calls as there are idle threads for, those of the oldest crops first."""
        now = time.monotonic()
        while self.idle and (width := self._ready(now)):
            lane = self.lanes[width]
            crops = [lane.popleft() for _ in range(min(self._most(width), len(lane)))]
            if crops := [crop for crop in crops if not crop.page.done.done()]:
                self.idle -= 1
                call = self.pool.submit(self.recognizer.steps_at, [crop.pixels for crop in crops], width)
                call.add_done_callback(partial(self._ended, loop, crops))
        oldest = min((lane[0].since for lane in self.lanes.values() if lane), default=None)
        if self.idle and oldest is not None:
            loop.call_at(loop.time() + oldest + self.max_wait - now, self._start, loop)

    def _ready(self, now: float) -> int:
        """Of the widths whose crops fill a call or have waited for long enough, the one that waited longest; else 0."""
        ready = (
            width
            for width, lane in self.lanes.items()
            if lane and (len(lane) >= self._most(width) or lane[0].since + self.max_wait <= now)
        )
        return min(ready, key=lambda width: self.lanes[width][0].since, default=0)

    def _most(self, width: int) -> int:
        return min(self.max_crops, call_size(width))

    def _ended(self, loop: asyncio.AbstractEventLoop, crops: list[_Crop], call: Future[list[Steps]]) -> None:
        loop.call_soon_threadsafe(self._end, loop, crops, call)

    def _end(self, loop: asyncio.AbstractEventLoop, crops: list[_Crop], call: Future[list[Steps]]) -> None:
        self.idle += 1
        error = call.exception()
        for crop, steps in zip(crops, [] if error else call.result(), strict=error is None):
            crop.page.steps[crop.index] = steps
            crop.page.missing -= 1
        for page in {id(crop.page): crop.page for crop in crops}.values():
            if page.done.done():
                continue
            if error:
                page.done.set_exception(error)
            elif not page.missing:
                page.done.set_result(None)
        self._start(loop)
