"""API keys: made, found, tried, replaced and taken back; kept whole and hashed."""

import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.errors import BadInput, BadRecord, UsageError
from ocr_ops.core.keys import PATTERN, Changed, KeyRing, Limits, change_keys, handle_of, read_keys

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def make(ring: KeyRing, name: str = "scanner", expires: datetime | None = None) -> Changed:
    return ring.create(name, ("read",), Limits(), expires, NOW)


@pytest.fixture(scope="module")
def made() -> Changed:
    return make(KeyRing())


def test_a_key_is_found_by_its_handle_and_matches_alone(made: Changed) -> None:
    """One hash is tried, and another secret under the same handle is not it."""
    assert made.secret
    handle = handle_of(made.secret)
    assert handle
    found = made.ring.find(handle)
    assert found
    key, secret = found
    assert key == made.key
    assert secret.matches(made.secret)
    assert not secret.matches(made.secret[:-1] + "-")


def test_what_is_kept_does_not_tell_the_secret(made: Changed) -> None:
    """Neither the whole key nor its secret part; the parameters of the hash are there."""
    kept = made.ring.canonical
    assert made.secret
    assert made.secret.split("_")[2][:20] not in kept
    assert '"n":16384,"p":1,"r":8' in kept


@given(place=st.integers(0, 61), digit=st.sampled_from("0123456789abcXYZ_-é"))
def test_a_mistyped_key_is_told_without_a_hash(made: Changed, place: int, digit: str) -> None:
    """Any one character."""
    assert made.secret
    assert PATTERN.fullmatch(made.secret)
    typed = made.secret[:place] + digit + made.secret[place + 1 :]
    assert (handle_of(typed) is None) == (typed != made.secret)


@given(st.text(max_size=80))
def test_other_words_are_no_keys(words: str) -> None:
    """Nor do they raise."""
    assert handle_of(words) is None


def test_a_key_expires_and_is_taken_back(made: Changed) -> None:
    """To the second; and a name is free again once its key is revoked."""
    changed = make(made.ring, "brief", NOW + DAY)
    [secret] = changed.key.secrets
    assert changed.key.good(secret, NOW + DAY - timedelta(seconds=1))
    assert not changed.key.good(secret, NOW + DAY)
    assert changed.key.state(NOW + DAY) == "expired"
    revoked = changed.ring.revoke("brief", NOW)
    assert revoked.key.state(NOW) == "revoked"
    assert not revoked.key.good(secret, NOW)
    again = make(revoked.ring, "brief")
    assert again.key.id != changed.key.id


def test_a_rotated_key_keeps_its_id_and_its_old_secret_for_a_while(made: Changed) -> None:
    """The grace of an older secret is never drawn out, and dead secrets go."""
    first = made.ring.rotate("scanner", DAY, NOW)
    old, new = first.key.secrets
    assert (first.key.id, first.key.roles) == (made.key.id, made.key.roles)
    assert first.secret
    assert new.matches(first.secret)
    assert first.key.good(old, NOW + DAY / 2)
    assert not first.key.good(old, NOW + DAY)
    second = first.ring.rotate(made.key.id, 10 * DAY, NOW)
    assert [secret.expires for secret in second.key.secrets] == [NOW + DAY, NOW + 10 * DAY, None]
    later = second.ring.rotate("scanner", DAY, NOW + 2 * DAY)
    assert [secret.expires for secret in later.key.secrets] == [NOW + 3 * DAY, NOW + 3 * DAY, None]


def test_what_cannot_be_is_said(made: Changed) -> None:
    """Names in use, that are none, that nobody has; keys that are no more."""
    with pytest.raises(UsageError, match="a key of this name"):
        make(made.ring)
    with pytest.raises(BadRecord, match="name"):
        make(made.ring, "../scanner")
    with pytest.raises(BadInput, match="one of: scanner"):
        made.ring.revoke("nobody", NOW)
    with pytest.raises(UsageError, match="revoked"):
        made.ring.revoke("scanner", NOW).ring.rotate(made.key.id, DAY, NOW)


def _make_some(path: Path, name: str) -> None:
    for number in range(3):
        change_keys(path, lambda ring, number=number: make(ring, f"{name}{number}"))  # type: ignore[misc]


def test_a_ring_is_written_whole_for_its_owner_alone(tmp_path: Path) -> None:
    """Also by several at once."""
    path = tmp_path / "home" / "keys.json"
    assert read_keys(path) == KeyRing()
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_make_some, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {key.name for key in read_keys(path).keys} == {f"{name}{number}" for name in "abc" for number in range(3)}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_broken_ring_is_no_empty_one(tmp_path: Path) -> None:
    """Or a slip would take every key back, or let a change lose them all."""
    path = tmp_path / "keys.json"
    path.write_text("{")
    with pytest.raises(BadRecord):
        read_keys(path)
    with pytest.raises(BadRecord):
        change_keys(path, make)
    assert path.read_text() == "{"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(BadRecord, match="symbolic links"):
        read_keys(path)
