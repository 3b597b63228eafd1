from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ocr_ops.core.errors import BadInput
from ocr_ops.core.spec import ModelSpec
from ocr_ops.train import loop
from ocr_ops.train.fit_recognition import RecognitionLesson, feasible, read_crops


def write_crops(folder: Path, documents: int = 40) -> Path:
    """A folder of upper-cased crops of so many documents, two each."""
    folder.mkdir()
    rows = []
    for document in range(documents):
        for line in range(2):
            name = f"{document}_{line:03}.png"
            image = np.full((30, 80), 255, np.uint8)
            cv2.putText(image, "Total", (5, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0,), 2)
            cv2.imwrite(str(folder / name), image)
            rows.append(f"{name}\tTOTAL")
    (folder / "labels.tsv").write_text("\n".join([*rows, "0_000.png\t漢字", "absent.png\tX"]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def lesson(recognition: Path, tmp_path: Path) -> RecognitionLesson:
    return RecognitionLesson(ModelSpec.read(recognition), write_crops(tmp_path / "crops"), exam=6)


def test_real_crops_are_split_by_document(tmp_path: Path) -> None:
    train, held = read_crops(write_crops(tmp_path / "crops"), "ALOT")
    assert len(train) + len(held) == 80
    assert len(held) % 2 == len(train) % 2 == 0
    assert all(crop.folded and crop.text == "TOTAL" for crop in (*train, *held))


def test_a_folder_without_usable_labels_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no labels\.tsv"):
        read_crops(tmp_path, "ABC")
    with pytest.raises(BadInput, match="0 crops"):
        read_crops(write_crops(tmp_path / "crops"), "xyz")


def test_pools_are_pure_and_their_batches_cost_alike(lesson: RecognitionLesson) -> None:
    first, again, other = lesson.pool(0), lesson.pool(0), lesson.pool(1)
    assert len(first) == lesson.batches_per_pool
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in a)
    assert any(a["image"].shape != b["image"].shape for a, b in zip(first, other, strict=True))
    for batch in first:
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].shape[1:3] == (1, 32)
        assert int(batch["length"].sum()) == len(batch["target"])
        assert int(batch["steps"].max()) == batch["image"].shape[3] // 4
    assert any(batch["folded"].any() for batch in first)


@given(st.text("ab1", max_size=12), st.integers(0, 12))
def test_feasible_labels_are_those_ctc_can_write(text: str, steps: int) -> None:
    if not text:
        assert feasible(text, steps)
        return
    if not steps:
        assert not feasible(text, steps)
        return
    target = torch.tensor(["ab1".index(char) + 1 for char in text])
    scores = torch.zeros(steps, 1, 4).log_softmax(2)
    loss = functional.ctc_loss(scores, target, torch.tensor([steps]), torch.tensor([len(text)]))
    assert feasible(text, steps) == bool(torch.isfinite(loss))


def logits_of(spec: ModelSpec, text: str) -> Tensor:
    """Logits sure of `text`, each character one step, blanks between."""
    logits = torch.zeros(1, 2 * len(text), len(spec.charset) + 1)
    for i, char in enumerate(text):
        logits[0, 2 * i, spec.charset.index(char) + 1] = 20.0
        logits[0, 2 * i + 1, 0] = 20.0
    return logits


@pytest.mark.parametrize(
    ("seen", "folded", "fits"),
    [("Total", True, True), ("TOTAL", True, True), ("Total", False, False), ("Tota1", True, False)],
)
def test_a_folded_label_accepts_either_case_and_nothing_else(
    lesson: RecognitionLesson, monkeypatch: pytest.MonkeyPatch, *, seen: str, folded: bool, fits: bool
) -> None:
    monkeypatch.setattr(lesson, "logits", lambda _: logits_of(lesson.spec, seen))
    batch = {
        "image": torch.zeros(1, 1, 32, 40, dtype=torch.uint8),
        "target": torch.tensor([lesson.place[char] for char in "TOTAL"]),
        "length": torch.tensor([5]),
        "steps": torch.tensor([10]),
        "folded": torch.tensor([folded]),
    }
    assert (float(lesson.loss(batch)) < 0.1) == fits


def test_a_few_steps_lower_the_loss_and_the_exam_reports_errors(
    recognition: Path, lesson: RecognitionLesson, tmp_path: Path
) -> None:
    batch = lesson.pool(99)[0]
    before = float(lesson.loss(batch).detach())
    figures = loop.fit(lesson, ModelSpec.read(recognition), loop.Leg(tmp_path / "run"))
    assert float(lesson.loss(batch).detach()) < before
    assert {"synthetic_cer", "synthetic_exact", "real_cer", "real_exact", "blank_silent", "score"} == figures.keys()
    assert 0 <= figures["real_exact"] <= 1


def test_what_is_read_does_not_depend_on_the_order_of_crops(lesson: RecognitionLesson) -> None:
    lesson.network.eval()
    crops = lesson.exam["synthetic"]
    with torch.no_grad():
        assert lesson.read(crops) == lesson.read(crops[::-1])[::-1]
