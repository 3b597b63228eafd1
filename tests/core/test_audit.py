"""The audit log: what was written is found, whatever was done to it is named, and it goes on."""

import multiprocessing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocr_ops.core.audit import AuditLog, Event
from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import digest_bytes

DOCUMENT = digest_bytes(b"a document")


def event(number: int) -> Event:
    return Event(
        caller=f"key{number}", action="POST /v1/ocr", outcome="done", status=200, documents=(DOCUMENT,), pages=number
    )


def events(*numbers: int) -> list[Event]:
    return [event(number) for number in numbers]


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    """Five entries, written as they came: one, three and one."""
    made = AuditLog(tmp_path / "audit")
    for some in (events(0), events(1, 2, 3), events(4)):
        made.append(some)
    return made


def test_entries_come_back_in_order(log: AuditLog) -> None:
    assert [entry.event.pages for entry in log.entries()] == [0, 1, 2, 3, 4]
    sound = log.verify()
    assert (sound.entries, sound.first, sound.last, sound.torn) == (5, 1, 5, 0)


def test_a_log_nobody_wrote_is_empty(tmp_path: Path) -> None:
    assert AuditLog(tmp_path).verify().entries == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_found(log: AuditLog, data: st.DataObject) -> None:
    original = log.current.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != original[place]))
    try:
        log.current.write_bytes(original[:place] + bytes([byte]) + original[place + 1 :])
        with pytest.raises(BadRecord):
            log.verify()
    finally:
        log.current.write_bytes(original)


@pytest.mark.parametrize("kept", [[0, 1, 2, 3], [0, 1, 3, 4], [0, 1, 1, 2, 3, 4], [1, 0, 2, 3, 4], []])
def test_lines_that_went_came_or_moved_are_found(log: AuditLog, kept: list[int]) -> None:
    """Also at the end, which the head remembers."""
    lines = log.current.read_bytes().splitlines(keepends=True)
    log.current.write_bytes(b"".join(lines[number] for number in kept))
    with pytest.raises(BadRecord):
        log.verify()


def test_the_chain_goes_on_across_segments(tmp_path: Path) -> None:
    """Rotated by size, and by another program that moved the file away; archived segments are told, not missed."""
    log = AuditLog(tmp_path)
    for number in range(9):
        log.append(events(number), segment_bytes=900)
    names = [segment.name for segment in log.segments]
    assert names[:2] == ["audit-000000000001.jsonl", "audit-000000000003.jsonl"]
    log.current.rename(tmp_path / "audit-000000000009.jsonl")
    log.append(events(9))
    assert [entry.event.pages for entry in log.entries()] == list(range(10))
    (tmp_path / names[0]).unlink()
    sound = log.verify()
    assert (sound.entries, sound.first, sound.last) == (8, 3, 10)
    (tmp_path / names[1]).unlink()
    log.current.unlink()
    with pytest.raises(BadRecord, match="entry 10"):
        log.verify()


def test_a_segment_that_is_set_aside_while_it_is_read_breaks_nothing(tmp_path: Path) -> None:
    """A service goes on writing while its log is verified: the new segment alone would not follow what was read."""
    log = AuditLog(tmp_path / "audit")
    for number in range(2):
        log.append(events(number), segment_bytes=1)
    entries = log.entries()
    found = [next(entries)]
    log.append(events(2), segment_bytes=1)
    found.append(next(entries))
    log.append(events(3), segment_bytes=1)
    found.extend(entries)
    assert [entry.event.pages for entry in found] == [0, 1, 2, 3]
    assert len(log.segments) == 4


def test_a_head_that_found_no_room_does_not_break_the_chain(tmp_path: Path) -> None:
    """The entry fitted where a block had room left, the head did not; then the segment is rotated."""
    log = AuditLog(tmp_path)
    log.append(events(0))
    remembered = log.head.read_bytes()
    log.append(events(1))
    log.head.write_bytes(remembered)
    log.append(events(2), segment_bytes=1)
    assert [entry.event.pages for entry in log.entries()] == [0, 1, 2]
    assert log.verify().last == 3


def test_a_crash_in_the_middle_of_a_line_costs_that_line_alone(log: AuditLog, caplog: pytest.LogCaptureFixture) -> None:
    with log.current.open("ab") as file:
        file.write(b'{"event": {"act')
    assert log.verify().torn == 15
    log.append(events(5))
    assert "half-written" in caplog.text
    assert log.verify().entries == 6


def test_a_broken_end_is_set_aside_and_the_service_goes_on(log: AuditLog, caplog: pytest.LogCaptureFixture) -> None:
    """It stays as evidence, and is named."""
    log.current.write_bytes(log.current.read_bytes().replace(b'"pages":4', b'"pages":3'))
    log.append(events(5))
    assert "altered" in caplog.text
    assert len(log.segments) == 2
    with pytest.raises(BadRecord, match="line 5"):
        log.verify()


def _append_some(folder: Path) -> None:
    for number in range(5):
        AuditLog(folder).append(events(number, number))


def test_processes_appending_at_once_make_one_sound_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_some, args=(tmp_path,)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert AuditLog(tmp_path).verify().last == 40
