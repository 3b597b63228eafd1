"""What our own code may cost, in parts of what the networks cost: ratios hold on a slow machine and on a busy one.

The networks are in float, dearer than what serves: docs/performance.md has the figures of that.
"""

from pathlib import Path
from statistics import median

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from ocr_ops.core.options import ReadOptions
from ocr_ops.core.release import Release
from ocr_ops.data.render_lines import LineRenderer, to_height
from ocr_ops.data.render_pages import PageRenderer
from ocr_ops.runtime.ctc import Steps, most_probable, spell
from ocr_ops.runtime.detection import polygons, prepare_page
from ocr_ops.runtime.pipeline import Reader
from ocr_ops.runtime.recognition import prepare_crops
from ocr_ops.runtime.session import to_channels, to_tensor
from ocr_ops.train.export import export
from tests.benchmarks.stages import own_share, ratio, stages_of

MODELS = Path(__file__).parents[2] / "models"
SEED, LINES = 5, 16
AS_IT_COMES = ReadOptions(orientation=False)

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The shipped tiny pair in float, on one thread."""
    return _reader(tmp_path_factory.mktemp("tiny"), "tiny")


def _reader(folder: Path, size: str) -> Reader:
    pair = [export(MODELS / f"{task}-{size}", folder / task) for task in ("detection", "recognition")]
    return Reader(Release.write(folder / "release", *pair), threads=1)


@pytest.fixture(scope="module")
def page(reader: Reader) -> Picture:
    """A rendered page, RGB."""
    charset = reader.recognizer.bundle.manifest.charset
    image = PageRenderer(charset).page(np.random.default_rng(SEED), 1000).image
    return np.ascontiguousarray(np.repeat(image[:, :, None], 3, axis=2))


def test_own_code_takes_less_than_15_percent_of_a_page(
    benchmark: BenchmarkFixture, page: Picture, tmp_path: Path
) -> None:
    """Resizing, contours, crops, CTC, layout and whatever else is no network, together.

    With the pair that `make release` serves. In float, its networks cost 1.5 times what they do quantized: less than
    a tenth here is less than 14 % there.
    """
    reader = _reader(tmp_path, "small")
    assert len(benchmark.pedantic(reader.read_page, (page, AS_IT_COMES), warmup_rounds=1).lines) > 3
    share = median(own_share(stages_of(reader, page, AS_IT_COMES)) for _ in range(5))
    benchmark.extra_info["own_share"] = share
    assert share < 0.10


def test_boxes_cost_little_beside_the_map_they_come_from(
    benchmark: BenchmarkFixture, reader: Reader, page: Picture
) -> None:
    """Regions, their moments and their joins, for a page's map."""
    pixels = prepare_page(page, reader.detector.bundle.manifest.input).pixels
    probability = reader.detector._map(pixels)
    boxes = benchmark.pedantic(polygons, (probability, pixels.shape[1], pixels.shape[0]), warmup_rounds=1)
    assert len(boxes) > 3
    found = ratio(lambda: polygons(probability, pixels.shape[1], pixels.shape[0]), lambda: reader.detector._map(pixels))
    benchmark.extra_info["of_detection"] = found
    assert found < 0.1


def test_cutting_and_decoding_cost_little_beside_reading(
    benchmark: BenchmarkFixture, reader: Reader, page: Picture
) -> None:
    """All boxes of a page cut out at once, and a batch of scores spelt at once: each beside one network call."""
    manifest = reader.recognizer.bundle.manifest
    pixels = to_channels(page, manifest.input)
    width, height = 256, 24
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    boxes = np.stack([corners + np.array([20 + i, 20 + 30 * i]) for i in range(LINES)]).astype(np.float32)
    crops = benchmark.pedantic(prepare_crops, (pixels, boxes, manifest.input), warmup_rounds=1)
    tensor = to_tensor(crops, manifest.input)
    scores = reader.recognizer.session.run(tensor)

    def decode() -> None:
        labels, certainty = most_probable(scores, manifest.text)
        spell([Steps(*row, labels.shape[1]) for row in zip(labels, certainty, strict=True)], manifest.charset)

    def call() -> None:
        reader.recognizer.session.run(tensor)

    cutting, decoding = ratio(lambda: prepare_crops(pixels, boxes, manifest.input), call), ratio(decode, call)
    benchmark.extra_info.update(cutting=cutting, decoding=decoding)
    assert cutting < 0.06
    assert decoding < 0.05


def test_a_line_is_drawn_in_less_time_than_it_is_read(benchmark: BenchmarkFixture, reader: Reader) -> None:
    """A training step costs thrice a reading at least: the renderer is not what a training waits for."""
    manifest = reader.recognizer.bundle.manifest
    renderer = LineRenderer(manifest.charset)

    def draw() -> list[Picture]:
        return [renderer.line(np.random.default_rng((SEED, i)))[0] for i in range(LINES)]

    lines = benchmark.pedantic(draw, warmup_rounds=1)
    spec = manifest.input
    tensors = [to_tensor([to_height(line, spec.height, spec.stride, spec.max_side)], spec) for line in lines]

    found = ratio(draw, lambda: [reader.recognizer.session.run(tensor) for tensor in tensors])
    benchmark.extra_info["of_reading"] = found
    assert found < 0.7
