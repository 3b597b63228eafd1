import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from ocr_ops.core.errors import BadInput
from ocr_ops.core.spec import InputSpec
from ocr_ops.train.crops import QUARANTINE, Quarantine, feasible, quarantined, read_crops, unseen_crops

SHAPE = InputSpec(height=32, stride=4, max_side=512)


def add_row(folder: Path, name: str, text: str, data: bytes | None = None) -> None:
    if data is not None:
        (folder / name).write_bytes(data)
    with (folder / "labels.tsv").open("a", encoding="utf-8") as file:
        file.write(f"{name}\t{text}\n")


def test_real_crops_are_split_by_document(crops: Path) -> None:
    train, held = read_crops(crops, "ALOT", Quarantine())
    assert len(train) + len(held) == 80
    assert held
    assert len(held) % 2 == len(train) % 2 == 0
    assert all(crop.folded and crop.text == "TOTAL" for crop in (*train, *held))


def test_documents_set_apart_are_in_no_part_and_judge_later(crops: Path) -> None:
    train, held = read_crops(crops, "ALOT", Quarantine(), apart={"3", "4"})
    assert len(train) + len(held) == 76
    assert [document for document, _ in unseen_crops(crops, "ALOT", Quarantine(), {"3", "4"})] == ["3", "3", "4", "4"]


def test_every_row_that_cannot_be_used_is_put_aside_with_its_cause(crops: Path, tmp_path: Path) -> None:
    good = (crops / "0_000.png").read_bytes()
    add_row(crops, "cut_000.png", "TOTAL", good[:60])
    add_row(crops, "chinese_000.png", "TOTAL 漢", good)
    add_row(crops, "long_000.png", "TOTAL" * 9, good)
    add_row(crops, "absent_000.png", "TOTAL")
    quarantine = Quarantine()
    train, held = read_crops(crops, "ALOT ", quarantine, SHAPE)
    quarantine.keep_in(tmp_path / "run")
    assert len(train) + len(held) == 80
    rows = quarantined(tmp_path / "run")
    assert len(rows) == 4
    causes = {where.rpartition(":")[2]: cause for where, cause in rows.items()}
    assert "cut_000.png" in causes["81"]
    assert "漢" in causes["82"]
    assert "45 characters in 80 x 30 pixels" in causes["83"]
    assert "absent_000.png" in causes["84"]


def test_a_row_is_told_once_also_after_a_resumption(tmp_path: Path) -> None:
    for _ in range(2):
        quarantine = Quarantine()
        quarantine.add("a:1", "torn")
        quarantine.keep_in(tmp_path)
        quarantine.add("a:1", "torn")
        quarantine.add("a:2", "torn, too")
    lines = (tmp_path / QUARANTINE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["where"] for line in lines] == ["a:1", "a:2"]


def test_a_folder_without_usable_labels_is_bad_input(crops: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty"):
        read_crops(tmp_path / "empty", "ABC", Quarantine())
    with pytest.raises(BadInput, match=r"0 crops to train on.*80 cannot be used.*labels\.tsv:1: characters outside"):
        read_crops(crops, "xyz", Quarantine())


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
