"""Models of other people's making become folders and bundles like any other, or leave nothing behind."""

import os
import time
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, BadRecord, OcrOpsError, UsageError
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.record import digest_file
from ocr_ops.core.release import Release
from ocr_ops.core.scores import Match, match_words
from ocr_ops.core.spec import ModelSpec
from ocr_ops.data.pages import PageSet, read_pages
from ocr_ops.optimize.conventions import Conventions, dictionary, paddle_conventions
from ocr_ops.optimize.foreign import Foreign, describe, rapidocr, settle
from ocr_ops.optimize.quantize import quantize
from ocr_ops.runtime.pipeline import Reader
from tests.optimize.graphs import LINES, detector, labelled, recogniser, save
from tests.tiny import draw

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DOCTR_PAGE = (0.798, 0.785, 0.772), (0.264, 0.2749, 0.287)
DOCTR_WORD = (0.694, 0.695, 0.693), (0.299, 0.296, 0.301)
SAMPLES = ("112", "144")
READS = Conventions("recognition", characters=tuple("abc "))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> PageSet:
    return labelled(tmp_path_factory.mktemp("samples"))


def take_in(model: Foreign, samples: PageSet, home: Path) -> ModelBundle:
    folder, bundle = settle(model, home / "models", home / "bundles" / model.spec.name, samples)
    assert ModelSpec.read(folder) == model.spec
    return bundle


def texts(detection: ModelBundle, recognition: ModelBundle, home: Path) -> list[str]:
    release = Release.write(home / "release", detection, recognition)
    return [line.text for line in Reader(release).read_page(draw(LINES, height=400)).lines]


def test_a_paddleocr_pair_reads(samples: PageSet, tmp_path: Path) -> None:
    """Probabilities, the blank first, any width, DB's unclipping: told by the preset and by a run."""
    found = describe(
        save(detector(*IMAGENET), tmp_path / "det.onnx"), Conventions("detection"), preset="paddleocr", name="det"
    )
    read = describe(save(recogniser(), tmp_path / "PP rec.onnx"), READS, preset="paddleocr")
    assert found.spec.boxes.growth == "area"
    assert (read.spec.name, read.spec.input.stride, read.spec.input.order) == ("pp-rec", 8, "bgr")
    assert (read.spec.text.output, read.spec.text.blank) == ("probabilities", "first")
    bundles = take_in(found, samples, tmp_path), take_in(read, samples, tmp_path)
    assert texts(*bundles, tmp_path) == list(LINES)
    assert all(bundle.manifest.facts["sample_accuracy"] == 1 for bundle in bundles)
    assert bundles[1].manifest.weights == digest_file(tmp_path / "PP rec.onnx")


def test_a_doctr_pair_reads(samples: PageSet, tmp_path: Path) -> None:
    """Logits, the blank last, a fixed size padded with black."""
    found = describe(
        save(detector(*DOCTR_PAGE, side=640, sigmoid=False), tmp_path / "db.onnx"),
        Conventions("detection"),
        preset="doctr",
    )
    graph = recogniser(*DOCTR_WORD, height=32, width=128, blank="last", softmax=False)
    read = describe(save(graph, tmp_path / "crnn.onnx"), READS, preset="doctr")
    assert (found.spec.input.width, found.spec.boxes.output) == (640, "logits")
    assert (read.spec.input.width, read.spec.text.blank, read.spec.text.output) == (128, "last", "logits")
    assert texts(take_in(found, samples, tmp_path), take_in(read, samples, tmp_path), tmp_path) == list(LINES)


def test_an_import_is_quantized_like_any_other(samples: PageSet, tmp_path: Path) -> None:
    """Its INT8 variant names it as parent, and still reads."""
    read = take_in(describe(save(recogniser(), tmp_path / "rec.onnx"), READS, preset="paddleocr"), samples, tmp_path)
    found = take_in(
        describe(save(detector(*IMAGENET), tmp_path / "det.onnx"), Conventions("detection"), preset="paddleocr"),
        samples,
        tmp_path,
    )
    small = quantize(read, samples, tmp_path / "int8")
    assert small.manifest.parent == read.digest
    assert texts(found, small, tmp_path) == list(LINES)


