"""Who leads, who is on the front, and what is said of the difference."""

import numpy as np
import pytest

from ocr_ops.bench import standing
from ocr_ops.bench.standing import boards, gain, labels
from ocr_ops.core.verdict import Verdict
from tests.runs import TEXTS, line_cell, misread, page_cell, run_of

RIGHT = list(TEXTS)
ALL_WRONG = misread(TEXTS, dict.fromkeys("aeiouAEIOU0123456789", "#"))


def test_the_cheapest_that_passes_leads_and_is_held_against_its_float_parent_first() -> None:
    run = run_of(
        line_cell("small fp32", RIGHT, 4, variant="fp32"),
        line_cell("small int8", misread(TEXTS, {"0": "O"}, every=6), 2),
        line_cell("tiny int8", ALL_WRONG, 1),
        line_cell("peer", RIGHT, 9, kind="peer"),
    )
    (board,) = boards(run)
    assert board.leader is run.results[1]
    assert [rival.result.cell.name for rival in board.rivals] == ["small fp32", "peer", "tiny int8"]
    assert [result.cell.name for result in board.front] == ["tiny int8", "small int8", "small fp32"]
    parent = board.rivals[0]
    assert parent.cpu is not None
    assert 0.4 < parent.cpu.low <= parent.cpu.value <= parent.cpu.high < 0.6
    assert standing.verdict(run.results) is Verdict.FAIL
    (board,) = boards(run, champion=run.results[2].cell.subject)
    assert board.rivals[0].result is board.champion is run.results[2]


def test_where_none_passes_the_most_accurate_leads() -> None:
    run = run_of(line_cell("a", misread(ALL_WRONG, {" ": ""}), 1), line_cell("b", ALL_WRONG, 5))
    assert [board.leader for board in boards(run)] == [run.results[1]]


def test_peers_alone_have_no_leader() -> None:
    (board,) = boards(run_of(line_cell("x", RIGHT, 1, kind="peer")))
    assert (board.leader, board.rivals) == (None, ())


def test_cells_of_unlike_accuracy_stand_on_boards_of_their_own() -> None:
    regions = page_cell("detector", RIGHT, 1, kind="bundle", task="detection")
    run = run_of(page_cell("whole", RIGHT, 3), regions, unit="page")
    assert [board.measure for board in boards(run)] == ["word_f1", "hmean"]


def test_a_cell_that_measured_nothing_is_on_no_front_and_passes_nothing() -> None:
    silent = line_cell("silent", RIGHT, 1).model_copy(update={"metrics": {}, "samples": {}, "checks": ()})
    run = run_of(silent, results=(silent,))
    (board,) = boards(run)
    assert board.front == ()
    assert standing.verdict(run.results) is None
    assert gain(silent, silent) is None


def test_a_gain_of_f1_is_that_of_the_sums_and_its_interval_holds_it() -> None:
    own, other = page_cell("a", RIGHT, 1), page_cell("b", ALL_WRONG, 1)
    found = gain(own, other)
    assert found is not None
    assert found.value == pytest.approx(own.metrics["word_f1"] - other.metrics["word_f1"])
    assert 0 < found.low < found.value < found.high
    zero = gain(own, own)
    assert zero is not None
    assert (zero.value, zero.low, zero.high) == (0, 0, 0)


def test_items_of_one_call_are_one_pair() -> None:
    own, other = line_cell("a", RIGHT, 2), line_cell("b", RIGHT, 4)
    found = standing.cost(own, other, block=5)
    assert found is not None
    assert found.count == 3  # 5, 5 and 2 lines


def test_errors_count_both_what_is_missed_and_what_is_made_up() -> None:
    errors = standing.errors(page_cell("a", ["TOTAL 12.O0", *RIGHT[1:]], 1))
    assert errors is not None
    assert np.array_equal(errors, [2, *[0] * 11])


def test_labels_drop_what_all_of_ours_end_in() -> None:
    run = run_of(*(line_cell(f"m {kind}, cpu, 1 thread", RIGHT, 1) for kind in ("fp32", "int8")))
    assert list(labels(run.results).values()) == ["m fp32", "m int8"]
    alone = run_of(line_cell("m int8, cpu", RIGHT, 1), line_cell("x, y", RIGHT, 2, kind="peer"))
    assert list(labels(alone.results).values()) == ["m int8, cpu", "x, y"]
