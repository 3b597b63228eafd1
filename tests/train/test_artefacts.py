import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocr_ops.core.scores import edit_distance
from ocr_ops.train import artefacts
from ocr_ops.train.artefacts import alignment, confusion_rows, confusions, curves_png, lines_png, worst_lines

WORDS = st.text("abc", max_size=8)


@given(WORDS, WORDS)
def test_an_alignment_is_a_cheapest_edit_of_one_text_into_the_other(expected: str, read: str) -> None:
    pairs = list(alignment(expected, read))
    assert "".join(a for a, _ in pairs) == expected
    assert "".join(b for _, b in pairs) == read
    assert sum(a != b for a, b in pairs) == edit_distance(expected, read)


def test_confusions_are_counted_of_how_many() -> None:
    rows = confusion_rows(confusions([("O0O", "000"), ("O", "O"), ("ab", "a")]))
    assert rows[0] == {"expected": "O", "read": "0", "count": 2, "of": 3}
    assert rows[1] == {"expected": "b", "read": "", "count": 1, "of": 1}


def test_sheets_are_pictures_whatever_the_texts_are() -> None:
    cases = [(np.full((20, 60), 200, np.uint8), "$10^2_{", "漢字"), (np.full((9, 9), 0, np.uint8), "a", "a")]
    assert worst_lines(cases) == [0]
    pictures = [lines_png(cases), artefacts.confusion_png(confusions([("$1", "S1")])), lines_png([])]
    pictures.append(curves_png([{"step": 1, "loss": 2.0, "rate": 0.1}, {"step": 2, "loss": 1.0, "score": 0.5}]))
    for data in pictures:
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None


def test_without_matplotlib_the_confusions_are_still_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(artefacts, "find_spec", lambda _: None)
    files = artefacts.of_lines([[(np.zeros((9, 9), np.uint8), "a", "b")]])
    assert files.keys() == {"confusions.json"}
    assert "no matplotlib" in capsys.readouterr().err
