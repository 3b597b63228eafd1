"""Structured pruning: whole channels leave a network, and what is left is a smaller network of the same kind.

Channels that are added to one another (around a residual block, in the pyramid) must leave together. Those that say
least leave first; training then goes on from the rest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ocr_ops.core.errors import UsageError
from ocr_ops.core.record import digest_file, write_atomic
from ocr_ops.core.spec import CARD_FILE, SPEC_FILE, WEIGHTS_FILE, ModelSpec, Setting
from ocr_ops.train import loop
from ocr_ops.train.fit import spec_text, weights_bytes
from ocr_ops.train.networks import Detector, Recogniser, Residual, build, load

STEP = 8
"""Widths are multiples of it: what vector units compute at once."""

Network = Recogniser | Detector
Importance = Callable[[Network, "Stream"], Tensor]


@dataclass(frozen=True, slots=True)
class Stream:
    """Channels that stay or leave together: the setting of their number, who writes them and who reads them.

    Names are of bare convolutions, or of blocks of a convolution and its BatchNorm.
    """

    setting: str
    place: int
    """In a setting of several widths."""
    written: tuple[str, ...]
    read: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A smaller model's folder, and the parameters before and after."""

    model: Path
    spec: ModelSpec
    before: int
    after: int


def prune(source: Path, model: Path, keep: float) -> Pruned:
    """Writes model folder `model`: `source` with the share `keep` of its channels, to be trained on from there.

    Its spec is the source's with smaller widths, its recipe too: to train on as fast as before beats going on slowly
    (Renda et al., ICLR 2020, arXiv 2003.02389). Raises `UsageError` for a share outside 0 to 1 or a folder that holds
    a model already, `BadInput` for a source without weights that fit it.
    """
    if not 0 < keep <= 1:
        raise UsageError("--keep", f"{keep:g}", "more than 0, at most 1", "give the share of channels to keep")
    if (model / SPEC_FILE).exists():
        raise UsageError(model, "a model already", "a new folder", "give another --name")
    spec, weights = ModelSpec.read(source), source / WEIGHTS_FILE
    tensors = loop.read_tensors(weights)[0]
    made, left = pruned(load(spec, tensors, weights), spec, keep)
    made = ModelSpec.parse({**made.model_dump(), "name": model.name}, model.name)
    before, after = (parameters(build(one)) for one in (spec, made))
    write_atomic(model / WEIGHTS_FILE, weights_bytes(left, made.name, 0))
    write_atomic(model / CARD_FILE, card(made, spec, digest_file(weights), before, after).encode())
    write_atomic(model / SPEC_FILE, spec_text(made).encode())
    return Pruned(model, made, before, after)


