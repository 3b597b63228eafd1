"""Weights of one network in another: wider, deeper, or with other characters, and reading as before.

A grown network computes what its source did: new channels start with no say in the old ones, new residual blocks
as identities (Net2Net's idea, Chen et al., ICLR 2016, arXiv 1511.05641, with fresh instead of copied channels).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ocr_ops.core.errors import BadInput
from ocr_ops.core.spec import ModelSpec
from ocr_ops.train.networks import Residual

CLASSIFIER = "classifier."


@dataclass(frozen=True, slots=True)
class Transferred:
    """How many tensors came over whole, came over into a larger one, and started fresh."""

    copied: int
    grown: int
    fresh: int


def transfer(source: dict[str, Tensor], source_spec: ModelSpec, network: nn.Module, spec: ModelSpec) -> Transferred:
    """Puts `source`'s weights into `network`, in place; classes are matched by character.

    Raises `BadInput` when the tasks differ or a layer of the source is larger than the network's.
    """
    if source_spec.task != spec.task:
        raise BadInput(source_spec.name, source_spec.task, f"a {spec.task} model", "start from another")
    copied = grown = fresh = 0
    for name, module in network.named_modules():
        if isinstance(module, Residual) and f"{name}.first.0.weight" not in source:
            nn.init.zeros_(module.second[1].weight)  # an identity, to begin with
    target = network.state_dict()
    with torch.no_grad():
        for name, value in target.items():
            if name not in source:
                fresh += 1
                continue
            old = source[name]
            if name.startswith(CLASSIFIER) and source_spec.charset != spec.charset:
                old = _by_character(old, value, source_spec.charset, spec.charset)
            if old.shape == value.shape:
                value.copy_(old)
                copied += 1
            else:
                _grow(name, old, value, spec)
                grown += 1
    network.load_state_dict(target)
    return Transferred(copied, grown, fresh)


def _by_character(old: Tensor, new: Tensor, old_charset: str, charset: str) -> Tensor:
    """`old` (classes, ...) with a row for each class of `charset`; an unseen character is as unlikely as the rarest."""
    place = {char: index for index, char in enumerate(old_charset, 1)}
    fresh = new[:, : old.shape[1]] * 0.1 if old.ndim > 1 else old.min().expand(len(charset) + 1)
    rows = [old[0], *(old[place[char]] if char in place else fresh[i] for i, char in enumerate(charset, 1))]
    return torch.stack(rows)


def _grow(name: str, old: Tensor, new: Tensor, spec: ModelSpec) -> None:
    """Puts `old` (O, I, kh, kw) or (O,) into the larger `new`, in place: first channels, middle of the kernel."""
    if old.ndim != new.ndim or any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
        found, expected = f"{name} {tuple(old.shape)}", f"no larger than {tuple(new.shape)}"
        raise BadInput(spec.name, found, expected, "start from a smaller network")
    if old.ndim == 4:
        new[: old.shape[0]] = 0  # what is new must not speak to what was there
    place = [slice(0, size) for size in old.shape[:2]]
    place += [slice((b - a) // 2, (b - a) // 2 + a) for a, b in zip(old.shape[2:], new.shape[2:], strict=True)]
    new[tuple(place)] = old


def blend(before: dict[str, Tensor], after: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights on the straight line from `before` to what training made `after` of them, `share` of the way.

    Part of the way is often better on both the old data and the new than either end (Wortsman et al., CVPR 2022,
    arXiv 2109.01903). Counters are taken from `after`. Raises `KeyError` for weights of different networks.
    """
    return {
        name: torch.lerp(before[name], value, share) if value.is_floating_point() else value
        for name, value in after.items()
    }
