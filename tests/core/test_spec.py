"""A spec says all a model needs, and nothing it does not know."""

from pathlib import Path

import pytest

from ocr_ops.core.errors import BadRecord, UnknownModel
from ocr_ops.core.spec import ModelSpec

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
