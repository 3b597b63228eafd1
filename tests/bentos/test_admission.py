import random
import time

import pytest

from bentos.admission import ALWAYS, Admission, Pace
from ocr_ops.core.errors import Overloaded


def test_no_more_than_the_limit_are_inside() -> None:
    """A place that is left is free again, however it was left."""
    admission = Admission(1)
    with admission.admit(), pytest.raises(Overloaded, match="1 documents in flight"), admission.admit():
        pass
    with pytest.raises(ValueError, match="so"), admission.admit():
        raise ValueError("so")
    with admission.admit():
        assert admission.inside == 1


def test_documents_that_come_together_are_counted_each() -> None:
    """Those that do not fit beside others are turned away; alone, any number may come; none keeps its place."""
    admission = Admission(4)
    with admission.admit() as first, admission.admit() as second:
        second.take(3)
        assert admission.inside == 4
        with pytest.raises(Overloaded, match="3 documents in flight, and 2 more"):
            first.take(2)
        assert admission.inside == 4
        second.hold(1)
        first.take(2)
        assert admission.inside == 3
    with admission.admit() as alone:
        alone.take(32)
        with pytest.raises(Overloaded), admission.admit():
            pass
    assert admission.inside == 0


def test_what_would_be_answered_too_late_is_told_when_to_come_back() -> None:
    admission = Admission(100, promised=2.0, expected=lambda others: 0.5 * (others + 1), inside=3)
    with admission.admit():
        assert admission.inside == 4
    admission.inside = 9
    with pytest.raises(Overloaded, match=r"5\.0 s") as caught, admission.admit():
        pass
    assert caught.value.retry_after == 3


def test_a_few_are_always_let_in() -> None:
    """Else a service whose last page took long would never learn that the next one does not."""
    admission = Admission(100, promised=2.0, expected=lambda _: 60.0, inside=ALWAYS - 1)
    with admission.admit(), pytest.raises(Overloaded), admission.admit():
        pass


def test_a_service_about_to_end_lets_nobody_in() -> None:
    admission = Admission(4)
    with admission.admit():
        admission.close()
        with pytest.raises(Overloaded, match="about to end"), admission.admit():
            pass


def test_a_pace_is_the_time_between_pages_while_there_are_any() -> None:
    """Two at once count half; a time without any does not count."""
    pace = Pace()
    assert pace.seconds == 0
    with pace.page(), pace.page():
        time.sleep(0.1)
    assert 0.05 <= pace.seconds < 0.1 + 0.05
    before = pace.seconds
    time.sleep(0.3)
    with pace.page():
        pass
    assert pace.seconds < before


def test_a_page_that_was_given_up_says_nothing_of_the_pace() -> None:
    pace = Pace()
    with pytest.raises(ValueError, match="so"), pace.page():
        raise ValueError("so")
    assert (pace.seconds, pace.working) == (0, 0)


def test_expectations_become_such_that_one_in_fifty_is_late() -> None:
    """Whether pages take as long as the mean says or, where others work on the same machine, often three times that."""
    for slow in (0.0, 0.2):
        pace, rng, late = Pace(seconds=0.1), random.Random(1), 0
        for number in range(4000):
            expected, took = pace.expected(20), 2.1 * rng.gauss(1.0, 0.1) * (3 if rng.random() < slow else 1)
            late += number >= 2000 and took > expected
            pace.learn(expected, took)
        assert 0.01 < late / 2000 < 0.04
        assert pace.caution < (1.5 if slow == 0 else 4)
