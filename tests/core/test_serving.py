from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ocr_ops.core.errors import BadRecord, UsageError
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings, settings_file
from ocr_ops.core.workspace import Workspace


def test_without_a_file_a_release_is_served_as_ever(tiny_release: Release, tmp_path: Path) -> None:
    settings = ServingSettings.read(Workspace(tmp_path), tiny_release.digest)
    assert settings == ServingSettings()
    assert settings.tuned(tiny_release) == tiny_release


def test_settings_are_kept_for_one_release(tiny_release: Release, tmp_path: Path) -> None:
    """Another release's are nobody's business: they were found for other models."""
    settings = ServingSettings(threads=2, max_side=320, buckets=(64, 128, 640))
    settings.save(settings_file(Workspace(tmp_path), tiny_release.digest))
    assert ServingSettings.read(Workspace(tmp_path), tiny_release.digest) == settings
    assert ServingSettings.read(Workspace(tmp_path), "sha256:" + "0" * 64) == ServingSettings()
    tuned = settings.tuned(tiny_release)
    assert tuned.detection.manifest.input.max_side == 320
    assert tuned.recognition.manifest.buckets == (64, 128, 640)
    assert tuned.digest == tiny_release.digest


@pytest.mark.parametrize(
    ("cores", "expected"), [(1, (1, 1, 1)), (2, (1, 1, 1)), (7, (1, 1, 1)), (8, (2, 1, 1)), (16, (4, 2, 2))]
)
def test_a_larger_machine_has_more_workers_unless_settings_say(cores: int, expected: tuple[int, int, int]) -> None:
    assert tuple(ServingSettings().workers_on(cores).values()) == expected
    asked = ServingSettings(gateway_workers=3, recognition_workers=1)
    assert asked.workers_on(cores) == {"gateway": 3, "detection": expected[1], "recognition": 1}


@pytest.mark.parametrize(
    "wrong",
    [{"threads": 0}, {"workers": 2}, {"max_batch_size": 0}, {"buckets": [128, 64]}, {"max_wait_ms": "never"}],
    ids=str,
)
def test_a_wrong_file_is_one_line(tiny_release: Release, tmp_path: Path, wrong: dict[str, Any]) -> None:
    path = settings_file(Workspace(tmp_path), tiny_release.digest)
    path.parent.mkdir()
    path.write_text(str(wrong).replace("'", '"'), encoding="utf-8")
    with pytest.raises(BadRecord, match=str(path)) as caught:
        ServingSettings.read(Workspace(tmp_path), tiny_release.digest)
    assert "\n" not in str(caught.value)


def test_settings_that_the_models_cannot_be_run_with_are_refused(tiny_release: Release) -> None:
    """Sizes off the stride, sizes for a model of fixed size, and widths nobody proved to change no text."""
    with pytest.raises(UsageError, match="multiple of 32"):
        ServingSettings(max_side=500).tuned(tiny_release)
    with pytest.raises(UsageError, match="multiples of 4"):
        ServingSettings(buckets=(66,)).tuned(tiny_release)
    fixed = tiny_release.detection.manifest.input.model_copy(update={"height": 640, "width": 640})
    with pytest.raises(UsageError, match="fixed size"):
        ServingSettings(max_side=320).tuned(_with(tiny_release, "detection", input=fixed))
    proven = _with(tiny_release, "recognition", buckets=(64, 128))
    with pytest.raises(UsageError, match=r"96.*proven invariant"):
        ServingSettings(buckets=(64, 96)).tuned(proven)
    assert ServingSettings(buckets=(128,)).tuned(proven).recognition.manifest.buckets == (128,)
    narrow = tiny_release.recognition.manifest.input.model_copy(update={"width": 320})
    with pytest.raises(UsageError, match="fixed width"):
        ServingSettings(buckets=(64,)).tuned(_with(tiny_release, "recognition", input=narrow))


def _with(release: Release, task: str, **changes: object) -> Release:
    bundle = getattr(release, task)
    return replace(release, **{task: replace(bundle, manifest=bundle.manifest.model_copy(update=changes))})
