"""What is kept opens with its key, in its place, and nowhere else."""

import base64
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.sealed import Sealer, configured_keys, kept_keys

SEALER = Sealer(bytes(32), "tests")


@given(st.binary(max_size=2000), st.lists(st.text(), max_size=3))
def test_what_is_sealed_opens_in_its_place(data: bytes, place: list[str]) -> None:
    sealed = SEALER.seal(data, *place)
    assert SEALER.open(sealed, *place) == data
    assert SEALER.open(sealed, *place, "elsewhere") is None
    assert Sealer(bytes(32), "others").open(sealed, *place) is None
    assert Sealer(b"1" * 32, "tests").open(sealed, *place) is None


@given(st.binary(max_size=200), st.data())
def test_what_was_altered_opens_no_more(data: bytes, draw: st.DataObject) -> None:
    """Any bit, any length; noise is no error either."""
    sealed = bytearray(SEALER.seal(data, "a"))
    at = draw.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= 1 << draw.draw(st.integers(0, 7))
    assert SEALER.open(bytes(sealed), "a") is None
    assert SEALER.open(bytes(sealed[:at]), "a") is None


def test_the_same_twice_looks_different_and_says_nothing() -> None:
    """Equal documents are not told by equal bytes."""
    secret = b"Total 12.00 " * 20
    assert SEALER.seal(secret, "a") != SEALER.seal(secret, "a")
    assert b"Total" not in SEALER.seal(secret, "a")


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_names_are_as_different_as_what_they_name(one: list[str], other: list[str]) -> None:
    assert (SEALER.name(*one) == SEALER.name(*other)) == (one == other)
    assert SEALER.name(*one) != Sealer(b"1" * 32, "tests").name(*one)


@pytest.mark.parametrize("write", [base64.b64encode, base64.urlsafe_b64encode, lambda key: key.hex().encode()])
def test_a_key_is_taken_in_base64_or_hex(write: "object", monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = os.urandom(32)
    text = write(key).decode()  # type: ignore[operator]
    monkeypatch.setenv("OCR_OPS_CACHE_KEY", text)
    assert configured_keys() == (key,)
    monkeypatch.delenv("OCR_OPS_CACHE_KEY")
    assert configured_keys() == ()
    (tmp_path / "key").write_text(text + "\n", encoding="ascii")
    monkeypatch.setenv("OCR_OPS_CACHE_KEY_FILE", str(tmp_path / "key"))
    assert configured_keys() == (key,)


def test_of_several_keys_the_first_seals_and_all_open(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = b"1" * 32, b"2" * 32
    monkeypatch.setenv("OCR_OPS_CACHE_KEY", f"{new.hex()},\n {base64.b64encode(old).decode()}\n")
    assert configured_keys() == (new, old)
    before, both, after = Sealer(old, "x"), Sealer(new, "x", [old]), Sealer(new, "x")
    sealed, anew = before.seal(b"said", "here"), both.seal(b"more", "here")
    assert both.open(sealed, "here") == b"said"
    assert both.open(sealed, "there") is None
    assert (before.open(anew, "here"), after.open(anew, "here"), after.open(sealed, "here")) == (None, b"more", None)
    assert both.names("a", "b") == (after.name("a", "b"), before.name("a", "b"))
    assert both.opener(sealed, "here").name("a") == before.name("a")
    assert both.opener(anew, "here").name("a") == after.name("a")


@pytest.mark.parametrize("text", ["secret", "A" * 43, "é" * 32, "0" * 63, base64.b64encode(bytes(31)).decode()])
def test_what_is_no_key_ends_with_one_line(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCR_OPS_CACHE_KEY", text)
    with pytest.raises(SystemExit):
        configured_keys()
    told = capsys.readouterr().err
    assert told.startswith("error: OCR_OPS_CACHE_KEY: no key;")
    assert text not in told


def test_a_kept_key_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    """Eight who start at once agree on it."""
    path = tmp_path / "jobs" / "key"
    command = (
        f"from pathlib import Path; from bentos.sealed import kept_keys; print(kept_keys(Path({str(path)!r}))[0].hex())"
    )
    with ThreadPoolExecutor(3) as pool:
        runs = pool.map(
            lambda _: subprocess.run([sys.executable, "-c", command], capture_output=True, check=True), "abc"
        )
        keys = {run.stdout for run in runs}
    assert keys == {kept_keys(path)[0].hex().encode() + b"\n"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, "names of jobs stand in it"
    assert [file.name for file in path.parent.iterdir()] == ["key"]
