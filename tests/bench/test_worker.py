"""A worker is a process of its own: its cores, its costs, its end."""

import os
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import numpy as np
import pytest

from ocr_ops.bench.worker import Image, Read, Worker, cores, held_to, high_water
from ocr_ops.core.errors import BadInput, OutsideSystem, UsageError

PAGE = np.zeros((4, 4, 3), np.uint8)


def teller(threads: int) -> Read:
    """Says where it runs; holds as many megabytes as a page is wide."""

    def read(items: Sequence[Image]) -> list[str]:
        kept = [np.ones(item.shape[1] * 10**6, np.uint8) for item in items]
        del kept
        return [" ".join(map(str, (os.getpid(), *sorted(os.sched_getaffinity(0))))) for _ in items]

    return read


def broken() -> Read:
    raise BadInput("its bundle", "damaged", "a sound one", "fetch it again")


def careless() -> Read:
    return lambda items: [str(1 // len(items[0][0][0][:0])) for _ in items]


def test_a_worker_is_another_process_on_its_own_cores() -> None:
    """Held there before it loads anything; we are not."""
    before = os.sched_getaffinity(0)
    with closing(Worker("teller", "1", partial(teller, 1), 1)) as worker:
        sample = worker.read(PAGE, PAGE)
        assert worker.ready_ms is not None
        assert worker.ready_ms > 0
    first, second = sample.answers
    process, *where = map(int, str(first).split())
    assert first == second
    assert process != os.getpid()
    assert tuple(where) == cores(1)
    assert os.sched_getaffinity(0) == before


def test_memory_is_that_of_each_reading() -> None:
    """The most it took while it read this, not ever."""
    with closing(Worker("teller", "1", partial(teller, 1), 1)) as worker:
        small, large, again = (worker.read(np.zeros((1, width, 3), np.uint8)).peak_mb for width in (1, 100, 1))
    assert small is not None
    assert large is not None
    assert again is not None
    assert 60 < large - small < 140
    assert again < large - 60


def test_what_goes_wrong_there_is_told_here() -> None:
    """Our own errors as they are, others' with their kind, and the end of a process with its code."""
    with pytest.raises(BadInput, match="its bundle: damaged"):
        Worker("broken", "1", broken, 1)
    with (
        closing(Worker("careless", "1", careless, 1)) as worker,
        pytest.raises(OutsideSystem, match="careless: ZeroDivisionError"),
    ):
        worker.read(PAGE)
    with closing(Worker("teller", "1", partial(teller, 1), 1)) as worker:
        worker._process.kill()
        with pytest.raises(OutsideSystem, match="ended with code -9"):
            worker.read(PAGE)


def test_nobody_gets_more_cores_than_there_are() -> None:
    """Nor is anyone quietly given fewer."""
    with pytest.raises(UsageError, match="--threads"):
        cores(10_000)
    assert cores(1) == tuple(sorted(os.sched_getaffinity(0))[:1])


def test_an_error_gives_the_cores_back() -> None:
    """Whatever happens meanwhile."""
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError), held_to(cores(1)):
        raise RuntimeError
    assert os.sched_getaffinity(0) == before


def test_a_process_that_is_gone_tells_nothing() -> None:
    """Not zero: not known."""
    assert high_water(2**22 + 1) is None
    assert (high_water(os.getpid()) or 0) > 10