def test_inference_yml_beside_a_model_is_believed(samples: PageSet, tmp_path: Path) -> None:
    """What PaddleOCR's export writes tells task, preprocessing and dictionary; a space comes after the dictionary."""
    save(recogniser(), tmp_path / "rec" / "inference.onnx")
    write_yaml(tmp_path / "rec", recognition_yml())
    read = describe(tmp_path / "rec" / "inference.onnx", Conventions(), name="bars")
    assert (read.spec.task, read.spec.charset, read.spec.licence) == ("recognition", "abc ", "Apache-2.0")
    assert take_in(read, samples, tmp_path).manifest.input.height == 48

    save(detector(*IMAGENET), tmp_path / "det" / "inference.onnx")
    write_yaml(tmp_path / "det", detection_yml({"limit_side_len": 736, "limit_type": "min"}))
    found = describe(tmp_path / "det" / "inference.onnx", Conventions(boxes={"min_score": 0.7}))
    assert (found.spec.input.min_side, found.spec.input.mean) == (736, IMAGENET[0])
    assert (found.spec.boxes.ratio, found.spec.boxes.min_score) == (1.5, 0.7), "what is told goes before what is found"
    with pytest.raises(BadInput, match=r"inference\.yml: of a detection model"):
        describe(tmp_path / "det" / "inference.onnx", Conventions("recognition"))


def recognition_yml() -> dict[str, Any]:
    steps = [{"DecodeImage": {"img_mode": "BGR"}}, {"RecResizeImg": {"image_shape": [3, 48, 320]}}, {"ToCHW": None}]
    after = {"name": "CTCLabelDecode", "character_dict": ["a", "b", "c"]}
    return {"PreProcess": {"transform_ops": steps}, "PostProcess": after}


def detection_yml(resize: dict[str, Any]) -> dict[str, Any]:
    normal = {"mean": list(IMAGENET[0]), "std": list(IMAGENET[1]), "scale": "1./255.", "order": "hwc"}
    steps = [{"DecodeImage": {"img_mode": "BGR"}}, {"DetResizeForTest": resize}, {"NormalizeImage": normal}]
    after = {"name": "DBPostProcess", "thresh": 0.3, "box_thresh": 0.6, "max_candidates": 1000, "unclip_ratio": 1.5}
    return {"PreProcess": {"transform_ops": steps}, "PostProcess": after}


def write_yaml(folder: Path, data: object) -> Path:
    path = folder / "inference.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("resize", "expected"),
    [
        ({"resize_long": 960}, {"max_side": 960, "min_side": 0}),
        ({"limit_side_len": 960, "limit_type": "max"}, {"max_side": 960, "min_side": 1}),
        ({}, {"max_side": 960, "min_side": 1}),
    ],
)
def test_page_sizes_of_paddleocr(resize: dict[str, Any], expected: dict[str, int], tmp_path: Path) -> None:
    """Each of its rules has its place in the spec."""
    told = paddle_conventions(write_yaml(tmp_path, detection_yml(resize))).input
    assert {key: told[key] for key in expected} == expected


def test_foreign_settings_are_refused(tmp_path: Path) -> None:
    """An attention decoder, a file of something else, and no YAML at all: one line that names the file."""
    data = recognition_yml()
    data["PostProcess"]["name"] = "NRTRLabelDecode"
    with pytest.raises(BadRecord, match=r"inference\.yml: PostProcess NRTRLabelDecode"):
        paddle_conventions(write_yaml(tmp_path, data))
    with pytest.raises(BadRecord, match="KeyError: 'PreProcess'"):
        paddle_conventions(write_yaml(tmp_path, {"Global": 1}))
    (tmp_path / "inference.yml").write_text("a: [", encoding="utf-8")
    with pytest.raises(BadRecord, match="settings in YAML"):
        paddle_conventions(tmp_path / "inference.yml")


