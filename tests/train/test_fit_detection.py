from pathlib import Path

import numpy as np
import pytest
import torch

from ocr_ops.core.spec import ModelSpec
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.data.render_text import CHARSET
from ocr_ops.train import loop, targets
from ocr_ops.train.fit_detection import DetectionLesson, balanced, dice, view


@pytest.fixture
def lesson(detection: Path) -> DetectionLesson:
    return DetectionLesson(ModelSpec.read(detection), exam=4)


def test_pools_are_pure(lesson: DetectionLesson) -> None:
    first, again, other = lesson.pool(0), lesson.pool(0), lesson.pool(1)
    assert len(first) == lesson.batches_per_pool
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in a)
    assert not all(torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))
    assert first[0]["image"].shape == (2, 1, 128, 128)
    assert first[0]["maps"].shape == (2, 4, 64, 64)


def test_the_segments_of_a_view_lie_on_its_ink() -> None:
    renderer, seen = PageRenderer(CHARSET), 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image, quads = view(rng, renderer.page(rng, 500), 320, strength=0.0)
        assert image.shape == (320, 320)
        for quad in quads[(quads > 4).all((1, 2)) & (quads < 316).all((1, 2))]:
            x0, y0 = np.floor(quad.min(0)).astype(int)
            x1, y1 = np.ceil(quad.max(0)).astype(int)
            seen += 1
            assert image[y0:y1, x0:x1].std() > 0
    assert seen > 50


def test_a_few_steps_lower_the_loss(detection: Path, lesson: DetectionLesson, tmp_path: Path) -> None:
    batch = lesson.pool(99)[0]
    before = float(lesson.loss(batch).detach())
    figures = loop.fit(lesson, ModelSpec.read(detection), loop.Leg(tmp_path / "run"))
    lesson.network.train()
    assert float(lesson.loss(batch).detach()) < before
    assert {"synthetic_precision", "synthetic_recall", "synthetic_hmean", "score"} == figures.keys()


def test_the_exam_is_passed_by_one_who_knows_the_answers(detection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec.read(detection)
    lesson = DetectionLesson(spec.model_copy(update={"recipe": {**spec.recipe, "crop": 416}}), exam=6)
    answers = {image.tobytes(): quads for image, quads in lesson.exam["synthetic"]}
    monkeypatch.setattr(lesson, "_found", lambda image: answers[image.tobytes()])
    assert lesson.evaluate()["score"] == 1.0
    monkeypatch.setattr(lesson, "_found", lambda _: np.zeros((0, 4, 2), np.float32))
    assert set(lesson.evaluate().values()) == {0.0}


def test_losses_are_least_for_the_truth() -> None:
    truth = torch.from_numpy(targets.maps(np.array([[[20, 20], [100, 20], [100, 50], [20, 50]]], np.float32), 128))
    kernel, mask = truth[0][None, None], truth[1][None, None]
    sure = (kernel * 2 - 1) * 12
    assert float(balanced(sure, kernel, mask)) < 0.001 < float(balanced(-sure, kernel, mask))
    assert float(dice(kernel, kernel, mask)) == pytest.approx(0.0, abs=1e-4)
    assert float(dice(1 - kernel, kernel, mask)) == pytest.approx(1.0, abs=1e-4)


def test_a_page_without_text_still_has_a_loss() -> None:
    empty = torch.zeros(1, 1, 16, 16)
    loss = balanced(torch.ones(1, 1, 16, 16), empty, torch.ones_like(empty))
    assert float(loss) > 1
