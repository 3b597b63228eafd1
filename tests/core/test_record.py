"""Records are strict, canonical and written whole or not at all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model

from ocr_ops.core.errors import BadRecord
from ocr_ops.core.record import Record, Told, canonical_json, write_atomic


class Note(Record):
    text: str
    score: float = 0.0


class Place(Told):
    street: str
    """Where it is.

    With its number.
    """
    town: str


class Person(Told):
    name: str
    home: Place
    """Where they live."""
    works: Place | None = None
    """Where they work."""


@given(text=st.text(), score=st.floats(allow_nan=False, allow_infinity=False))
def test_digest_survives_a_round_trip(text: str, score: float) -> None:
    """What is written and read back is the same record with the same digest."""
    note = Note(text=text, score=score)
    again = Note.parse_json(note.canonical, "memory")
    assert again == note
    assert again.digest == note.digest


def test_canonical_json_does_not_depend_on_key_order() -> None:
    """Equal values give equal bytes."""
    assert canonical_json({"b": 1, "a": [2]}) == canonical_json({"a": [2], "b": 1}) == '{"a":[2],"b":1}'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no JSON"),
        ('{"text": "a", "colour": 1}', "colour"),
        ('{"text": "a", "score": NaN}', "score"),
        ('{"text": "a", "schema_version": 2}', "schema_version"),
        ("[]", "the whole"),
    ],
)
def test_bad_file_is_named_with_its_fault(tmp_path: Path, text: str, found: str) -> None:
    """A wrong record says which file and which field."""
    path = tmp_path / "note.json"
    path.write_text(text)
    with pytest.raises(BadRecord, match=found) as caught:
        Note.from_file(path)
    assert str(path) in str(caught.value)


def test_absent_and_binary_files_are_bad_records(tmp_path: Path) -> None:
    """Neither is a traceback."""
    with pytest.raises(BadRecord, match="no such file"):
        Note.from_file(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BadRecord):
        Note.from_file(tmp_path / "binary.json")


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    """Its scratch file needs no longer one; where it is too long, none is left."""
    write_atomic(tmp_path / ("n" * 255), b"whole")
    with pytest.raises(OSError, match="too long"):
        write_atomic(tmp_path / ("n" * 256), b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["n" * 255]


def test_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure before the rename keeps what stood there, and no scratch file."""
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full_disk(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_docstrings_of_fields_are_told_in_schemas() -> None:
    """Of the values inside it, too; a field without one has none. Values made of it tell them as well."""
    schema = Person.model_json_schema()
    place = schema["$defs"]["Place"]["properties"]
    assert place["street"]["description"] == "Where it is.\n\nWith its number."
    assert "description" not in place["town"]
    assert schema["properties"]["home"] == {"$ref": "#/$defs/Place", "description": "Where they live."}
    assert schema["properties"]["works"]["description"] == "Where they work."
    assert "description" not in schema["properties"]["name"]
    made = create_model("Made", __base__=Person)
    assert made.model_json_schema()["properties"] == schema["properties"]