def test_dictionaries(tmp_path: Path) -> None:
    """One character a line or all in one; an ideographic space is a space; two characters are none."""
    path = tmp_path / "dict.txt"
    path.write_text("a\nb\n c\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"entry 3 of its dictionary is ' c'"):
        describe(save(recogniser(), tmp_path / "r.onnx"), Conventions("recognition", characters=dictionary(path)))
    path.write_text("ab\N{IDEOGRAPHIC SPACE}", encoding="utf-8")
    told = Conventions("recognition", characters=dictionary(path))
    assert describe(tmp_path / "r.onnx", told).spec.charset == "ab  ", "five classes: the blank, three, and a space"


def test_a_charset_may_hold_its_space_twice(samples: PageSet, tmp_path: Path) -> None:
    """Dictionaries that end with a space get another by `use_space_char`; the classes are what counts."""
    model = describe(save(recogniser(twice=True), tmp_path / "r.onnx"), READS, preset="paddleocr")
    assert model.spec.charset == "abc  "
    assert take_in(model, samples, tmp_path).manifest.facts["sample_accuracy"] == 1


def _not_onnx(folder: Path) -> Foreign:
    path = folder / "m.onnx"
    path.write_bytes(b"\x89PNG and nothing of a model")
    return describe(path, READS)


def _empty(folder: Path) -> Foreign:
    path = folder / "m.onnx"
    path.write_bytes(b"")
    return describe(path, READS)


def _absent(folder: Path) -> Foreign:
    return describe(folder / "m.onnx", READS)


def _other_height(folder: Path) -> Foreign:
    return describe(save(recogniser(height=32), folder / "m.onnx"), READS, preset="paddleocr")


def _frozen_batch(folder: Path) -> Foreign:
    return describe(save(recogniser(batch=1), folder / "m.onnx"), READS)


def _other_charset(folder: Path) -> Foreign:
    return describe(save(recogniser(), folder / "m.onnx"), Conventions("recognition", characters=tuple("abcdef")))


def _wrong_order(folder: Path) -> Foreign:
    return describe(save(recogniser(), folder / "m.onnx"), Conventions("recognition", characters=tuple("cab ")))


def _wrong_mean(folder: Path) -> Foreign:
    told = Conventions("recognition", {"mean": (3.0,)}, characters=READS.characters)
    return describe(save(recogniser(), folder / "m.onnx"), told)


def _two_inputs(folder: Path) -> Foreign:
    model = recogniser()
    model.graph.input.append(onnx.helper.make_tensor_value_info("valid_ratio", onnx.TensorProto.FLOAT, (None,)))
    return describe(save(model, folder / "m.onnx"), READS)


def _integers(folder: Path) -> Foreign:
    model = recogniser()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return describe(save(model, folder / "m.onnx"), READS)


def _no_detector(folder: Path) -> Foreign:
    return describe(save(recogniser(), folder / "m.onnx"), Conventions("detection"))


def _outside(folder: Path) -> Foreign:
    (folder / "models").mkdir()
    path = save(recogniser(), folder / "models" / "m.onnx")
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../weights.bin")
    (folder / "weights.bin").write_bytes(bytes(64))
    return describe(save(model, path), READS)


def _linked_outside(folder: Path) -> Foreign:
    (folder / "models").mkdir()
    path = save(recogniser(), folder / "models" / "m.onnx")
    model = onnx.load(path)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "weights.bin")
    (folder / "weights.bin").write_bytes(bytes(64))
    (folder / "models" / "weights.bin").symlink_to("../weights.bin")
    return describe(save(model, path), READS)


def _huge(folder: Path) -> Foreign:
    path = folder / "m.onnx"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 3 << 30)  # a hole: it takes no room
    return describe(path, READS)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_not_onnx, "not an ONNX file"),
        (_empty, "no graph in it"),
        (_absent, "no such file"),
        (_other_height, "height 32 in its input; expected 48, as the spec says"),
        (_frozen_batch, "batches of 1"),
        (_other_charset, "5 classes; expected 7: 6 characters and the blank"),
        (_wrong_order, "'cab' for 'abc'"),
        (_wrong_mean, "of the sample lines' characters"),
        (_two_inputs, "inputs x, valid_ratio"),
        (_integers, "inconsistent type"),
        (_no_detector, "an output of 3 axes; expected a map (N, 1, h, w)"),
        (_outside, "outside its folder"),
        (_linked_outside, "outside its folder"),
        (_huge, "3,221 MB"),
    ],
)
def test_what_does_not_hold_is_refused(make: Any, cause: str, samples: PageSet, tmp_path: Path) -> None:
    """One line that names the file and the cause, bad input, and no model folder."""
    with pytest.raises(OcrOpsError) as refused:
        take_in(make(tmp_path), samples, tmp_path / "made")
    line = str(refused.value)
    assert cause in line
    assert "m.onnx" in line
    assert "\n" not in line
    assert refused.value.exit_code == 4
    assert not (tmp_path / "made").exists()


