import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.runtime.session import offered
from ocr_ops.runtime.shapes import OFTEN, ByShape, filled, free_memory


def roomy() -> float:
    """Of a GPU of which nothing is taken."""
    return 1.0


class Loaded:
    """A session, of which only which one it is matters here."""


def test_a_shape_that_comes_often_has_a_session_of_its_own() -> None:
    common = Loaded()
    sessions = ByShape(common, Loaded, roomy)
    seldom = [sessions.of((1, 3, 64, 96)) for _ in range(OFTEN - 1)]
    own, other = sessions.of((1, 3, 64, 96)), sessions.of((1, 3, 64, 128))
    assert all(session is common for session in (*seldom, other))
    assert own is not common
    assert sessions.of((1, 3, 64, 96)) is own


def test_sessions_are_few_and_the_one_unused_for_longest_makes_room() -> None:
    common = Loaded()
    sessions = ByShape(common, Loaded, roomy, most=2)
    shapes = [(1, 1, 32, width) for width in (32, 64, 96)]
    first, second = ([sessions.of(shape) for _ in range(OFTEN)][-1] for shape in shapes[:2])
    assert sessions.of(shapes[0]) is first
    third = [sessions.of(shapes[2]) for _ in range(OFTEN)][-1]
    assert sessions.of(shapes[1]) is common
    assert [sessions.of(shapes[0]), sessions.of(shapes[2])] == [first, third]
    again = [sessions.of(shapes[1]) for _ in range(OFTEN)][-1]
    assert again not in {common, second}


def test_without_memory_for_another_session_the_common_one_goes_on() -> None:
    def load() -> Loaded:
        raise MemoryError

    common = Loaded()
    sessions = ByShape(common, load, roomy)
    assert all(sessions.of((1, 3, 64, 96)) is common for _ in range(3 * OFTEN))


def test_where_others_have_taken_half_of_the_memory_sessions_give_way_to_each_other() -> None:
    free, common = 1.0, Loaded()
    sessions = ByShape(common, Loaded, lambda: free)
    shapes = [(1, 1, 32, width) for width in (32, 64, 96)]
    first, second = ([sessions.of(shape) for _ in range(OFTEN)][-1] for shape in shapes[:2])
    free = 0.4
    third = [sessions.of(shapes[2]) for _ in range(OFTEN)][-1]
    assert len({common, first, second, third}) == 4
    assert [sessions.of(shape) for shape in shapes] == [common, second, third]


def test_without_memory_from_the_start_there_is_one_session() -> None:
    common = Loaded()
    sessions = ByShape(common, Loaded, lambda: 0.0)
    assert all(sessions.of((1, 3, 64, 96)) is common for _ in range(3 * OFTEN))


@pytest.mark.skipif("cuda" in offered(), reason="a GPU works here")
def test_a_machine_without_a_gpu_has_no_memory_of_one() -> None:
    assert free_memory() == 0.0


@given(st.integers(1, 200))
def test_a_batch_is_filled_up_to_few_sizes_and_its_own_come_first(rows: int) -> None:
    batch = np.random.default_rng(rows).random((rows, 1, 4, 8), np.float32)
    made = filled(batch)
    assert len(made) in {1, 4, 16, 64, 256}
    assert len(made) < 4 * rows
    np.testing.assert_array_equal(made[:rows], batch)
    assert not made[rows:].any()
