"""The layer that eight bits ruin is found, and left in float."""

from pathlib import Path

import pytest

from ocr_ops.core.bundle import ModelBundle, Quantization
from ocr_ops.core.errors import BadInput, NotProven
from ocr_ops.core.release import Release
from ocr_ops.data.pages import PageSet
from ocr_ops.optimize.calibration import sources
from ocr_ops.optimize.quantize import quantize
from ocr_ops.optimize.sensitivity import Sensitivity, sensitivity
from ocr_ops.runtime.recognition import Recognizer
from tests.optimize.readers import LINES, bars, convolving, layered


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> PageSet:
    return bars(tmp_path_factory.mktemp("bars"), 1)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return layered(tmp_path_factory.mktemp("layered"))


@pytest.fixture(scope="module")
def found(parent: ModelBundle, pages: PageSet) -> Sensitivity:
    return sensitivity(parent, pages)


def texts(bundle: ModelBundle, pages: PageSet) -> list[str]:
    crops = [make() for make in sources(bundle.manifest, pages)]
    return [read.text for read in Recognizer(bundle).recognize(crops)]


def test_the_layers_around_a_wide_range_hurt_most(found: Sensitivity, parent: ModelBundle) -> None:
    """Each of them alone; the rest costs next to nothing."""
    assert [layer.name for layer in found.layers] == ["first", "same", "wide", "narrow", "scores"]
    assert {layer.operator for layer in found.layers} == {"Conv"}
    assert {layer.name for layer in found.ranked[:2]} == {"wide", "narrow"}
    assert found.ranked[1].loss > 20 * found.ranked[2].loss
    assert found.ranked[0].changed > 0.1
    assert found.subject == parent.digest


def test_mixed_precision_keeps_just_those(
    found: Sensitivity, parent: ModelBundle, pages: PageSet, tmp_path: Path
) -> None:
    """The rule of thumb loses every text here; what sensitivity keeps in float loses none."""
    assert found.steps[0] > found.budget >= found.steps[-1]
    assert found.edges > found.budget
    assert set(found.recipe.kept or ()) == {"wide", "narrow"}
    assert texts(quantize(parent, pages, tmp_path / "rule"), pages) != list(LINES)
    mixed = quantize(parent, pages, tmp_path / "mixed", found.recipe)
    assert texts(mixed, pages) == list(LINES)
    assert mixed.manifest.variant == "int8-mixed"


def test_a_budget_of_nothing_leaves_nothing_to_quantize(parent: ModelBundle, pages: PageSet) -> None:
    """Which is said, not turned into a float model that calls itself INT8; and any loss allows all."""
    none = sensitivity(parent, pages, budget=0, samples=1)
    with pytest.raises(NotProven, match="mixed precision"):
        assert none.recipe
    assert sensitivity(parent, pages, budget=1e9, samples=1).recipe == Quantization(kept=())


def test_it_is_a_record(found: Sensitivity, tmp_path: Path) -> None:
    """It lies beside the reports."""
    assert Sensitivity.from_file(found.save(tmp_path / "it.json")) == found


def test_a_graph_without_layers_is_refused(tiny_release: Release, tmp_path: Path) -> None:
    """The tiny detector has none to quantize."""
    with pytest.raises(BadInput, match="nothing to quantize"):
        sensitivity(tiny_release.detection, bars(tmp_path, 1))


def test_a_detector_is_measured_by_its_pixels_of_text(pages: PageSet, tmp_path: Path) -> None:
    """One layer alone is all of them."""
    found = sensitivity(convolving(tmp_path / "detector"), pages, budget=0.5)
    (layer,) = found.layers
    assert (layer.name, layer.operator) == ("ink", "Conv")
    assert found.steps == (layer.loss,)
    assert 0 <= layer.loss < 0.5
    assert found.recipe == Quantization(kept=())
