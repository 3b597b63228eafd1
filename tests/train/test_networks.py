from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.spec import ModelSpec
from ocr_ops.train.networks import Detector, build, load

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("width", [8, 36, 160])
def test_the_recogniser_takes_one_step_in_four_pixels(recognition: Path, width: int) -> None:
    spec = ModelSpec.read(recognition)
    logits = build(spec).eval()(torch.zeros(3, 1, 32, width))
    assert logits.shape == (3, width // 4, len(spec.charset) + 1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (160, 32)])
def test_the_detectors_map_has_half_the_resolution(detection: Path, height: int, width: int) -> None:
    network = build(ModelSpec.read(detection)).eval()
    page = torch.zeros(2, 1, height, width)
    probability = network(page).detach()
    assert probability.shape == (2, 1, height // 2, width // 2)
    assert 0 <= float(probability.min()) <= float(probability.max()) <= 1
    assert isinstance(network, Detector)
    logits, threshold = network.forward_training(page)
    assert torch.equal(torch.sigmoid(logits.detach()), probability)
    assert threshold.shape == probability.shape


@pytest.mark.parametrize(
    "change", [('"ctc"', '"transformer"'), ("kernel = 3", "depth = 3"), ("kernel = 3", "kernel = 'x'")]
)
def test_a_network_nobody_can_build_is_a_bad_record(
    folder_of: Callable[[str], Path], recognition: Path, change: tuple[str, str]
) -> None:
    text = (recognition / "model.toml").read_text(encoding="utf-8").replace(*change)
    with pytest.raises(BadRecord, match=r"model\.toml"):
        build(ModelSpec.read(folder_of(text)))


def test_weights_of_another_network_are_refused(recognition: Path, detection: Path) -> None:
    tensors = build(ModelSpec.read(detection)).state_dict()
    with pytest.raises(BadInput, match="small-reader"):
        load(ModelSpec.read(recognition), tensors, recognition)


@pytest.mark.parametrize("name", ["recognition-tiny", "detection-tiny"])
def test_the_shipped_networks_are_small_and_plain(name: str) -> None:
    network = build(ModelSpec.read(MODELS / name))
    assert sum(weight.numel() for weight in network.parameters()) < 1_200_000
    assert {type(module).__name__ for module in network.modules() if not list(module.children())} <= {
        "Conv2d",
        "BatchNorm2d",
        "ReLU",
    }
