import json
import logging
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocr_ops.core.chain import GENESIS
from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import digest_bytes
from ocr_ops.release.ledger import Ledger, Move


def _move(number: int, reason: str = "better") -> Move:
    return Move(
        action="promote",
        from_version=number or None,
        from_digest=digest_bytes(b"%d" % number) if number else None,
        to_version=number + 1,
        to_digest=digest_bytes(b"%d" % (number + 1)),
        reason=reason,
        receipts=(digest_bytes(b"receipt"),),
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Three entries."""
    made = Ledger(tmp_path / "ledger.jsonl")
    for number in range(3):
        made.append(_move(number))
    return made


def test_entries_come_back_in_order_with_who_when_and_why(ledger: Ledger) -> None:
    chain = ledger.verify()
    assert [entry.sequence for entry in chain.entries] == [1, 2, 3]
    assert chain.entries[0].previous == GENESIS
    assert chain.entries[2].previous == chain.entries[1].seal
    assert chain.entries[1].move.from_version == 1
    assert "@" in chain.entries[1].move.actor
    assert chain.torn == b""


def test_a_ledger_nobody_wrote_is_empty(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "ledger.jsonl").verify().entries == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data())
def test_any_changed_byte_is_found_and_its_line_named(ledger: Ledger, data: st.DataObject) -> None:
    original = ledger.path.read_bytes()
    place = data.draw(st.integers(0, len(original) - 2))  # the final newline has a test of its own
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != original[place]))
    try:
        ledger.path.write_bytes(original[:place] + bytes([byte]) + original[place + 1 :])
        with pytest.raises(BadRecord) as caught:
            ledger.verify()
        line = original[:place].count(b"\n") + 1
        assert caught.value.subject.endswith(f"line {line}")
    finally:
        ledger.path.write_bytes(original)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.lists(st.integers(0, 2), max_size=5).filter(lambda order: order[:3] != [0, 1, 2]))
def test_removed_repeated_and_reordered_lines_are_found(ledger: Ledger, order: list[int]) -> None:
    original = ledger.path.read_bytes()
    lines = original.splitlines(keepends=True)
    try:
        ledger.path.write_bytes(b"".join(lines[index] for index in order))
        with pytest.raises(BadRecord):
            ledger.verify()
    finally:
        ledger.path.write_bytes(original)


def test_a_line_forged_with_a_fitting_seal_breaks_the_chain_after_it(ledger: Ledger) -> None:
    lines = ledger.path.read_text(encoding="utf-8").splitlines()
    entry = ledger.verify().entries[1]
    forged = entry.model_copy(update={"move": _move(1, "a nicer story")}).sealed()
    ledger.path.write_text("\n".join([lines[0], forged.canonical, lines[2], ""]), encoding="utf-8")
    with pytest.raises(BadRecord, match="line 3: entry 3, which does not follow"):
        ledger.verify()


def test_the_ledger_refuses_to_grow_on_a_broken_chain(ledger: Ledger) -> None:
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(lines[0] + lines[2])
    with pytest.raises(BadRecord):
        ledger.append(_move(3))
    assert ledger.path.read_bytes() == lines[0] + lines[2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_crash_anywhere_in_an_append_costs_that_entry_alone(
    ledger: Ledger, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    before, head = ledger.path.read_bytes(), ledger.head.read_bytes()
    ledger.append(_move(3))
    line = ledger.path.read_bytes()[len(before) :]
    torn = line[: int(share * len(line))]
    ledger.path.write_bytes(before + torn)
    ledger.head.write_bytes(head)  # the head is written last
    try:
        chain = ledger.verify()
        assert len(chain.entries) == 3
        assert chain.torn == torn
        with caplog.at_level(logging.WARNING):
            ledger.append(_move(3, "again"))
        assert bool(torn) == ("half-written" in caplog.text)
        assert [entry.move.reason for entry in ledger.verify().entries] == ["better"] * 3 + ["again"]
    finally:
        caplog.clear()
        ledger.path.write_bytes(before)
        ledger.head.write_bytes(head)


def test_a_crash_before_the_head_is_written_keeps_the_entry(ledger: Ledger) -> None:
    head = ledger.head.read_bytes()
    ledger.append(_move(3))
    ledger.head.write_bytes(head)
    assert len(ledger.verify().entries) == 4
    assert ledger.append(_move(4)).sequence == 5


def test_a_ledger_that_was_deleted_is_missed(ledger: Ledger) -> None:
    ledger.path.unlink()
    with pytest.raises(BadRecord, match="3 lines"):
        ledger.verify()


def test_lines_are_plain_json(ledger: Ledger) -> None:
    last = json.loads(ledger.path.read_text(encoding="utf-8").splitlines()[-1])
    assert last["move"]["to_version"] == 3


def _append_some(path: Path) -> None:
    for number in range(5):
        Ledger(path).append(_move(number))


def test_processes_appending_at_once_make_one_sound_chain(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_some, args=(path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [entry.sequence for entry in Ledger(path).verify().entries] == list(range(1, 21))
