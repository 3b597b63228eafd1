"""A spec says all a model needs, and nothing it does not know."""

from pathlib import Path

import pytest

from ocr_ops.core.errors import BadRecord, UnknownModel
from ocr_ops.core.spec import ModelSpec, output_of

GOOD = """
name = "reader"
task = "recognition"
licence = "Apache-2.0"
charset = "ab"
[input]
height = 32
stride = 4
max_side = 512
[network]
kind = "ctc"
widths = [8, 16]
[quality]
floor = 0.5
"""


def spec(folder: Path, text: str) -> ModelSpec:
    (folder / "model.toml").write_text(text)
    return ModelSpec.read(folder)


def test_good_spec(tmp_path: Path) -> None:
    """Defaults fill what is not said."""
    good = spec(tmp_path, GOOD)
    assert good.input.channels == 1
    assert good.network["widths"] == (8, 16)
    assert good.floor == 0.5


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('charset = "ab"', 'charset = "aba"', "'a' twice"),
        ('charset = "ab"', "", "charset of 0"),
        ("stride = 4", "stride = 0", "stride"),
        ("max_side = 512", "max_side = 512\ncolour = 1", "colour"),
        ("max_side = 512", "max_side = 512\nchannels = 3", "mean has 1"),
        ("floor = 0.5", "floor = 1.5", "floor"),
        ('name = "reader"', 'name = "../reader"', "name"),
        ("[input]", "[input", "model.toml"),
    ],
)
def test_bad_spec_names_its_fault(tmp_path: Path, old: str, new: str, found: str) -> None:
    """One line, naming the field."""
    with pytest.raises(BadRecord, match=found):
        spec(tmp_path, GOOD.replace(old, new))


def test_no_folder_is_an_unknown_model(tmp_path: Path) -> None:
    """A mistyped name says so."""
    with pytest.raises(UnknownModel, match="nowhere"):
        ModelSpec.read(tmp_path / "nowhere")


def test_a_large_charset_lies_beside_the_spec(tmp_path: Path) -> None:
    """One string in class order; a line end after it is none of its characters."""
    (tmp_path / "charset.txt").write_text("文字認識 \n", encoding="utf-8")
    assert spec(tmp_path, GOOD.replace('charset = "ab"', "")).charset == "文字認識 "
    assert spec(tmp_path, GOOD).charset == "ab", "what the spec says goes first"
    (tmp_path / "charset.txt").write_bytes(b"\xff")
    with pytest.raises(BadRecord, match=r"charset\.txt"):
        spec(tmp_path, GOOD.replace('charset = "ab"', ""))


def test_what_a_model_is_known_by(tmp_path: Path) -> None:
    """Its weights, or the graph of one that was trained elsewhere; nothing at all is told."""
    with pytest.raises(UnknownModel, match=r"no weights\.safetensors or model\.onnx"):
        output_of(tmp_path)
    (tmp_path / "model.onnx").touch()
    assert output_of(tmp_path).name == "model.onnx"
    (tmp_path / "weights.safetensors").touch()
    assert output_of(tmp_path).name == "weights.safetensors"