def test_weights_beside_a_graph_are_put_in(samples: PageSet, tmp_path: Path) -> None:
    """The bundle is one file, whatever the export was."""
    path = tmp_path / "export" / "m.onnx"
    path.parent.mkdir()
    onnx.save_model(recogniser(), path, save_as_external_data=True, location="m.bin", size_threshold=0)
    bundle = take_in(describe(path, READS), samples, tmp_path)
    assert {file.name for file in bundle.path.iterdir()} == {"manifest.json", "model.onnx"}
    (path.parent / "m.bin").unlink()
    with pytest.raises(BadInput, match=r"weights in 'm\.bin', which is not there"):
        describe(path, READS)


def test_what_nobody_tells_is_asked_for(tmp_path: Path) -> None:
    """Task, characters and height have no defaults to guess."""
    path = save(recogniser(), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="nothing says what it does"):
        describe(path, Conventions())
    with pytest.raises(UsageError, match="its characters are told nowhere"):
        describe(path, Conventions("recognition"))
    free = onnx.load(path)
    free.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_value")
    with pytest.raises(UsageError, match="its height is told nowhere"):
        describe(save(free, path), READS)


def test_a_trained_model_is_never_replaced(samples: PageSet, tmp_path: Path) -> None:
    """An import gives way to what lies there; to an earlier import it does not."""
    model = describe(save(recogniser(), tmp_path / "bars.onnx"), READS)
    take_in(model, samples, tmp_path)
    take_in(model, samples, tmp_path)
    (tmp_path / "models" / "bars" / "weights.safetensors").write_bytes(b"weights")
    with pytest.raises(BadInput, match="there already, and no import"):
        take_in(model, samples, tmp_path)


def test_an_unknown_key_in_an_imported_spec_is_named(samples: PageSet, tmp_path: Path) -> None:
    """The folder is read as any model's is."""
    take_in(describe(save(recogniser(), tmp_path / "bars.onnx"), READS), samples, tmp_path)
    spec = tmp_path / "models" / "bars" / "model.toml"
    spec.write_text(spec.read_text(encoding="utf-8") + "\n[extra]\nkey = 1\n", encoding="utf-8")
    with pytest.raises(BadRecord, match=r"model\.toml: extra: Extra inputs"):
        ModelSpec.read(spec.parent)


@pytest.mark.peers
@pytest.mark.shared_data
def test_rapidocr_reads_as_well_here_for_less(shared_data: Path, tmp_path: Path) -> None:
    """The installed pair comes with its settings; same weights, same pages: no fewer words, fewer CPU seconds."""
    rapidocr_package = pytest.importorskip("rapidocr")
    found, read = rapidocr()
    assert (found.spec.task, found.spec.input.min_side, found.spec.boxes.ratio) == ("detection", 736, 1.6)
    assert (read.spec.task, read.spec.input.height, read.spec.input.stride) == ("recognition", 48, 8)
    assert read.spec.text.output == "probabilities"
    assert set("aZ0 €é") | set("文字認識") <= set(read.spec.charset)

    pages = read_pages(shared_data / "sroie")
    chosen = PageSet(pages.folder, tuple(page for page in pages.pages if Path(page.image).stem in SAMPLES), pages.fold)
    bundles = [take_in(model, chosen, tmp_path) for model in (found, read)]
    reader = Reader(Release.write(tmp_path / "release", *bundles), threads=1)
    one = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    peer = rapidocr_package.RapidOCR(params={**one, "Global.log_level": "error"})
    ours, theirs, seconds, their_seconds = Match(), Match(), 0.0, 0.0
    for page in chosen.pages:
        path = chosen.folder / page.image
        start = time.process_time()
        text = reader.read(path.read_bytes(), path.name, ReadOptions(orientation=False)).text
        middle = time.process_time()
        lines = peer(str(path)).txts
        seconds, their_seconds = seconds + middle - start, their_seconds + time.process_time() - middle
        ours += match_words(page.text, text, fold=True)
        theirs += match_words(page.text, "\n".join(lines), fold=True)
    assert ours.f1 is not None
    assert theirs.f1 is not None
    assert ours.f1 >= theirs.f1 - 0.005
    assert seconds < their_seconds
