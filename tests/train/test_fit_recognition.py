from pathlib import Path

import pytest
import torch
from torch import Tensor

from ocr_ops.core.spec import ModelSpec
from ocr_ops.train import loop
from ocr_ops.train.fit_recognition import RecognitionLesson
from ocr_ops.train.material import Material


@pytest.fixture
def lesson(recognition: Path, crops: Path) -> RecognitionLesson:
    return RecognitionLesson(ModelSpec.read(recognition), Material(lines=(crops,)), exam=6)


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
    real = {name for name in figures if name.endswith("crops_cer")}
    assert {"synthetic_cer", "synthetic_exact", "blank_silent", "score"} < figures.keys()
    assert len(real) == 1
    assert figures[real.pop()] >= 0


def test_what_is_read_does_not_depend_on_the_order_of_crops(lesson: RecognitionLesson) -> None:
    lesson.network.eval()
    crops = lesson.exam["synthetic"]
    with torch.no_grad():
        assert lesson.read(crops) == lesson.read(crops[::-1])[::-1]


def test_a_folded_capital_accepts_its_own_small_letter_not_a_look_alike(recognition: Path) -> None:
    """The dotless i is a small I to Unicode as well; i must not lose its place to it."""
    text = (recognition / "model.toml").read_text(encoding="utf-8")
    (recognition / "model.toml").write_text(text.replace("€é", "€éı"), encoding="utf-8")
    lesson = RecognitionLesson(ModelSpec.read(recognition), exam=1)
    pairs = zip(lesson.upper.tolist(), lesson.lower.tolist(), strict=True)
    twins = {lesson.spec.charset[upper - 1]: lesson.spec.charset[lower - 1] for upper, lower in pairs}
    assert twins["I"] == "i"
    assert len(set(lesson.upper.tolist())) == len(lesson.upper)


def test_what_it_confuses_and_reads_worst_is_shown(lesson: RecognitionLesson) -> None:
    lesson.network.eval()
    with torch.no_grad():
        files = lesson.artefacts()
    assert {"confusions.json", "confusions.png", "worst.png"} == files.keys()
    assert all(data.startswith(b"\x89PNG") for name, data in files.items() if name.endswith(".png"))


def test_the_same_seed_gives_the_same_run(recognition: Path, crops: Path, tmp_path: Path) -> None:
    """Two lessons of their own, two folders: not one bit differs."""
    spec = ModelSpec.read(recognition)
    for name in ("first", "second"):
        lesson = RecognitionLesson(spec, Material(lines=(crops,)), exam=2)
        loop.fit(lesson, spec, loop.Leg(tmp_path / name, evaluate_steps=3, device="cpu"))
    first, second = (loop.read_tensors(tmp_path / name / loop.CHECKPOINT)[0] for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows = [[{**row, "seconds": 0} for row in loop.read_metrics(tmp_path / name)] for name in ("first", "second")]
    assert rows[0] == rows[1]
