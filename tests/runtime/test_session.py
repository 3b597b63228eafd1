import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import CorruptBundle, OutsideSystem, UsageError
from ocr_ops.core.release import Release
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime.session import PROVIDER_VARIABLE, PROVIDERS, Session, failure, offered, to_tensor
from ocr_ops.runtime.shapes import OFTEN


def test_a_session_runs_on_the_cpu(tiny_release: Release) -> None:
    """And says so."""
    session = Session(tiny_release.detection, threads=1, provider="cpu")
    assert session.provider == "CPUExecutionProvider"
    assert session.run(np.zeros((2, 1, 64, 96), np.float32)).shape == (2, 1, 32, 48)


@pytest.mark.parametrize("graph", [b"", b"not a graph", b"\x08\x09\x12\x00" * 50])
def test_an_unsound_graph_is_refused(
    tiny_release: Release, tmp_path: Path, capfd: pytest.CaptureFixture[str], graph: bytes
) -> None:
    """With one line, and nothing else on standard error."""
    bundle = ModelBundle.write(tmp_path / "bad", tiny_release.detection.manifest, {GRAPH_FILE: graph})
    with pytest.raises(CorruptBundle) as caught:
        Session(bundle)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_batch_the_graph_cannot_take_is_told(tiny_release: Release, capfd: pytest.CaptureFixture[str]) -> None:
    """The error names the shape."""
    with pytest.raises(CorruptBundle, match="48"):
        Session(tiny_release.recognition).run(np.zeros((1, 1, 48, 64), np.float32))
    assert capfd.readouterr().err == ""


def test_numbers_that_are_none_do_not_pass(tiny_release: Release) -> None:
    """NaN in the output is a broken model, not an empty page."""
    with pytest.raises(CorruptBundle, match="finite"):
        Session(tiny_release.recognition).run(np.full((1, 1, 32, 64), np.nan, np.float32))


@pytest.fixture
def fresh() -> Iterator[None]:
    """What was found of the providers is forgotten, before and after."""
    offered.cache_clear()
    failure.cache_clear()
    yield
    offered.cache_clear()
    failure.cache_clear()


@pytest.mark.parametrize("name", sorted(PROVIDERS.keys() - {"cpu"}))
def test_a_named_provider_that_is_not_there_is_no_cpu(
    name: str, tiny_release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for one by name is never answered by another, whether the variable or the caller asks."""
    if not failure(name):
        pytest.skip(f"{name} works here")
    with pytest.raises(OutsideSystem, match=PROVIDERS[name]):
        Session(tiny_release.detection, 1, name)
    monkeypatch.setenv(PROVIDER_VARIABLE, name)
    with pytest.raises(OutsideSystem, match=PROVIDERS[name]):
        Session(tiny_release.detection)


def test_the_callers_word_goes_before_the_variable(tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROVIDER_VARIABLE, "abacus")
    assert Session(tiny_release.detection, 1, "cpu").provider == PROVIDERS["cpu"]


def test_auto_takes_the_best_that_works(tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what no variable at all says, too."""
    best = PROVIDERS[offered()[0]]
    monkeypatch.delenv(PROVIDER_VARIABLE, raising=False)
    assert Session(tiny_release.detection, 1).provider == best
    assert Session(tiny_release.detection, 1, "auto").provider == best


@pytest.mark.usefixtures("fresh")
def test_a_build_that_lists_what_is_not_there_falls_back_aloud(
    tiny_release: Release, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As onnxruntime-gpu does without a GPU: it lists CUDA, and runs on the CPU. One line, however many sessions."""
    if not failure("cuda"):
        pytest.skip("cuda works here")
    failure.cache_clear()
    real = onnxruntime.InferenceSession

    def without_gpu(graph: bytes, settings: Any, *, providers: list[Any], **others: Any) -> Any:
        listed = [
            provider for provider in providers if provider in ("CPUExecutionProvider", ("CPUExecutionProvider", {}))
        ]
        return real(graph, settings, providers=listed or ["CPUExecutionProvider"], **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS["cuda"], PROVIDERS["cpu"]])
    with caplog.at_level(logging.INFO):
        for bundle in (tiny_release.detection, tiny_release.recognition):
            assert Session(bundle, 1, "auto").provider == "CPUExecutionProvider"
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("provider cuda does not work here (CPUExecutionProvider took its place")
    assert line.endswith("falling back to cpu")
    with pytest.raises(OutsideSystem, match="took its place"):
        Session(tiny_release.detection, 1, "cuda")


@pytest.mark.usefixtures("fresh")
def test_a_provider_that_does_not_take_the_graph_gives_way_aloud(
    tiny_release: Release, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It works, but not with this one: the next is taken, and a line says so; named, it is an error."""
    if not failure("cuda"):
        pytest.skip("cuda works here")
    real = onnxruntime.InferenceSession

    class Picky:
        """Takes the smallest graph, and leaves any other to the CPU."""

        def __init__(self, graph: bytes, settings: Any, *, providers: list[Any], **others: Any) -> None:
            asked = providers[0] if isinstance(providers[0], str) else providers[0][0]
            self.session = real(graph, settings, providers=["CPUExecutionProvider"], **others)
            self.taken = asked if len(graph) < 100 else "CPUExecutionProvider"

        def get_providers(self) -> list[str]:
            return [self.taken]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.session, name)

    failure.cache_clear()
    monkeypatch.setattr(onnxruntime, "InferenceSession", Picky)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDERS["cuda"], PROVIDERS["cpu"]])
    with caplog.at_level(logging.INFO):
        assert Session(tiny_release.detection, 1, "auto").provider == "CPUExecutionProvider"
    assert [record.message for record in caplog.records] == [
        "detection: CUDAExecutionProvider does not take it; on to the next"
    ]
    with pytest.raises(OutsideSystem, match="CPUExecutionProvider took its place"):
        Session(tiny_release.detection, 1, "cuda")


