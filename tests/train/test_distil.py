"""A teacher's answers, and what a student makes of them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ocr_ops import __version__
from ocr_ops.cli import main
from ocr_ops.core.bundle import GRAPH_FILE, Manifest, ModelBundle
from ocr_ops.core.errors import BadInput, BadRecord
from ocr_ops.core.record import digest_bytes, digest_file
from ocr_ops.core.spec import BoxSpec, InputSpec, ModelSpec, TextSpec
from ocr_ops.train import artefacts, distil, loop
from ocr_ops.train.distil import LineTeaching, PageTeaching, Teacher, open_teacher, windows
from ocr_ops.train.export import to_onnx
from ocr_ops.train.finetune import finetune
from ocr_ops.train.fit import LESSONS
from ocr_ops.train.fit_detection import DetectionLesson
from ocr_ops.train.fit_recognition import RecognitionLesson
from ocr_ops.train.networks import build
from tests.tiny import build_bundle, draw
from tests.train.conftest import CHARSET


class Says(nn.Module):  # type: ignore[misc]
    """A network that says the same of every picture: scores (T, C), or those of a function of the picture."""

    def __init__(self, answer: Tensor | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.answer, self.seen = answer, torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return self.answer(x) if callable(self.answer) else self.answer.expand(len(x), *self.answer.shape)


def teacher_of(spec: ModelSpec, network: nn.Module) -> Teacher:
    return Teacher(Path("teacher"), "teacher", digest_bytes(b"teacher"), spec, network)


def with_weights(folder: Path, seed: int = 3) -> Path:
    """The model folder, with weights that nobody trained."""
    torch.manual_seed(seed)
    save_file(build(ModelSpec.read(folder)).state_dict(), folder / "weights.safetensors")
    return folder


def bundle_of(folder: Path, out: Path) -> ModelBundle:
    """The bundle of a model folder."""
    spec = ModelSpec.read(folder)
    network = build(spec)
    network.load_state_dict(loop.read_tensors(folder / "weights.safetensors")[0])
    facts = {"model": spec.name, "task": spec.task, "precision": "fp32", "licence": "Apache-2.0", "floor": 0.0}
    facts |= {"input": spec.input, "charset": spec.charset, "opset": 17, "toolkit": __version__, "files": {}}
    manifest = Manifest.parse({**facts, "weights": digest_file(folder / "weights.safetensors")}, "a test")
    return ModelBundle.write(out, manifest, {GRAPH_FILE: to_onnx(network.eval(), spec)})


def lines(
    spec: ModelSpec, texts: tuple[str, ...] = ("Total 12", "x-ray"), widths: tuple[int, ...] = (64, 44)
) -> loop.Batch:
    """A batch of noise, said to be these texts, padded to the widest."""
    noise = np.random.default_rng(0).integers(0, 256, (len(texts), 1, 32, max(widths)), np.uint8)
    for image, width in zip(noise, widths, strict=True):
        image[..., width:] = image[..., width - 1 : width]
    return {
        "image": torch.from_numpy(noise),
        "steps": torch.tensor(widths) // spec.input.stride,
        "target": torch.tensor([spec.charset.index(char) + 1 for text in texts for char in text]),
        "length": torch.tensor([len(text) for text in texts]),
        "folded": torch.tensor([False] * len(texts)),
    }


def test_steps_meet_where_few_of_them_cover_the_same_pixels() -> None:
    own = InputSpec(height=32, stride=4, max_side=512)
    paddle = InputSpec(channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, height=48, stride=8, max_side=512)
    assert windows(own, own) == (1, 1)
    assert windows(paddle, own) == (3, 4)
    assert windows(own, paddle) == (4, 3)
    assert windows(InputSpec(height=32, stride=8, max_side=512), own) == (1, 2)
    assert windows(InputSpec(height=50, stride=4, max_side=512), own) is None
    assert windows(InputSpec(height=32, width=128, stride=4, max_side=512, padding="black"), own) is None


def test_who_says_what_the_teacher_says_has_nothing_to_learn(recognition: Path) -> None:
    """And whoever differs has, in the direction of the teacher."""
    spec, teacher = ModelSpec.read(recognition), open_teacher(with_weights(recognition), "recognition")
    teaching, batch = LineTeaching(teacher, spec), lines(spec)
    with torch.no_grad():
        same = teacher(batch["image"].float())
    assert float(teaching.loss(batch, same)) == pytest.approx(0.0, abs=1e-5)
    other = torch.zeros_like(same, requires_grad=True)
    teaching.loss(batch, other).backward()
    moved = other.detach() - 0.1 * other.grad
    assert 0 < float(teaching.loss(batch, moved)) < float(teaching.loss(batch, other.detach()))
    assert not bool(other.grad[1, 11:].any())  # padding says nothing
    assert teaching.cost()["teacher_ms"] > 0
    assert teaching.cost() == {}
    assert teaching.facts == {
        "model": "small-reader",
        "digest": digest_file(recognition / "weights.safetensors"),
        "way": "steps",
        "weight": 1.0,
        "shared_characters": len(CHARSET),
        "temperature": 1.0,
        "steps": "1:1",
    }


def test_a_bundle_and_the_folder_it_came_from_teach_alike(recognition: Path, detection: Path, tmp_path: Path) -> None:
    spec = ModelSpec.read(with_weights(recognition))
    batch = lines(spec)
    torch.manual_seed(0)
    scores = torch.randn(2, 16, len(spec.charset) + 1)
    taught = [
        LineTeaching(open_teacher(path, "recognition"), spec).loss(batch, scores)
        for path in (recognition, bundle_of(recognition, tmp_path / "reader").path)
    ]
    assert float(taught[0]) == pytest.approx(float(taught[1]), rel=1e-4)
    pages, image = ModelSpec.read(with_weights(detection)), torch.randint(0, 256, (2, 1, 128, 128), dtype=torch.uint8)
    maps = [
        PageTeaching(open_teacher(path, "detection"), pages).target(image)
        for path in (detection, bundle_of(detection, tmp_path / "finder").path)
    ]
    assert maps[0].shape == (2, 1, 64, 64)
    assert torch.allclose(maps[0], maps[1], atol=1e-4)


def test_classes_are_matched_by_character(recognition: Path) -> None:
    """Another order, the blank last, a space too many, characters of its own, probabilities: the same teaching."""
    spec = ModelSpec.read(recognition)
    torch.manual_seed(0)
    scores, student = 3 * torch.randn(16, len(spec.charset) + 1), torch.randn(2, 16, len(spec.charset) + 1)
    batch = lines(spec)
    expected = LineTeaching(teacher_of(spec, Says(scores)), spec).loss(batch, student)

    charset = "中" + spec.charset[::-1] + " 文"
    never = torch.full((16, 1), -40.0)
    own = scores[:, 1:].flip(1)
    foreign = torch.cat([never, own, never, never, scores[:, :1]], 1).softmax(1)
    about = spec.model_copy(
        update={"charset": charset, "network": {}, "text": TextSpec(output="probabilities", blank="last")}
    )
    teaching = LineTeaching(teacher_of(about, Says(foreign)), spec)
    assert float(teaching.loss(batch, student)) == pytest.approx(float(expected), rel=1e-3)
    assert teaching.facts["shared_characters"] == len(spec.charset)


def test_lines_the_teacher_cannot_spell_are_left_to_the_label(recognition: Path) -> None:
    spec = ModelSpec.read(recognition)
    about = spec.model_copy(update={"charset": spec.charset.replace("-", "")})
    torch.manual_seed(0)
    scores = torch.randn(16, len(about.charset) + 1)
    student = torch.zeros(2, 16, len(spec.charset) + 1, requires_grad=True)
    LineTeaching(teacher_of(about, Says(scores)), spec).loss(lines(spec), student).backward()
    assert student.grad is not None
    assert bool(student.grad[0].any())
    assert not bool(student.grad[1].any())  # x-ray


@pytest.mark.parametrize("shift", [-2, 0, 1])
def test_other_steps_are_averaged_to_the_same_windows(recognition: Path, shift: int) -> None:
    """Three colours, 48 px, a step in 8 px: three of the teacher's steps are four of the student's, here or nearby."""
    spec = ModelSpec.read(recognition)
    shape = InputSpec(channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, height=48, stride=8, max_side=512)
    about, classes = spec.model_copy(update={"input": shape}), len(spec.charset) + 1

    def alternating(x: Tensor) -> Tensor:
        """Sure of the first character throughout one window, of the blank in the next."""
        scores = torch.full((len(x), x.shape[3] // 8, classes), -50.0)
        scores[:, torch.arange(scores.shape[1]) // 3 % 2 == 0, 1] = 0.0
        scores[:, torch.arange(scores.shape[1]) // 3 % 2 == 1, 0] = 0.0
        return scores

    network = Says(alternating)
    teaching = LineTeaching(teacher_of(about, network), spec)
    alike = torch.full((2, 16, classes), -50.0)
    alike[:, torch.arange(16) // 4 % 2 == 0, 1] = 0.0
    alike[:, torch.arange(16) // 4 % 2 == 1, 0] = 0.0
    padded = torch.cat([alike[:, :1]] * 2 + [alike] + [alike[:, -1:]] * 2, 1)
    batch = lines(spec)
    assert float(teaching.loss(batch, padded[:, 2 + shift : 18 + shift])) == pytest.approx(0.0, abs=1e-4)
    assert network.seen.shape == (2, 3, 48, 96)  # whole windows, whole buckets of 32 px
    assert float(teaching.loss(batch, alike.roll(4, 1))) > 10  # a window off
    assert teaching.facts["steps"] == "3:4"


def test_where_steps_do_not_meet_a_sure_reading_becomes_the_label(recognition: Path, tmp_path: Path) -> None:
    """The bars are read as they are; a student that cannot spell them is told nothing."""
    fixed = {"height": 32, "width": 256, "stride": 4, "max_side": 256}
    bundle = build_bundle(tmp_path / "bars", "recognition", input=fixed)
    spec = ModelSpec.read(recognition)
    teaching = LineTeaching(open_teacher(bundle.path, "recognition"), spec)
    assert teaching.way == "text"
    page = draw(("cc ab",))[28:60, :224].mean(2).astype(np.uint8)
    batch = lines(spec, ("?",) if "?" in spec.charset else ("x",), (224,)) | {
        "image": torch.from_numpy(page)[None, None]
    }
    knows, guesses = torch.zeros(1, 56, len(spec.charset) + 1), torch.zeros(1, 56, len(spec.charset) + 1)
    knows[..., 0] = 20.0
    for place, char in enumerate("cc ab"):
        knows[0, 4 + 8 * place, spec.charset.index(char) + 1] = 40.0
    assert float(teaching.loss(batch, knows)) < 0.1
    assert float(teaching.loss(batch, guesses)) > 1

    mute = spec.model_copy(update={"charset": spec.charset.replace("a", "")})
    told = LineTeaching(open_teacher(bundle.path, "recognition"), mute).loss(batch, guesses[..., 1:])
    assert float(told) == 0.0


def test_a_map_is_taught_as_it_is_and_another_kind_of_map_by_its_boxes(detection: Path, tmp_path: Path) -> None:
    spec = ModelSpec.read(detection)
    spec = spec.model_copy(update={"recipe": {**spec.recipe, "crop": 192}})
    page = draw(("cab cab",), 192, 192).mean(2).astype(np.uint8)
    image = torch.from_numpy(page)[None, None]
    bundle = build_bundle(tmp_path / "finder", "detection")
    teaching = PageTeaching(open_teacher(bundle.path, "detection"), spec)
    soft = teaching.target(image)
    assert teaching.way == "map"
    assert soft.shape == (1, 1, 96, 96)
    assert float(soft[0, 0, 22, 40]) > 0.9
    assert float(soft[0, 0, 60, 40]) < 0.1

    other = build_bundle(tmp_path / "other", "detection", boxes=BoxSpec(growth="area", ratio=1.5))
    teaching = PageTeaching(open_teacher(other.path, "detection"), spec)
    drawn = teaching.target(image)
    assert teaching.way == "boxes"
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert float(drawn[0, 0, 22, 40]) == 1.0
    assert float(drawn[0, 0, 60, 40]) == 0.0


def test_a_fixed_canvas_is_padded_and_must_hold_the_crop(detection: Path, tmp_path: Path) -> None:
    spec = ModelSpec.read(detection)
    shape = InputSpec(height=192, width=192, stride=32, max_side=192, padding="black")
    network = Says(lambda x: x[:, :1, ::2, ::2] / 2 + 0.5)
    teaching = PageTeaching(teacher_of(spec.model_copy(update={"input": shape}), network), spec)
    target = teaching.target(torch.full((1, 1, 128, 128), 255, dtype=torch.uint8))
    assert network.seen.shape == (1, 1, 192, 192)
    assert torch.equal(target, torch.ones(1, 1, 64, 64))
    wide = spec.model_copy(update={"recipe": {**spec.recipe, "crop": 256}})
    with pytest.raises(BadInput, match="256x256"):
        PageTeaching(teacher_of(spec.model_copy(update={"input": shape}), network), wide)


def test_what_cannot_teach_is_refused(recognition: Path, detection: Path, tmp_path: Path) -> None:
    spec = ModelSpec.read(recognition)
    with pytest.raises(BadInput, match="a detection teacher; expected one for recognition"):
        open_teacher(with_weights(detection), "recognition")
    for folder in (recognition, tmp_path, tmp_path / "nowhere"):  # the first has no weights
        with pytest.raises(BadInput, match="no teacher; expected a bundle"):
            open_teacher(folder, "recognition")
    greek = teacher_of(spec.model_copy(update={"charset": " αβγ"}), Says(torch.zeros(1, 5)))
    with pytest.raises(BadInput, match="its 4 characters are none of small-reader's"):
        LineTeaching(greek, spec)
    odd = teacher_of(
        spec.model_copy(update={"input": InputSpec(height=50, stride=4, max_side=512)}), Says(torch.zeros(1))
    )
    with pytest.raises(BadInput, match="export"):
        LineTeaching(odd, spec)
    for name in distil.RECIPE:
        wrong = spec.model_copy(update={"recipe": {**spec.recipe, name: 0}})
        with pytest.raises(BadRecord, match=f"{name} is 0"):
            LineTeaching(teacher_of(spec, Says(torch.zeros(1))), wrong)
    with pytest.raises(BadInput, match="output"):
        LineTeaching(teacher_of(spec, Says(torch.zeros(3, 5))), spec).loss(lines(spec), torch.zeros(2, 16, 75))


def test_a_taught_run_resumes_to_the_same_weights_and_says_who_taught(
    recognition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, or in two legs; its history names the teacher, and no other may go on."""
    monkeypatch.setitem(LESSONS, "recognition", partial(RecognitionLesson, exam=4))
    monkeypatch.setattr(artefacts, "drawable", lambda: False)
    text = (recognition / "model.toml").read_text(encoding="utf-8")
    teacher = tmp_path / "models" / "teacher"
    teacher.mkdir()
    (teacher / "model.toml").write_text(text.replace("small-reader", "teacher"), encoding="utf-8")
    with_weights(teacher)
    words = ["train", str(recognition), "--no-mlflow", "--json", "--evaluate-every", "3", "--device", "cpu"]
    made = []
    for name, legs in (("whole", [[]]), ("parts", [["--minutes", "0.0001"], []])):
        monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / name))
        for leg in legs:
            main([*words, "--teacher", str(teacher), *leg])
        made.append(tmp_path / name / "runs" / "small-reader")
    shown = capsys.readouterr()
    assert "taught by teacher (sha256:" in shown.err
    assert "teacher_ms" in json.loads(shown.out.splitlines()[0])
    first, second = (loop.read_tensors(run / loop.CHECKPOINT)[0] for run in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    history = json.loads((made[0] / "training.json").read_text(encoding="utf-8"))
    assert history["teacher"]["digest"] == digest_file(teacher / "weights.safetensors")
    assert history["teacher"]["way"] == "steps"

    (recognition / "model.toml").write_text(text.replace("steps = 6", "steps = 9"), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 4
    assert "was taught by teacher" in capsys.readouterr().err


def test_networks_learn_along_from_the_same_batches(
    recognition: Path,
    detection: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first learns what it learns alone; the other goes on from its weights, taught by the first."""
    for task, lesson in (("recognition", RecognitionLesson), ("detection", DetectionLesson)):
        monkeypatch.setitem(LESSONS, task, partial(lesson, exam=4))
    monkeypatch.setattr(artefacts, "drawable", lambda: False)
    for model in (recognition, detection):
        other = tmp_path / "models" / f"{model.name}-along"
        other.mkdir()
        text = (model / "model.toml").read_text(encoding="utf-8")
        name = ModelSpec.read(model).name
        (other / "model.toml").write_text(text.replace(name, "along"), encoding="utf-8")
        with_weights(other)
        words = ["train", str(model), "--no-mlflow", "--evaluate-every", "3", "--device", "cpu", "--publish"]
        made = []
        for home, more in (("alone", []), ("together", ["--along", str(other)])):
            monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / name / home))
            main([*words, *more])
            made.append(loop.read_tensors(model / "weights.safetensors")[0])
        assert all(torch.equal(made[0][part], made[1][part]) for part in made[0] if "running" not in part)
        history = json.loads((other / "training.json").read_text(encoding="utf-8"))
        assert (history["step"], history["teacher"]["model"]) == (6, name)
        assert history["teacher"]["digest"] == "learning along"
        assert f"along: from {other}" in capsys.readouterr().err


def test_who_cannot_learn_along_is_refused(recognition: Path, detection: Path) -> None:
    lesson = RecognitionLesson(ModelSpec.read(recognition), exam=1)
    with pytest.raises(BadInput, match="task detection; expected recognition"):
        lesson.follower(ModelSpec.read(detection), detection)
    spec = ModelSpec.read(recognition)
    with pytest.raises(BadInput, match=r"\[input\] height 48; expected 32, as small-reader"):
        lesson.follower(spec.model_copy(update={"input": spec.input.model_copy(update={"height": 48})}), recognition)


def test_a_fine_tuning_may_be_taught_and_its_card_tells(
    recognition: Path, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocr_ops.train.finetune.RENDERED", 4)
    monkeypatch.setattr(artefacts, "drawable", lambda: False)
    source = with_weights(recognition)
    bundle = bundle_of(source, tmp_path / "reader")
    tuned = finetune(source, crops, tmp_path / "mine", tmp_path / "runs", steps=1, teacher=bundle.path)
    card = (tuned.model / "card.md").read_text(encoding="utf-8")
    assert f"Taught beside its labels by small-reader ({bundle.digest}: steps)." in card
