"""A network with fewer channels: which leave, and what is left."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ocr_ops.cli import main
from ocr_ops.core.errors import BadInput, UsageError
from ocr_ops.core.record import digest_file
from ocr_ops.core.spec import ModelSpec, Setting
from ocr_ops.train import artefacts, loop
from ocr_ops.train.fit import LESSONS, Training
from ocr_ops.train.fit_detection import DetectionLesson
from ocr_ops.train.fit_recognition import RecognitionLesson
from ocr_ops.train.networks import build, load
from ocr_ops.train.prune import Importance, Network, Stream, parameters, prune, pruned, streams, width

MODELS = Path("models")
LIKE: dict[str, dict[str, Setting]] = {
    "recognition-tiny": {"widths": (16, 32, 32, 32, 48), "blocks": 3},
    "detection-tiny": {"widths": (16, 16, 32, 32, 48), "pyramid": 32, "head": 16},
}


def wide(name: str) -> tuple[ModelSpec, Network]:
    """A network whose normalisations have seen something, and its spec."""
    spec = ModelSpec.read(MODELS / name)
    spec = spec.model_copy(update={"network": {"kind": spec.network["kind"], "kernel": 3, **LIKE[name]}})
    if spec.task == "detection":
        del spec.network["kernel"]
    torch.manual_seed(1)
    network = build(spec)
    for _ in range(2):
        network(torch.randn(2, 1, spec.input.height or 64, 96))
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.bias, -0.5, 0.5)
    return spec, network.eval()


def output(spec: ModelSpec, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(2)
    image = torch.randn(2, 1, spec.input.height or 64, 128)
    with torch.no_grad():
        return torch.as_tensor(load(spec, tensors, Path("weights"))(image))


@pytest.mark.parametrize("name", LIKE)
def test_who_keeps_all_computes_the_same(name: str) -> None:
    spec, network = wide(name)
    same, tensors = pruned(network, spec, 1.0)
    assert same == spec
    assert torch.equal(output(spec, network.state_dict()), output(same, tensors))


@pytest.mark.parametrize("name", LIKE)
def test_channels_that_say_nothing_leave_first_and_nothing_changes(name: str) -> None:
    """Half of every stream is silenced: the other half is the whole network."""
    spec, network = wide(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for stream in streams(network):
            parts = [network.get_submodule(part) for part in stream.written]
            last = [part[1] if isinstance(part, torch.nn.Sequential) else part for part in parts]
            channels = len(last[0].weight)
            silent = torch.randperm(channels, generator=generator)[width(channels, 0.5) :]
            for part in last:
                part.weight[silent] = 0
                part.bias[silent] = 0
    half, tensors = pruned(network, spec, 0.5)
    assert half.network != spec.network
    assert parameters(build(half)) < 0.4 * parameters(network)
    assert torch.allclose(output(spec, network.state_dict()), output(half, tensors), atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "keep", "left"),
    [(80, 1.0, 80), (20, 1.0, 20), (80, 0.75, 64), (16, 0.6, 8), (160, 0.67, 104), (8, 0.1, 8)],
)
def test_widths_are_multiples_of_eight(channels: int, keep: float, left: int) -> None:
    assert width(channels, keep) == left


def test_what_says_least_is_missed_least() -> None:
    """The shipped recogniser without a tenth of its channels reads better than without a random tenth."""
    source = MODELS / "recognition-small"
    spec = ModelSpec.read(source)
    recipe: dict[str, Setting] = {"batch": 8, "seed": 1, "longest": 160, "strength": 0.1}
    spec = spec.model_copy(update={"recipe": recipe})
    network = load(spec, loop.read_tensors(source / "weights.safetensors")[0], source)
    generator = torch.Generator().manual_seed(0)
    lesson = RecognitionLesson(spec, exam=2)
    batches = lesson.pool(0)[:3]

    def chance(network: Network, stream: Stream) -> torch.Tensor:
        return torch.rand(network.get_submodule(stream.written[0])[0].out_channels, generator=generator)

    def loss(importance: Importance | None) -> float:
        smaller, tensors = pruned(network, spec, 0.9, importance)
        lesson.network = load(smaller, tensors, source)
        with torch.no_grad():
            return sum(float(lesson.loss(batch)) for batch in batches)

    assert loss(None) < 0.7 * min(loss(chance), loss(chance))


def test_a_smaller_model_is_a_folder_that_says_where_it_came_from(
    recognition: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (recognition / "model.toml").read_text(encoding="utf-8").replace("[8, 8, 16, 16, 16]", "[8, 16, 16, 24, 32]")
    (recognition / "model.toml").write_text(text, encoding="utf-8")
    torch.manual_seed(3)
    save_file(build(ModelSpec.read(recognition)).state_dict(), recognition / "weights.safetensors")
    main(["prune", str(recognition), "--name", "lean", "--keep", "0.5", "--json"])
    row = json.loads(capsys.readouterr().out)
    lean = recognition.parent / "lean"
    spec = ModelSpec.read(lean)
    assert (spec.name, spec.network["widths"]) == ("lean", (8, 8, 8, 16, 16))
    assert spec.recipe == ModelSpec.read(recognition).recipe
    network = load(spec, loop.read_tensors(lean / "weights.safetensors")[0], lean)
    assert row["parameters"] == parameters(network) < row["before"]
    assert digest_file(recognition / "weights.safetensors") in (lean / "card.md").read_text(encoding="utf-8")


def test_a_pruned_detector_is_trained_on_by_what_it_came_from(
    detection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe of the training page, in two commands."""
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(LESSONS, "detection", partial(DetectionLesson, exam=2))
    monkeypatch.setattr(artefacts, "drawable", lambda: False)
    monkeypatch.setattr("ocr_ops.train.fit_detection.drawable", lambda: False)
    torch.manual_seed(3)
    save_file(build(ModelSpec.read(detection)).state_dict(), detection / "weights.safetensors")
    lean = detection.parent / "lean"
    main(["prune", str(detection), "--name", "lean", "--keep", "0.5"])
    before = digest_file(lean / "weights.safetensors")
    words = ["--from", str(lean), "--teacher", str(detection), "--publish", "--no-mlflow"]
    main(["train", str(lean), *words, "--evaluate-every", "3"])
    assert "from " + str(lean) in capsys.readouterr().err
    history = Training.from_file(lean / "training.json")
    assert history.weights == digest_file(lean / "weights.safetensors") != before
    assert history.teacher is not None
    assert (history.teacher.model, history.teacher.way) == ("small-detector", "map")
    assert history.teacher.digest == digest_file(detection / "weights.safetensors")


def test_what_cannot_be_pruned_is_refused(
    recognition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for keep in (0.0, 1.5, -1.0):
        with pytest.raises(UsageError, match="at most 1"):
            prune(recognition, tmp_path / "lean", keep)
    with pytest.raises(UsageError, match="a model already"):
        prune(recognition, recognition, 0.5)
    with pytest.raises(BadInput, match="weights"):
        prune(recognition, tmp_path / "lean", 0.5)
    assert not (tmp_path / "lean").exists()
    with pytest.raises(SystemExit) as ended:
        main(["prune", str(recognition), "--name", "lean", "--keep", "1.5"])
    assert ended.value.code == 2
    assert "1.5 is not in the range" in capsys.readouterr().err
