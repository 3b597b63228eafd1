import string
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.errors import BadInput
from ocr_ops.core.release import Release
from ocr_ops.data.lines import read_lines
from ocr_ops.data.teacher import teach, unlabelled, with_case
from tests import tiny


@given(st.text(string.ascii_letters + " 5.,", min_size=1))
def test_a_label_takes_the_case_of_the_same_words(text: str) -> None:
    label = " ".join(text.split())
    assert with_case(label.upper(), label.replace(" ", "")) == label


@pytest.mark.parametrize("read", ["", "Totel", "Tota", "Totals"])
def test_a_label_is_not_given_the_case_of_other_words(read: str) -> None:
    assert with_case("TOTAL", read) is None


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Crops of a, b and c with upper-cased labels, the last of them wrong."""
    folder = tmp_path / "crops"
    folder.mkdir()
    labels = []
    for index, (text, label) in enumerate((("ab", "AB"), ("cab", "CAB"), ("ba", "CCC"))):
        crop = tiny.draw([text])[29:59, 26 : 40 + 32 * len(text)]
        cv2.imwrite(str(folder / f"doc{index}_0.png"), np.ascontiguousarray(crop))
        labels.append(f"doc{index}_0.png\t{label}\n")
    (folder / "labels.tsv").write_text("".join(labels), encoding="utf-8")
    return folder


def test_lines_the_teacher_reads_alike_take_its_case(crops: Path, tmp_path: Path) -> None:
    teacher = tiny.build_release(tmp_path / "release").recognition
    taught = teach(read_lines(crops), teacher)
    assert [line.text for line in taught.lines.lines] == ["ab", "cab"]
    assert not taught.lines.fold
    assert [line.text for line in taught.caseless.lines] == ["CCC"]


def test_crops_without_labels_take_what_is_surely_read(crops: Path, tmp_path: Path) -> None:
    teacher = tiny.build_release(tmp_path / "release").recognition
    (crops / "labels.tsv").unlink()
    assert [line.text for line in teach(unlabelled(crops), teacher, sure=0.5).lines.lines] == ["ab", "cab", "ba"]
    assert teach(unlabelled(crops), teacher, sure=0.5).labelled == 3
    assert not teach(unlabelled(crops), teacher, sure=1.1).lines.lines


def test_a_detector_teaches_nobody(crops: Path, tmp_path: Path) -> None:
    release: Release = tiny.build_release(tmp_path / "release")
    with pytest.raises(BadInput, match="recognition bundle"):
        teach(read_lines(crops), release.detection)
