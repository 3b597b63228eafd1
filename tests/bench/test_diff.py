"""Three sentences that say what changed between two runs, and claim nothing that is not shown."""

import re

import pytest

from ocr_ops.bench.diff import diff
from ocr_ops.bench.run import Result, Run
from ocr_ops.core.errors import BadInput, NotProven
from tests.registered import ENVIRONMENT
from tests.runs import TEXTS, line_cell, misread, page_cell, run_of

RIGHT = list(TEXTS)
WRONG = misread(TEXTS, {"0": "O", "e": "c", "1": "l", "a": "o"})
SLIP = misread(TEXTS, {"5": "S"})


def peer(cost: float = 9.0) -> Result:
    return line_cell("rapidocr", RIGHT, cost, kind="peer")


def slower(run: Run, factor: float) -> Run:
    """The same run on a machine that has slowed down."""

    def worse(result: Result) -> Result:
        costs = {name: tuple(v * factor for v in result.samples[name]) for name in ("cpu_ms", "wall_ms")}
        return result.model_copy(update={"samples": {**result.samples, **costs}})

    return run.model_copy(update={"results": tuple(map(worse, run.results))})


def test_a_better_and_cheaper_model_is_told_as_real() -> None:
    found = diff(run_of(line_cell("m int8", WRONG, 4), peer()), run_of(line_cell("m2 int8", RIGHT, 2), peer()))
    accuracy, cost, moved = found.sentences
    assert re.match(r"Accuracy of m2 int8, characters right \(.*\), rose from 7\d", accuracy)
    assert "which is real" in accuracy
    assert re.match(r"CPU of m2 int8 is 0\.(4[5-9]|5[0-5]?)\d? times what it was \(0\.", cost)
    assert cost.endswith("that of the unchanged rapidocr 1 times: the change is real.")
    assert moved.startswith("m2 int8 was FAIL and is PASS; the slice that moved most is width: ")
    assert "of 12 lines 12 are read better and 0 worse" in moved
    assert found.unmatched == ()
    assert [change.row["verdict"] for change in found.changes] == ["PASS", "not judged"]
    assert all(sentence.count(". ") == 0 and sentence.endswith(".") for sentence in found.sentences)


def test_a_slip_on_one_line_is_called_chance() -> None:
    found = diff(run_of(line_cell("m int8", RIGHT, 2), peer()), run_of(line_cell("m int8", SLIP, 2), peer()))
    assert "may well be chance: no change of accuracy is shown." in found.sentences[0]
    assert found.sentences[2].startswith("m int8 is PASS as before")


def test_a_machine_that_drifted_is_no_change_of_cost() -> None:
    """The peer is what it was and got slower too."""
    run = run_of(line_cell("m int8", RIGHT, 2), peer())
    accuracy, cost, moved = diff(run, slower(run, 1.4)).sentences
    assert " is the same on every item, 100.0\N{NO-BREAK SPACE}%." in accuracy
    assert cost.endswith("that of the unchanged rapidocr 1.4 times: no change of cost is shown.")
    assert moved == "m int8 is PASS as before; no line is read better or worse."


def test_without_a_control_the_machine_is_not_ruled_out() -> None:
    run = run_of(line_cell("m int8", RIGHT, 2))
    assert "the machine or the toolkit changed, not the model." in diff(run, slower(run, 1.4)).sentences[1]
    other = run_of(line_cell("m2 int8", RIGHT, 1))
    assert "no unchanged peer ran in both" in diff(run, other).sentences[1]


def test_pages_are_compared_by_the_words_of_all() -> None:
    before, after = (run_of(page_cell("whole", texts, 2), unit="page") for texts in (WRONG, RIGHT))
    found = diff(before, after)
    assert "Accuracy of whole, word F1, rose" in found.sentences[0]
    assert found.changes[0].gain is not None


def test_cells_are_matched_by_what_they_run_then_by_name_then_by_settings() -> None:
    before = run_of(*(line_cell(name, RIGHT, 2, threads=n) for name, n in (("a", 1), ("a, 2 threads", 2), ("old", 4))))
    after = run_of(*(line_cell(name, RIGHT, 2, threads=n) for name, n in (("b", 1), ("a, 2 threads", 2), ("new", 8))))
    found = diff(before, after)
    pairs = {(change.before.cell.name, change.after.cell.name) for change in found.changes}
    assert pairs == {("a", "b"), ("a, 2 threads", "a, 2 threads")}
    assert found.unmatched == ("old", "new")


def test_unlike_runs_are_refused_with_what_differs() -> None:
    run = run_of(line_cell("m int8", RIGHT, 2))
    texts = [*TEXTS[:-1], "another"]
    with pytest.raises(BadInput, match="dataset: "):
        diff(run, run_of(line_cell("m int8", texts, 2, texts), texts=texts))
    with pytest.raises(BadInput, match="other labels"):
        diff(run, run.model_copy(update={"items": tuple(reversed(run.items))}))
    elsewhere = run.model_copy(update={"environment": ENVIRONMENT.model_copy(update={"cpu": "another"})})
    with pytest.raises(NotProven, match="unlike environments: cpu 'test' beside 'another'"):
        diff(run, elsewhere)
    with pytest.raises(BadInput, match="no cell of one is in the other"):
        diff(run, run_of(line_cell("x", RIGHT, 2, kind="peer")))


def test_what_was_not_measured_is_said_to_be_unknown() -> None:
    def bare(name: str) -> Run:
        whole = line_cell(name, RIGHT, 2)
        silent = whole.model_copy(update={"metrics": {}, "samples": {}, "slices": {}, "checks": ()})
        return run_of(silent, results=(silent,))

    found = diff(bare("m"), bare("m"))
    assert found.sentences[0].endswith("nothing is known of it.")
    assert found.sentences[1].endswith("nothing is known of it.")
    assert found.changes[0].row["accuracy"] is None
