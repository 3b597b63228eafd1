"""The matrix holds every combination once, under a name that says what sets it apart."""

import os
from pathlib import Path

import numpy as np
import pytest

from ocr_ops.bench.cells import Settings, opened, plan_bundles, plan_peers, plan_releases
from ocr_ops.core.errors import BadInput, OutsideSystem, UsageError
from ocr_ops.core.record import short
from ocr_ops.core.release import Release
from ocr_ops.runtime.pipeline import Reader
from tests.tiny import LINE, build_bundle, draw


def test_bundles_come_with_every_setting(tiny_release: Release) -> None:
    """Lines in batches, pages one by one."""
    settings = Settings(providers=("cpu", "cuda"), batches=(1, 8))
    plans = plan_bundles([tiny_release.recognition], settings)
    assert [plan.cell.name for plan in plans] == [
        "recognition-bars fp32",
        "recognition-bars fp32, batch 8",
        "recognition-bars fp32, cuda",
        "recognition-bars fp32, cuda, batch 8",
    ]
    assert [plan.cell.batch for plan in plan_bundles([tiny_release.detection], settings)] == [1, 1]
    assert {plan.floor for plan in plans} == {0.9}
    with pytest.raises(BadInput, match="detection"):
        plan_bundles([tiny_release.detection, tiny_release.recognition], settings)
    with pytest.raises(BadInput, match="no task"):
        plan_bundles([], settings)


def test_namesakes_are_told_apart_by_their_digest(tiny_release: Release, tmp_path: Path) -> None:
    """And only they are."""
    bundle = tiny_release.recognition
    namesake = build_bundle(tmp_path / "namesake", "recognition", floor=0.5)
    first, second = plan_bundles([bundle, namesake], Settings())
    assert first.cell.name == f"recognition-bars fp32 @{short(bundle.digest)}"
    assert second.cell.name == f"recognition-bars fp32 @{short(namesake.digest)}"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_peers_come_with_every_number_of_threads() -> None:
    """Known to policies by their name alone, and asked for twice they come once."""
    plans = plan_peers(["tesseract", "cmd:cat {image}", "tesseract"], Settings(threads=(1, 2)))
    assert [plan.cell.name for plan in plans] == [
        "tesseract",
        "tesseract, 2 threads",
        "cat {image}",
        "cat {image}, 2 threads",
    ]
    assert {plan.peer for plan in plans} == {"tesseract", "cat {image}"}


def test_cells_read_as_in_this_process(tiny_release: Release) -> None:
    """A release its page's text, a detector its boxes, a recogniser its lines, each on its cores."""
    page = draw(("abc cab", "cc"))
    line = page[32 : 32 + LINE, 28:128, 0]
    plans = [
        *plan_releases([tiny_release], Settings()),
        *plan_bundles([tiny_release.detection], Settings()),
        *plan_bundles([tiny_release.recognition], Settings()),
    ]
    with opened(plans) as (release, detector, recogniser):
        read = release.system.read(page)
        (boxes,) = detector.system.read(page).answers
        lines = recogniser.system.read(line, line).answers
        assert release.cell.cores == detector.cell.cores != ()
    whole = Reader(tiny_release).read_page(page)
    assert read.text == whole.text == "abc cab\ncc"
    assert np.shape(boxes) == (len(whole.lines), 4, 2)
    assert lines == ("abc", "abc")


def test_what_is_not_there_is_said() -> None:
    """More threads than cores, and a program nobody has, before a page is read."""
    with pytest.raises(UsageError, match="--threads"):
        Settings(threads=(1, 9999))
    plans = plan_peers(["cmd:no-such-program {image}"], Settings())
    with opened(plans) as (cell,), pytest.raises(OutsideSystem, match="no-such-program"):
        cell.system.read(draw(()))


def test_a_service_runs_where_it_runs() -> None:
    """No cores of ours are told."""
    with opened(plan_peers(["http://127.0.0.1:1/"], Settings())) as (cell,):
        assert cell.cell.cores == ()