def pruned(
    network: Network, spec: ModelSpec, keep: float, importance: "Importance | None" = None
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The spec and weights of `network` with the share `keep` of each stream's channels, in their old order.

    `importance` gives a stream's channels, (channels,), a value each; the least leave.
    """
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    settings = dict(spec.network)
    for stream in streams(network):
        values = (importance or scale)(network, stream)
        count = width(len(values), keep)
        chosen = values.argsort(descending=True, stable=True)[:count].sort().values
        for name in stream.written:
            for tensor in _outputs(network, name):
                tensors[tensor] = tensors[tensor].index_select(0, chosen)
        for name in stream.read:
            tensor = f"{_convolution(network, name)}.weight"
            tensors[tensor] = tensors[tensor].index_select(1, chosen)
        settings[stream.setting] = _changed(settings[stream.setting], stream.place, count)
    return spec.model_copy(update={"network": settings}), tensors


def width(channels: int, keep: float) -> int:
    """How many of so many channels stay: a multiple of `STEP`, one at least, unless all stay."""
    return channels if keep == 1 else min(channels, max(STEP, round(keep * channels / STEP) * STEP))


def scale(network: Network, stream: Stream) -> Tensor:
    """How much each channel of a stream moves what reads it, (channels,).

    BatchNorm's scale is a channel's spread before the ReLU (Liu et al., ICCV 2017, arXiv 1708.06519), the L1 norm of
    its filter stands in where there is none (Li et al., ICLR 2017, arXiv 1608.08710).
    """
    blocks = [network.get_submodule(name) for name in stream.written]
    plain = [block for block in blocks if not isinstance(block, nn.Sequential)]
    normed = [cast(nn.Sequential, block)[1] for block in blocks if isinstance(block, nn.Sequential)]
    scales = [norm.weight.detach().abs() for norm in normed]
    if not plain:
        return torch.stack(scales).sum(0)
    values = torch.stack([*scales, *(block.weight.detach().abs().sum((1, 2, 3)) for block in plain)])
    return (values / values.mean(1, keepdim=True)).sum(0)  # the two have no unit in common


def streams(network: Network) -> Iterator[Stream]:
    """Every set of channels that can leave a network; input, classes and maps cannot."""
    yield from _of_lines(network) if isinstance(network, Recogniser) else _of_pages(network)


def _of_lines(network: Recogniser) -> Iterator[Stream]:
    blocks = [f"context.{i}" for i, part in enumerate(network.context) if isinstance(part, Residual)]
    yield Stream("widths", 0, ("features.0",), ("features.1",))
    for place, name in ((1, "features.2"), (2, "features.4")):
        before, after = f"features.{2 * place - 1}", f"features.{2 * place + 1}"
        yield Stream("widths", place, (before, f"{name}.second"), (f"{name}.first", after))
        yield Stream("widths", place, (f"{name}.first",), (f"{name}.second",))
    yield Stream("widths", 3, ("features.5",), ("context.0",))
    inner = tuple(f"{name}.first" for name in blocks)
    yield Stream("widths", 4, ("context.0", *(f"{name}.second" for name in blocks)), (*inner, "classifier"))
    for name in blocks:
        yield Stream("widths", 4, (f"{name}.first",), (f"{name}.second",))


def _of_pages(network: Detector) -> Iterator[Stream]:
    last = len(network.stages) - 1
    yield Stream("widths", 0, ("stem",), ("stages.0.0",))
    for i in range(last + 1):
        block, after = f"stages.{i}.1", () if i == last else (f"stages.{i + 1}.0",)
        read = (f"{block}.first", f"laterals.{i}", *after)
        yield Stream("widths", i + 1, (f"stages.{i}.0", f"{block}.second"), read)
        yield Stream("widths", i + 1, (f"{block}.first",), (f"{block}.second",))
    laterals = tuple(f"laterals.{i}" for i in range(last + 1))
    yield Stream("pyramid", 0, (*laterals, "smooth"), ("smooth", "head"))
    yield Stream("head", 0, ("head",), ("probability", "threshold"))


def parameters(network: nn.Module) -> int:
    """Numbers that training moves."""
    return sum(weight.numel() for weight in network.parameters())


def _convolution(network: Network, name: str) -> str:
    return f"{name}.0" if isinstance(network.get_submodule(name), nn.Sequential) else name


def _outputs(network: Network, name: str) -> list[str]:
    """Names of the tensors that have a row for each channel a block writes."""
    if isinstance(network.get_submodule(name), nn.Sequential):
        return [f"{name}.0.weight", *(f"{name}.1.{part}" for part in _NORM)]
    return [f"{name}.weight", f"{name}.bias"]


_NORM = ("weight", "bias", "running_mean", "running_var")


def _changed(setting: Setting, place: int, count: int) -> Setting:
    if isinstance(setting, tuple):
        return (*setting[:place], count, *setting[place + 1 :])
    return count


def card(spec: ModelSpec, source: ModelSpec, digest: str, before: int, after: int) -> str:
    """The smaller model's card."""
    return f"""\
# {spec.name}

{source.name} (weights `{digest}`) with {after:,} of its {before:,} parameters: the channels that said least are gone.
Licence: {spec.licence}, as its source.

Not trained since; from here it goes on with

    ocr-ops train models/{spec.name} --from models/{spec.name} --teacher models/{source.name} --publish
"""
