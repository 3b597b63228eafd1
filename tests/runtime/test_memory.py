"""Memory: as flat over ten thousand pages as over a thousand."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ocr_ops.core.release import Release
from ocr_ops.runtime.pipeline import Reader
from tests import tiny

ALLOWED = 16 * 2**20
"""Bytes of growth: a leak of 2 kB a page would show, the largest page's buffers, met late, would not."""


def resident() -> int:
    """Bytes of this process in memory, what waits for the garbage collector not counted."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pages(seed: int) -> Iterator[NDArray[np.uint8]]:
    """Small pages of many sizes, without an end: no two in a row ask for the same buffers."""
    rng = np.random.default_rng(seed)
    while True:
        width, height = (int(side) for side in rng.integers(96, 400, 2))
        lines = ["".join(rng.choice(list(tiny.CHARSET.strip()), 3)) for _ in range(max(1, (height - 40) // 48))]
        yield tiny.draw(lines, width, height)


def growth(reader: Reader, first: int, last: int) -> int:
    """How much more memory page `last` leaves behind than page `first` did, in bytes."""
    before = 0
    for count, page in zip(range(1, last + 1), pages(3), strict=False):
        assert reader.read_page(page).lines
        if count == first:
            before = resident()
    return resident() - before


def test_memory_stays_where_it_is_after_some_hundred_pages(tiny_release: Release) -> None:
    """The short form, for every day."""
    assert growth(Reader(tiny_release, threads=1), 200, 700) < ALLOWED / 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_stays_flat_over_ten_thousand_pages(tiny_release: Release) -> None:
    """Nothing of a page is kept: neither by us nor by the runtime nor by the allocator."""
    assert growth(Reader(tiny_release, threads=1), 1000, 10_000) < ALLOWED