@pytest.mark.skipif("cuda" not in offered(), reason="no NVIDIA GPU works here")
def test_a_gpu_finds_what_a_cpu_finds(tiny_release: Release) -> None:
    clock = np.random.default_rng(0)
    for bundle in (tiny_release.detection, tiny_release.recognition):
        cpu, gpu = (Session(bundle, 1, provider) for provider in ("cpu", "cuda"))
        assert gpu.provider == PROVIDERS["cuda"]
        channels = bundle.manifest.input.channels
        for rows in (*[1, 3] * (OFTEN + 1), 5):  # with the common session, and with sessions of their own
            batch = clock.random((rows, channels, 32, 96), np.float32)
            np.testing.assert_allclose(gpu.run(batch), cpu.run(batch), rtol=0.01, atol=0.01)


def test_an_unknown_provider_is_a_mistake(tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line lists what the variable may say."""
    monkeypatch.setenv(PROVIDER_VARIABLE, "abacus")
    with pytest.raises(UsageError, match="auto, cpu, cuda, tensorrt, openvino"):
        Session(tiny_release.detection)


def test_pixels_are_normalised_a_channel_at_a_time() -> None:
    """`(pixel / 255 - mean) / std`, channels first."""
    spec = InputSpec(channels=3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), stride=4, max_side=32)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    expected = ((pixels / 255 - spec.mean) / spec.std).transpose(2, 0, 1)
    assert to_tensor([pixels], spec)[0] == pytest.approx(expected, abs=1e-5)
    grey = InputSpec(stride=4, max_side=32)
    assert to_tensor([pixels[..., 0]] * 2, grey).shape == (2, 1, 4, 6)


def test_colours_stand_in_the_models_order() -> None:
    """Pictures are RGB everywhere; a model that learnt BGR gets its own."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0] = 255
    rgb = InputSpec(channels=3, mean=(0.0,) * 3, std=(1.0, 2.0, 4.0), stride=8, max_side=64)
    assert to_tensor([picture], rgb)[0, :, 0, 0].tolist() == [1, 0, 0]
    assert to_tensor([picture], rgb.model_copy(update={"order": "bgr"}))[0, :, 0, 0].tolist() == [0, 0, 0.25]
