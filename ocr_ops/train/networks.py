"""The two networks: plain convolutions, BatchNorm, ReLU; nothing that quantizes or exports badly."""

from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.spec import ModelSpec

Size = int | tuple[int, int]


def convolution(inputs: int, outputs: int, kernel: Size = 3, stride: Size = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; padded so that only `stride` changes the size."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (height, width), stride, (height // 2, width // 2), bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):  # type: ignore[misc]
    """`relu(x + conv(conv(x)))` of equal width."""

    def __init__(self, width: int, kernel: Size = 3) -> None:
        super().__init__()
        self.first = convolution(width, width, kernel)
        self.second = convolution(width, width, kernel)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + cast(Tensor, self.second(self.first(x))))


class Recogniser(nn.Module):  # type: ignore[misc]
    """A line reader trained by CTC: float32 (N, 1, 32, W) -> logits (N, W / 4, classes), class 0 the blank.

    Rows of text are squeezed 32 -> 16 -> 8 -> 4 -> 2 -> 1 while columns keep one step in four pixels, then `blocks`
    residual convolutions along the line give each step a view of its neighbours.
    """

    def __init__(self, widths: tuple[int, int, int, int, int], kernel: int, classes: int, blocks: int = 2) -> None:
        super().__init__()
        stem, low, middle, high, context = widths
        self.features = nn.Sequential(
            convolution(1, stem, 3, 2),
            convolution(stem, low, 3, 2),
            Residual(low),
            convolution(low, middle, 3, (2, 1)),
            Residual(middle),
            convolution(middle, high, 3, (2, 1)),
        )
        self.context = nn.Sequential(
            convolution(high, context, 1), *(Residual(context, (1, kernel)) for _ in range(blocks))
        )
        self.classifier = nn.Conv2d(context, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        steps = cast(Tensor, self.features(x)).mean(2, keepdim=True)
        return cast(Tensor, self.classifier(self.context(steps))).squeeze(2).transpose(1, 2)


class Detector(nn.Module):  # type: ignore[misc]
    """A DB text detector: float32 (N, 1, H, W), sides multiples of 32 -> sigmoid map (N, 1, H / 2, W / 2).

    The map is high on text lines shrunk towards their centre lines (see `targets.shrink`). The threshold map of DB
    (Liao et al., 2020, arXiv 1911.08947) shares the head and exists in training only: `forward_training`.
    """

    def __init__(self, widths: tuple[int, int, int, int, int], pyramid: int, head: int) -> None:
        super().__init__()
        self.stem = convolution(1, widths[0], 3, 2)
        self.stages = nn.ModuleList(nn.Sequential(convolution(i, o, 3, 2), Residual(o)) for i, o in pairwise(widths))
        self.laterals = nn.ModuleList(nn.Conv2d(width, pyramid, 1) for width in widths[1:])
        self.smooth = convolution(pyramid, pyramid)
        self.head = convolution(pyramid, head)
        self.probability = nn.Conv2d(head, 4, 1)
        self.threshold = nn.Conv2d(head, 4, 1)

    def _head(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        levels = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        quarter, eighth, sixteenth, top = levels
        top = sixteenth + functional.interpolate(top, scale_factor=2.0)
        top = self.smooth(eighth + functional.interpolate(top, scale_factor=2.0))
        return cast(Tensor, self.head(quarter + functional.interpolate(top, scale_factor=2.0)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(functional.pixel_shuffle(self.probability(self._head(x)), 2))

    def forward_training(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the probability map and of the threshold map, both (N, 1, H / 2, W / 2)."""
        features = self._head(x)
        return (
            functional.pixel_shuffle(self.probability(features), 2),
            functional.pixel_shuffle(self.threshold(features), 2),
        )


def build(spec: ModelSpec) -> Recogniser | Detector:
    """The untrained network of a spec. Raises `BadRecord` when `[network]` does not describe one."""
    settings = dict(spec.network)
    kind = settings.pop("kind", None)
    try:
        if kind == "ctc" and spec.task == "recognition":
            return Recogniser(classes=len(spec.charset) + 1, **settings)  # type: ignore[arg-type]
        if kind == "db" and spec.task == "detection":
            return Detector(**settings)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise BadRecord(spec.name, f"[network] {error}", "settings of the network", "correct model.toml") from None
    raise BadRecord(spec.name, f"kind {kind!r} for {spec.task}", "ctc or db", "correct [network] in model.toml")


def load(spec: ModelSpec, tensors: dict[str, Tensor], subject: Path) -> Recogniser | Detector:
    """The spec's network with `tensors` in it, for inference. Raises `BadInput` when names or shapes differ."""
    network = build(spec)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        found = " ".join(str(error).split())[:200]
        raise BadInput(subject, found, f"the weights of {spec.name}", "train again, or correct model.toml") from None
    network.eval()
    return network
