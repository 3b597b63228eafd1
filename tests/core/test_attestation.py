"""A release says where it was admitted, and stays the same release when it may say so of one place more."""

import json
from pathlib import Path

import pytest

from ocr_ops.core.attestation import ATTESTED_FILE, Attestation, Attestations, Place
from ocr_ops.core.errors import BadRecord, CorruptBundle
from ocr_ops.core.release import Release
from ocr_ops.core.spec import Task
from tests.tiny import build_release

DIGEST = "sha256:" + "0" * 64
HERE = Place.here("cpu")
VNNI = HERE.model_copy(update={"isa": ("avx2", "avx512_vnni", "elsewhere")})


def attestation(task: Task = "detection", place: Place = HERE, created: str = "2026-01-01") -> Attestation:
    return Attestation(task=task, place=place, cpu="test", policy=DIGEST, report=DIGEST, created=created)


def test_an_attestation_changes_what_a_release_says_not_what_it_is(tmp_path: Path) -> None:
    """The same digest, and known again when it is opened next."""
    release = build_release(tmp_path / "release")
    assert not release.attested_at("detection", HERE)
    vouched = release.attest([attestation()])
    assert vouched.digest == release.digest
    assert Release.open(release.path) == vouched
    assert vouched.attested_at("detection", HERE)


def test_it_holds_for_one_task_one_instruction_set_and_one_provider(tmp_path: Path) -> None:
    """Nothing follows for another."""
    release = build_release(tmp_path / "release").attest([attestation()])
    assert not release.attested_at("recognition", HERE)
    assert not release.attested_at("detection", VNNI)
    assert not release.attested_at("detection", HERE.model_copy(update={"provider": "cuda"}))
    assert not release.attested_at("detection", HERE.model_copy(update={"architecture": "riscv64"}))


def test_machines_add_up_and_the_later_measurement_of_a_place_stands() -> None:
    """In whatever order they come."""
    old, new, other = attestation(), attestation(created="2026-02-01"), attestation(place=VNNI)
    whole = Attestations(release=DIGEST).joined([new, other]).joined([old])
    assert sorted(whole.attestations, key=str) == sorted([new, other], key=str)
    assert whole.joined([new]) == whole


def test_attestations_of_another_release_are_refused(tmp_path: Path) -> None:
    """A file that was copied along, or damaged, says nothing of this one."""
    release = build_release(tmp_path / "release").attest([attestation()])
    file = release.path / ATTESTED_FILE
    stranger = json.loads(file.read_text()) | {"release": DIGEST}
    file.write_text(json.dumps(stranger))
    with pytest.raises(CorruptBundle, match="about sha256:000"):
        Release.open(release.path)
    file.write_text("{}")
    with pytest.raises(BadRecord, match="attested"):
        Release.open(release.path)
