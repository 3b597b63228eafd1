from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ocr_ops.core.errors import BadInput, UsageError
from ocr_ops.core.spec import ModelSpec
from ocr_ops.data.pages import LabelledPage, Region, write_index
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.train import finetune as module
from ocr_ops.train import loop
from ocr_ops.train.finetune import finetune, gentle
from ocr_ops.train.judge import Judgement
from ocr_ops.train.networks import build
from tests.train.conftest import write_crops


@pytest.fixture(autouse=True)
def short_exams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENDERED", 16)


@pytest.fixture
def trained(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """A model folder of a task with weights that nobody trained."""

    def make(task: str) -> Path:
        folder = Path(request.getfixturevalue(task))
        torch.manual_seed(3)
        save_file(build(ModelSpec.read(folder)).state_dict(), folder / "weights.safetensors")
        return folder

    return make


def test_new_characters_join_the_charset_and_the_old_keep_their_weights(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    source = trained("recognition")
    data = write_crops(tmp_path / "data", "Toſal", 20)
    tuned = finetune(source, data, tmp_path / "mine", tmp_path / "runs", steps=2)
    spec, old = ModelSpec.read(tuned.model), ModelSpec.read(source)
    assert spec.charset == old.charset + "ſ"
    assert spec.name == "mine"
    assert spec.recipe["steps"] == 2
    assert tuned.judgement.new_characters == "ſ"
    assert tuned.judgement.own.documents == 5
    assert Judgement.from_file(tuned.run / "judgement.json") == tuned.judgement
    assert tuned.judgement.words in (tuned.model / "card.md").read_text(encoding="utf-8").lower()
    assert tuned.published == (tuned.model / "weights.safetensors").is_file()
    fresh = loop.read_tensors(tuned.run / "weights.safetensors")[0]
    before = loop.read_tensors(source / "weights.safetensors")[0]
    assert fresh["classifier.weight"].shape[0] == before["classifier.weight"].shape[0] + 1
    moved = (fresh["classifier.weight"][:-1] - before["classifier.weight"]).abs().max()
    assert float(moved) < 0.05  # two steps away, and in the old order


def test_a_detector_goes_on_with_labelled_pages(trained: Callable[[str], Path], tmp_path: Path) -> None:
    renderer, data = PageRenderer("".join(map(chr, range(32, 127)))), tmp_path / "pages"
    data.mkdir()
    pages = []
    for number in range(6):
        page = renderer.page(np.random.default_rng(number), 300)
        cv2.imwrite(str(data / f"{number}.png"), page.image)
        regions = tuple(
            Region(polygon=tuple((float(x), float(y)) for x, y in segment.polygon), text=segment.text)
            for segment in page.segments
        )
        pages.append(LabelledPage(image=f"{number}.png", regions=regions))
    write_index(data, tuple(pages))
    (data / "1.png").write_bytes(b"no picture")
    tuned = finetune(trained("detection"), data, tmp_path / "mine", tmp_path / "runs", steps=3, publish=True)
    assert tuned.judgement.figure == "1 - hmean"
    assert tuned.judgement.own.documents == 1
    assert tuned.judgement.words == "no difference shown"
    assert (tuned.model / "weights.safetensors").is_file()


def test_a_gentle_recipe_never_learns_faster_than_its_source(recognition: Path) -> None:
    spec = ModelSpec.read(recognition)
    slow = spec.model_copy(update={"recipe": {**spec.recipe, "learning_rate": 1e-5}})
    assert gentle(spec, "other").recipe["learning_rate"] == module.LEARNING_RATE
    assert gentle(slow, "other", 7).recipe["learning_rate"] == 1e-5
    assert gentle(slow, "other", 7).recipe["steps"] == 7


def test_what_cannot_be_a_source_is_refused(
    trained: Callable[[str], Path], detection: Path, crops: Path, tmp_path: Path
) -> None:
    source, runs = trained("recognition"), tmp_path / "runs"
    with pytest.raises(UsageError, match="another folder"):
        finetune(source, crops, source, runs)
    with pytest.raises(BadInput, match="2 documents"):
        finetune(source, write_crops(tmp_path / "few", "TOTAL", 2), tmp_path / "mine", runs)
    (source / "weights.safetensors").unlink()
    with pytest.raises(BadInput, match=r"weights\.safetensors"):
        finetune(source, crops, tmp_path / "mine", runs)
    save_file(build(ModelSpec.read(detection)).state_dict(), source / "weights.safetensors")
    with pytest.raises(BadInput, match=r"weights\.safetensors: .*the weights of small-reader"):
        finetune(source, crops, tmp_path / "mine", runs)
    assert not (tmp_path / "mine").exists()
