from pathlib import Path

import pytest
import torch

from ocr_ops.core.errors import BadInput
from ocr_ops.core.spec import ModelSpec, Setting
from ocr_ops.train.networks import build
from ocr_ops.train.transfer import blend, transfer

MODELS = Path("models")


def changed(name: str, charset: str | None = None, **network: Setting) -> ModelSpec:
    spec = ModelSpec.read(MODELS / name)
    return spec.model_copy(update={"network": {**spec.network, **network}, "charset": charset or spec.charset})


def trained(spec: ModelSpec) -> torch.nn.Module:
    """A network whose normalisations have seen something."""
    torch.manual_seed(1)
    network = build(spec)
    for _ in range(2):
        network(torch.randn(2, 1, spec.input.height or 64, 96))
    return network.eval()


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("recognition-tiny", {"widths": (24, 40, 96, 160, 192), "kernel": 7, "blocks": 4}),
        ("recognition-tiny", {}),
        ("detection-tiny", {"widths": (24, 32, 48, 80, 160), "pyramid": 40, "head": 32}),
    ],
)
def test_a_grown_network_computes_what_its_source_did(name: str, network: dict[str, Setting]) -> None:
    small, large = changed(name), changed(name, **network)
    source, target = trained(small), trained(large)
    found = transfer(source.state_dict(), small, target, large)
    image = torch.randn(2, 1, small.input.height or 64, 128)
    with torch.no_grad():
        assert torch.equal(source(image), target(image))
    assert found.copied + found.grown + found.fresh == len(target.state_dict())
    assert (found.grown > 0) == bool(network)


def test_a_grown_network_learns_with_its_new_parts() -> None:
    small, large = changed("recognition-tiny"), changed("recognition-tiny", blocks=3, kernel=7)
    target = build(large)
    transfer(trained(small).state_dict(), small, target, large)
    target(torch.randn(2, 1, 32, 96)).square().mean().backward()
    block = target.get_submodule("context.3.second.1")
    assert block.weight.grad is not None
    assert bool(block.weight.grad.abs().sum() > 0)


def test_characters_keep_their_rows_wherever_they_stand() -> None:
    small = changed("recognition-tiny")
    large = changed("recognition-tiny", charset=small.charset[::-1] + "Ω")
    source, target = trained(small), trained(large)
    transfer(source.state_dict(), small, target, large)
    image = torch.randn(1, 1, 32, 64)
    with torch.no_grad():
        old, new = source(image), target(image)
    assert torch.equal(old[..., :1], new[..., :1])
    assert torch.allclose(old[..., 1:], new[..., 1:-1].flip(-1), atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    small, large = changed("recognition-tiny"), changed("recognition-tiny", blocks=3)
    with pytest.raises(BadInput, match="larger"):
        transfer(build(large).state_dict() | {"classifier.bias": torch.zeros(999)}, large, build(small), small)
    detector = changed("detection-tiny")
    with pytest.raises(BadInput, match="detection"):
        transfer(build(detector).state_dict(), detector, build(small), small)


def test_a_blend_lies_between_its_ends() -> None:
    spec = changed("recognition-tiny")
    before, after = trained(spec).state_dict(), build(spec).state_dict()
    for share, end in ((0.0, before), (1.0, after)):
        blended = blend(before, after, share)
        assert all(torch.allclose(blended[name], value) for name, value in end.items() if value.is_floating_point())
    half = blend(before, after, 0.5)["classifier.bias"]
    assert torch.allclose(half, (before["classifier.bias"] + after["classifier.bias"]) / 2)
