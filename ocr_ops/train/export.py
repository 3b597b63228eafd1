"""From a training output to a bundle: an ONNX graph that provably does what the PyTorch network does."""

import io
import tempfile
import warnings
from collections.abc import Iterator
from copy import copy
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from ocr_ops import __version__
from ocr_ops.core.bundle import GRAPH_FILE, Conversion, Manifest, ModelBundle
from ocr_ops.core.errors import BadInput, GateFailed
from ocr_ops.core.record import digest_file
from ocr_ops.core.spec import WEIGHTS_FILE, ModelSpec
from ocr_ops.data.pages import PageSet
from ocr_ops.data.render_lines import LineRenderer, to_height
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.data.render_text import CHARSET
from ocr_ops.runtime.ctc import decode
from ocr_ops.runtime.detection import Detector, prepare_page
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.recognition import Recognizer, prepare_crop
from ocr_ops.runtime.session import Session, to_channels, to_tensor
from ocr_ops.train.loop import read_tensors
from ocr_ops.train.networks import load

OPSET = 17
MOST_DIFFERENCE = 1e-3
"""Largest absolute difference of an output value (a logit, or a probability of the map)."""
LEAST_OVERLAP = 0.999
"""Intersection over union of the thresholded maps."""
MOST_PIXELS = 1.0
"""Between a corner of a box and the same corner found by PyTorch, in pixels of the page."""
SHAPES = ((1, 192, 320), (2, 320, 192), (3, 256, 416))
"""Batch, height, width of the runs that prove parity; a recogniser keeps its own height."""

Pictures = list[NDArray[np.uint8]]


def export(model: Path, out: Path, pages: PageSet | None = None) -> ModelBundle:
    """Writes the bundle of a model folder (`model.toml`, `weights.safetensors`) to `out`.

    The graph then runs at three shapes in the serving session, on rendered samples, against PyTorch: outputs must
    agree to `MOST_DIFFERENCE`, and so must the decoded texts or the thresholded maps. Where `pages` are given, so must
    what serving makes of them: see `page_parity`. The manifest's facts carry the figures. Raises `GateFailed` when
    they disagree, `BadInput` for weights that do not fit the spec.
    """
    spec, network = _network(model)
    traced, graph = to_onnx(network, spec, simplify=False), to_onnx(network, spec)
    conversion = Conversion(exporter=f"torch {torch.__version__}", traced=_nodes(traced), nodes=_nodes(graph))
    manifest = Manifest(
        model=spec.name,
        task=spec.task,
        precision="fp32",
        licence=spec.licence,
        input=spec.input,
        charset=spec.charset,
        boxes=spec.boxes,
        text=spec.text,
        floor=spec.floor,
        opset=OPSET,
        weights=digest_file(model / WEIGHTS_FILE),
        conversion=conversion,
        toolkit=__version__,
        files={},
    )
    with tempfile.TemporaryDirectory() as scratch:  # what has not passed never stands at `out`
        draft = ModelBundle.write(Path(scratch) / "draft", manifest, {GRAPH_FILE: graph})
        facts = parity(network, Session(draft, threads=1, provider="cpu"), spec)
        facts |= page_parity(network, draft, pages) if pages else {}
    return ModelBundle.write(out, manifest.model_copy(update={"facts": facts}), {GRAPH_FILE: graph})


def prove(model: Path, bundle: ModelBundle, pages: PageSet) -> dict[str, float]:
    """`page_parity` of a bundle that is there already with the model folder it was exported from."""
    return page_parity(_network(model)[1], bundle, pages)


def _network(model: Path) -> tuple[ModelSpec, nn.Module]:
    spec, weights = ModelSpec.read(model), model / WEIGHTS_FILE
    return spec, load(spec, read_tensors(weights)[0], weights)


def _nodes(graph: bytes) -> int:
    return len(onnx.load_from_string(graph).graph.node)


def to_onnx(network: nn.Module, spec: ModelSpec, *, simplify: bool = True) -> bytes:
    """The network as ONNX: BatchNorm folded into the convolutions; batch and width free, detection also height.

    Without `simplify` just as it was traced.
    """
    line = spec.task == "recognition"
    example = torch.zeros(2, spec.input.channels, spec.input.height or 64, 96)
    image = {0: "batch", 3: "width"} if line else {0: "batch", 2: "height", 3: "width"}
    output = {0: "batch", 1: "steps"} if line else {0: "batch", 2: "map_height", 3: "map_width"}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter folds BatchNorm and leaves plain nodes; the newer one needs onnxscript besides.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            network,
            (example,),
            buffer,
            input_names=["image"],
            output_names=["output"],
            dynamic_axes={"image": image, "output": output},
            opset_version=OPSET,
            do_constant_folding=simplify,
            dynamo=False,
        )
    graph = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(graph, full_check=True)
    return buffer.getvalue()


def parity(network: nn.Module, session: Session, spec: ModelSpec) -> dict[str, float]:
    """Compares a session with PyTorch on rendered samples: largest difference and agreement of what is read of it."""
    difference, agreement = 0.0, 1.0
    for pictures in samples(spec):
        batch = to_tensor(pictures, spec.input)
        with torch.no_grad():
            expected = network(torch.from_numpy(batch)).numpy()
        found = session.run(batch)
        if found.shape != expected.shape:
            raise _unlike(spec, f"output {found.shape} for input {batch.shape}", f"{expected.shape}")
        difference = max(difference, float(np.abs(found - expected).max()))
        agreement = min(agreement, _agreement(found, expected, spec))
    least = 1.0 if spec.task == "recognition" else LEAST_OVERLAP
    if difference > MOST_DIFFERENCE or agreement < least:
        found_text = f"a difference of {difference:.2e} and an agreement of {agreement:.4f}"
        raise _unlike(spec, found_text, f"at most {MOST_DIFFERENCE} and at least {least}")
    return {"parity_max_abs_difference": difference, "parity_agreement": agreement}


