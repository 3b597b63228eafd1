"""A model that was trained elsewhere: its graph, held against its spec on sample pages, becomes a bundle.

Preprocessing that drifted from the training's is the first cause of wrong results with other people's models, and
nothing of it shows in a graph. So the contract is not believed: the graph reads labelled pages, and what it reads
has to make sense.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from ocr_ops import __version__
from ocr_ops.core.bundle import GRAPH_FILE, Manifest, ModelBundle
from ocr_ops.core.errors import BadInput, CorruptBundle
from ocr_ops.core.record import digest_bytes
from ocr_ops.core.scores import edit_distance, normalise
from ocr_ops.core.spec import ONNX_FILE, InputSpec, ModelSpec
from ocr_ops.data.pages import PageSet
from ocr_ops.optimize.shapes import check_classes, check_input, check_output
from ocr_ops.optimize.vet import read_graph
from ocr_ops.runtime.detection import Detector, prepare_page
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.recognition import BUCKET, Recognizer, prepare_crop
from ocr_ops.runtime.session import Session, padded, to_tensor

SAMPLE_PAGES = 3
SAMPLE_LINES = 24
SAMPLE_ALONE = 6
LEAST_SANE = 0.5
"""Share of the samples' characters (or of their lines' places) below which the spec cannot be right."""

_SPEC = "correct the spec: mean, std, order, height, padding, charset"


def adopt(folder: Path, out: Path, samples: PageSet, subject: Path | None = None) -> ModelBundle:
    """Writes the bundle of a model folder (`model.toml`, `model.onnx`) to `out`, once its contract holds.

    Checked: the input's type and shape, the output's, its classes against the charset, probabilities or logits,
    batches and sizes of any number, no text that depends on its neighbours, and that sample pages read sensibly.
    The manifest's facts carry `sample_accuracy`: of a detector the F1 of regions met at their centres, of a
    recogniser 1 - CER, case-folded. `BadInput` names `subject` (the graph) and the clause that fails.
    """
    spec = ModelSpec.read(folder)
    graph = read_graph(folder / ONNX_FILE)
    subject = subject or folder / ONNX_FILE
    model = onnx.load_model_from_string(graph)
    check_input(model, spec, subject)
    check_output(model, spec, subject)
    manifest = manifest_of(spec, graph)
    with tempfile.TemporaryDirectory() as scratch:  # what has not passed never stands at `out`
        draft = ModelBundle.write(Path(scratch) / "draft", manifest, {GRAPH_FILE: graph})
        try:
            check = _detects if spec.task == "detection" else _reads
            facts = {"sample_accuracy": check(draft, samples, subject)}
        except CorruptBundle as error:  # about the draft, which nobody ever saw
            raise BadInput(subject, error.found, error.expected, _SPEC) from None
    return ModelBundle.write(out, manifest.model_copy(update={"facts": facts}), {GRAPH_FILE: graph})


def manifest_of(spec: ModelSpec, graph: bytes) -> Manifest:
    """What a bundle of this graph says, before anything was checked."""
    opsets = onnx.load_model_from_string(graph).opset_import
    return Manifest(
        model=spec.name,
        task=spec.task,
        precision="fp32",
        licence=spec.licence,
        input=spec.input,
        charset=spec.charset,
        boxes=spec.boxes,
        text=spec.text,
        floor=spec.floor,
        opset=max((entry.version for entry in opsets if entry.domain in ("", "ai.onnx")), default=0),
        weights=digest_bytes(graph),
        toolkit=__version__,
        files={},
    )


def _detects(draft: ModelBundle, samples: PageSet, subject: Path) -> float:
    """F1 of regions: labelled ones whose centre a box holds, and boxes whose centre a labelled one holds."""
    detector, hits, total = Detector(draft, threads=1), 0, 0
    spec = draft.manifest
    for image, regions in _pages(samples):
        prepared = prepare_page(image, spec.input)
        if not total:
            values = detector.session.run(to_tensor([prepared.pixels], spec.input))
            _check_values(values, spec.boxes.output, subject)
        boxes = prepared.restore(detector.detect([prepared.pixels])[0])
        polygons = [polygon for polygon, _ in regions]
        hits += _met(polygons, list(boxes)) + _met(list(boxes), polygons)
        total += len(polygons) + len(boxes)
    if not total:
        raise _no_samples(samples)
    if hits < LEAST_SANE * total:
        raise BadInput(subject, f"finds {hits / total:.0%} of the sample pages' lines", f"{LEAST_SANE:.0%}", _SPEC)
    return hits / total


def _reads(draft: ModelBundle, samples: PageSet, subject: Path) -> float:
    """1 - CER of the sample lines that the charset can spell, case-folded."""
    recognizer, manifest = Recognizer(draft, threads=1), draft.manifest
    known = set(normalise(manifest.charset, fold=True)) | {" "}
    pairs = [
        (text, prepare_crop(image, polygon, manifest.input))
        for image, regions in _pages(samples)
        for polygon, text in regions
        if set(normalise(text, fold=True)) <= known and _fits(polygon, manifest.input)
    ][:SAMPLE_LINES]
    if not pairs:
        raise _no_samples(samples)
    crops = [crop for _, crop in pairs]
    _check_scores(recognizer.session, crops[0], manifest, subject)
    texts = [read.text for read in recognizer.recognize(crops)]
    for crop, text in zip(crops[:SAMPLE_ALONE], texts, strict=False):
        alone = recognizer.recognize([crop])[0].text
        if alone != text:
            found = f"reads {alone[:40]!r} alone and {text[:40]!r} beside others"
            raise BadInput(subject, found, "the same", "export it in inference mode")
    wanted = [normalise(text, fold=True) for text, _ in pairs]
    found_texts = [normalise(text, fold=True) for text in texts]
    edits = sum(min(edit_distance(a, b), len(a)) for a, b in zip(wanted, found_texts, strict=True))
    accuracy = 1 - edits / sum(map(len, wanted))
    if accuracy < LEAST_SANE:
        found = f"reads {accuracy:.0%} of the sample lines' characters, {texts[0][:40]!r} for {pairs[0][0][:40]!r}"
        raise BadInput(subject, found, f"{LEAST_SANE:.0%}", _SPEC)
    return accuracy


def _fits(polygon: NDArray[np.float32], spec: InputSpec) -> bool:
    """Whether a model of fixed width, which reads words, could read a region of this shape."""
    along, down = np.linalg.norm(polygon[1] - polygon[0]), np.linalg.norm(polygon[3] - polygon[0])
    return not spec.width or bool(along * spec.height <= 1.25 * down * spec.width)


def _check_scores(session: Session, crop: NDArray[np.uint8], manifest: Manifest, subject: Path) -> None:
    """The output's classes, time steps and kind, of two crops side by side."""
    spec = manifest.input
    width = spec.width or -(-crop.shape[1] // spec.stride) * spec.stride
    scores = session.run(to_tensor([padded(crop, width, spec.height, spec)] * 2, spec))
    if scores.ndim != 3 or scores.shape[0] != 2:
        raise BadInput(subject, f"output {scores.shape}", "(N, T, classes)", "export it with the batch first")
    check_classes(scores.shape[2], manifest.charset, subject)
    if spec.padding == "edge" and (scores.shape[1] * spec.stride != width or BUCKET % spec.stride):
        found = f"{scores.shape[1]} time steps of {width} pixels"
        raise BadInput(subject, found, f"one every 1, 2, 4, 8, 16 or 32, not {spec.stride}", "correct the stride")
    _check_values(scores, manifest.text.output, subject)


def _check_values(output: NDArray[np.float32], declared: str, subject: Path) -> None:
    found = kind_of(output)
    if found != declared:
        raise BadInput(subject, f"{found} come out", f"{declared}, as the spec says", "correct `output` in the spec")


def kind_of(output: NDArray[np.float32]) -> str:
    """`probabilities` or `logits`: classes that sum to one (N, T, classes), or a map (N, 1, h, w) within 0 to 1."""
    within = bool(output.min() >= -1e-4 and output.max() <= 1 + 1e-4)
    ones = output.ndim != 3 or bool(np.allclose(output.sum(axis=2), 1, atol=1e-2))
    return "probabilities" if within and ones else "logits"


def _pages(samples: PageSet) -> Iterator[tuple[NDArray[np.uint8], list[tuple[NDArray[np.float32], str]]]]:
    """Each sample page, and of the first also its upper half: another size, which a frozen axis would not take."""
    sampled = tqdm(samples.head(SAMPLE_PAGES).files(), desc="check on sample pages", unit="page", disable=None)
    for number, (page, data) in enumerate(sampled):
        image = next(page_images(data, page.image))
        regions = [(np.asarray(region.polygon, np.float32), region.text) for region in page.regions if region.readable]
        yield image, regions
        if number == 0:
            half = image.shape[0] // 2
            yield image[:half], [(polygon, text) for polygon, text in regions if polygon[:, 1].max() <= half]


def _met(wanted: list[NDArray[np.float32]], boxes: list[NDArray[np.float32]]) -> int:
    """How many of `wanted` have their centre in one of `boxes`."""
    centres = [tuple(map(float, polygon.mean(axis=0))) for polygon in wanted]
    return sum(any(cv2.pointPolygonTest(box, centre, measureDist=False) >= 0 for box in boxes) for centre in centres)


def _no_samples(samples: PageSet) -> BadInput:
    found, expected = "no line that this model could read", "labelled lines in its charset"
    return BadInput(samples.folder, found, expected, "give pages in its script with --samples")
