import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.runtime.shapes import OFTEN, ByShape, filled


class Loaded:
    """A session, of which only which one it is matters here."""


def test_a_shape_that_comes_often_has_a_session_of_its_own() -> None:
    common = Loaded()
    sessions = ByShape(common, Loaded)
    seldom = [sessions.of((1, 3, 64, 96)) for _ in range(OFTEN - 1)]
    own, other = sessions.of((1, 3, 64, 96)), sessions.of((1, 3, 64, 128))
    assert all(session is common for session in (*seldom, other))
    assert own is not common
    assert sessions.of((1, 3, 64, 96)) is own


def test_sessions_are_few_and_the_one_unused_for_longest_makes_room() -> None:
    common = Loaded()
    sessions = ByShape(common, Loaded, most=2)
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
    sessions = ByShape(common, load)
    assert all(sessions.of((1, 3, 64, 96)) is common for _ in range(3 * OFTEN))


@given(st.integers(1, 200))
def test_a_batch_is_filled_up_to_few_sizes_and_its_own_come_first(rows: int) -> None:
    batch = np.random.default_rng(rows).random((rows, 1, 4, 8), np.float32)
    made = filled(batch)
    assert len(made) in {1, 4, 16, 64, 256}
    assert len(made) < 4 * rows
    np.testing.assert_array_equal(made[:rows], batch)
    assert not made[rows:].any()
