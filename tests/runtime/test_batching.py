"""Crops of all callers share calls of the network, and nobody can tell."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ocr_ops.core.release import Release
from ocr_ops.runtime.batching import Batcher
from ocr_ops.runtime.ctc import Steps
from ocr_ops.runtime.recognition import Recognizer

Picture = NDArray[np.uint8]


class Watched(Recognizer):
    """Notes the calls of its network, which take as long as `free` is not set."""

    def __init__(self, release: Release) -> None:
        super().__init__(release.recognition, 1)
        self.calls: list[tuple[int, int]] = []
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None

    def steps_at(self, crops: Sequence[Picture], width: int) -> list[Steps]:
        self.calls.append((width, len(crops)))
        self.free.wait(20)
        if self.error:
            raise self.error
        return super().steps_at(crops, width)


@pytest.fixture
def watched(tiny_release: Release) -> Watched:
    return Watched(tiny_release)


def _crops(*widths: int) -> list[Picture]:
    return [np.random.default_rng(width).integers(0, 256, (32, width), np.uint8) for width in widths]


async def _busy(watched: Watched, batcher: Batcher) -> asyncio.Task[Any]:
    """A call of the network that ends when `watched.free` is set."""
    watched.free.clear()
    task = asyncio.create_task(batcher.recognize(_crops(512)))
    await asyncio.sleep(0)
    return task


def test_texts_are_those_of_crops_read_alone(watched: Watched, tiny_release: Release) -> None:
    """To the last bit of their confidences, whoever comes along."""
    pages = [_crops(*np.random.default_rng(seed).integers(2, 80, 9) * 4) for seed in range(12)]
    expected = [Recognizer(tiny_release.recognition, 1).recognize(page) for page in pages]

    async def read() -> Any:
        batcher = Batcher(watched, threads=2, max_crops=16)
        return await asyncio.gather(*map(batcher.recognize, pages))

    assert asyncio.run(read()) == expected
    assert sum(size for _, size in watched.calls) == 12 * 9
    assert len(watched.calls) < 12 * 9


def test_a_lone_page_waits_for_nobody(watched: Watched) -> None:
    async def read() -> None:
        await Batcher(watched, threads=1, max_crops=16).recognize(_crops(60, 64, 100))

    asyncio.run(read())
    assert watched.calls == [(64, 2), (128, 1)]


def test_what_comes_while_the_network_is_busy_shares_its_next_calls(watched: Watched) -> None:
    """By width, the oldest first, and no more at once than a call takes."""

    async def read() -> None:
        batcher = Batcher(watched, threads=1, max_crops=3)
        first = await _busy(watched, batcher)
        rest = [asyncio.create_task(batcher.recognize(_crops(*widths))) for widths in ((90, 60), (61, 33), (62, 63))]
        await asyncio.sleep(0)
        watched.free.set()
        await asyncio.gather(first, *rest)

    asyncio.run(read())
    assert watched.calls == [(512, 1), (96, 1), (64, 3), (64, 2)]


def test_those_whose_caller_has_left_are_not_read(watched: Watched) -> None:
    async def read() -> None:
        batcher = Batcher(watched, threads=1, max_crops=16)
        first = await _busy(watched, batcher)
        leaving = asyncio.create_task(batcher.recognize(_crops(64, 64, 128)))
        staying = asyncio.create_task(batcher.recognize(_crops(64)))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        watched.free.set()
        await asyncio.gather(first, staying)

    asyncio.run(read())
    assert watched.calls == [(512, 1), (64, 1)]


def test_crops_wait_for_company_where_settings_say_so(watched: Watched) -> None:
    """And leave at once when the call is full."""

    async def read() -> None:
        batcher = Batcher(watched, threads=1, max_crops=3, max_wait=30)
        one = asyncio.create_task(batcher.recognize(_crops(64)))
        await asyncio.sleep(0)
        await asyncio.gather(one, batcher.recognize(_crops(50, 64)))
        batcher.max_wait = 0.05
        await batcher.recognize(_crops(64))

    asyncio.run(read())
    assert watched.calls == [(64, 3), (64, 1)]


def test_a_network_that_fails_fails_its_callers_and_goes_on(watched: Watched) -> None:
    async def read() -> None:
        batcher = Batcher(watched, threads=1, max_crops=16)
        watched.error = OSError("no")
        with pytest.raises(OSError, match="no"):
            await batcher.recognize(_crops(64, 128))
        watched.error = None
        assert len(await batcher.recognize(_crops(64, 128))) == 2

    asyncio.run(read())


def test_no_crops_are_no_texts(watched: Watched) -> None:
    async def read() -> Any:
        return await Batcher(watched, threads=1, max_crops=16).recognize([])

    assert asyncio.run(read()) == []