class _Torch(Session):
    """The network itself where serving has its session: all before and behind it is the code that serves."""

    def __init__(self, network: nn.Module, bundle: ModelBundle) -> None:
        self.bundle, self.provider, self._network = bundle, "PyTorch", network

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(self._network(torch.from_numpy(batch)).numpy())


def page_parity(network: nn.Module, bundle: ModelBundle, pages: PageSet) -> dict[str, float]:
    """What serving makes of pages with the bundle, and with PyTorch in its session's place.

    The text of every labelled line is the same, or every corner of every box lies within `MOST_PIXELS` of its own.
    Returns how many lines or boxes were compared, and how far the farthest corner was off (pixels). `GateFailed`
    names the first that differs; `BadInput` for pages without a labelled line.
    """
    if bundle.manifest.task == "recognition":
        return _same_texts(network, bundle, pages)
    return _same_boxes(network, bundle, pages)


def _same_texts(network: nn.Module, bundle: ModelBundle, pages: PageSet) -> dict[str, float]:
    recognizer, spec = Recognizer(bundle, threads=1), bundle.manifest.input
    reference = copy(recognizer)
    recognizer.session, reference.session = Session(bundle, 1, "cpu"), _Torch(network, bundle)
    count = 0
    for name, image, polygons in _pages(pages):
        crops = [prepare_crop(to_channels(image, spec), polygon, spec) for polygon in polygons]
        texts = ([read.text for read in one.recognize(crops)] for one in (recognizer, reference))
        for number, (found, expected) in enumerate(zip(*texts, strict=True)):
            if found != expected:
                raise _unlike(bundle.manifest, f"line {number} of {name} reads {found!r}", repr(expected))
        count += len(crops)
    if not count:
        raise BadInput(pages.folder, "no labelled line", "at least one", "point --data elsewhere")
    return {"parity_lines": float(count)}


def _same_boxes(network: nn.Module, bundle: ModelBundle, pages: PageSet) -> dict[str, float]:
    detector = Detector(bundle, threads=1)
    reference = copy(detector)
    detector.session, reference.session = Session(bundle, 1, "cpu"), _Torch(network, bundle)
    count, farthest = 0, 0.0
    for name, image, _ in _pages(pages):
        page = prepare_page(image, bundle.manifest.input)
        found, expected = (page.restore(one.detect([page.pixels])[0]) for one in (detector, reference))
        if len(found) != len(expected):
            raise _unlike(bundle.manifest, f"{len(found)} boxes on {name}", f"{len(expected)}")
        off = float(np.abs(found - expected).max(initial=0))
        if off > MOST_PIXELS:
            raise _unlike(bundle.manifest, f"a corner {off:.1f} pixels off on {name}", f"at most {MOST_PIXELS}")
        count, farthest = count + len(found), max(farthest, off)
    return {"parity_boxes": float(count), "parity_max_pixels": farthest}


def _pages(pages: PageSet) -> Iterator[tuple[str, NDArray[np.uint8], list[NDArray[np.float32]]]]:
    """Each page's name, pixels, and the polygons of its readable lines."""
    for page, data in tqdm(pages.files(), total=len(pages.pages), desc="parity with torch", unit="page", disable=None):
        polygons = [np.asarray(region.polygon, np.float32) for region in page.regions if region.readable]
        yield page.image, next(page_images(data, page.image)), polygons


def samples(spec: ModelSpec) -> Iterator[Pictures]:
    """Rendered inputs of the three shapes."""
    rng = np.random.default_rng(20)
    lines = LineRenderer(spec.charset, "validation") if spec.task == "recognition" else None
    pages = PageRenderer(CHARSET, "validation")
    for count, rows, width in SHAPES:
        height = spec.input.height or rows
        if lines:
            crops = [lines.line(rng, width)[0] for _ in range(count)]
            crops = [to_height(crop, height, spec.input.stride, width) for crop in crops]
        else:
            crops = [pages.page(rng, 600).image[:rows, :width] for _ in range(count)]
        yield [np.pad(c, ((0, height - c.shape[0]), (0, width - c.shape[1])), mode="edge") for c in crops]


def _agreement(found: NDArray[np.float32], expected: NDArray[np.float32], spec: ModelSpec) -> float:
    """Share of equal texts, or overlap of the maps above the serving threshold."""
    if spec.task == "recognition":
        pairs = [[decode(logits, spec.charset, spec.text).text for logits in rows] for rows in (found, expected)]
        return float(np.mean([a == b for a, b in zip(*pairs, strict=True)]))
    left, right = found > spec.boxes.threshold, expected > spec.boxes.threshold
    return float((left & right).sum() / max(1, (left | right).sum())) if (left | right).any() else 1.0


def _unlike(spec: ModelSpec | Manifest, found: str, expected: str) -> GateFailed:
    name = spec.name if isinstance(spec, ModelSpec) else spec.model
    return GateFailed(f"export of {name}", found, expected, "report it with the versions of torch and onnxruntime")
