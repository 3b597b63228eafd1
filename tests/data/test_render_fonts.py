from pathlib import Path

import numpy as np
import pytest

from ocr_ops.core.errors import BadInput
from ocr_ops.data.render_fonts import Font, choose, held_out, load_fonts, tight
from ocr_ops.data.render_lines import fitting
from ocr_ops.data.render_text import CHARSET


def any_font() -> Font:
    return load_fonts(CHARSET)[0][0]


def test_the_base_packages_give_several_families_that_cover_ascii() -> None:
    groups = load_fonts(CHARSET)
    assert len(groups) >= 5
    assert all(set("AZaz09.:-") <= font.characters for group in groups for font in group)


def test_a_folder_without_fonts_is_an_error_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCR_OPS_FONTS", str(tmp_path))
    with pytest.raises(BadInput, match=r"fonts\.txt"):
        load_fonts(CHARSET)


def test_a_file_that_is_no_font_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"not a font")
    (tmp_path / "good.ttf").write_bytes(any_font().path.read_bytes())
    monkeypatch.setenv("OCR_OPS_FONTS", str(tmp_path))
    assert [font.path.name for group in load_fonts(CHARSET) for font in group] == ["good.ttf"]


def test_about_a_tenth_of_the_families_is_held_out() -> None:
    share = np.mean([held_out(f"Family {i}") for i in range(2000)])
    assert 0.07 < share < 0.13


def test_ink_is_cut_to_its_extent() -> None:
    ink = any_font().draw("Total 12.50", 30)
    edges = (ink[0], ink[-1], ink[:, 0], ink[:, -1])
    assert ink.dtype == np.uint8
    assert all(edge.max() > 24 for edge in edges)


def test_size_gap_and_spacing_widen_the_ink() -> None:
    font = any_font()
    plain = font.draw("a b", 20).shape[1]
    assert font.draw("a b", 40).shape[1] > 1.8 * plain
    assert font.draw("a b", 20, gap=2.0).shape[1] > plain
    assert font.draw("a b", 20, spacing=3.0).shape[1] > plain


def test_nothing_drawn_is_one_empty_pixel() -> None:
    assert tight(np.zeros((9, 9), np.uint8)).tolist() == [[0]]


def test_characters_a_font_lacks_are_left_out_of_the_label() -> None:
    font = Font(any_font().path, "narrow", frozenset("ABC "), mono=False)
    assert fitting("AxB C€", font) == "AB C"
    assert fitting("abc", font) == "ABC"  # a font of capitals writes capitals, and the label says so
    assert fitting("€", font) == "0"


def test_faces_are_drawn_from_all_families() -> None:
    rng, groups = np.random.default_rng(0), load_fonts(CHARSET)
    assert {choose(rng, groups, 0.4).family for _ in range(400)} == {group[0].family for group in groups}
