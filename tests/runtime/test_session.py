from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import CorruptBundle, OutsideSystem, UsageError
from ocr_ops.core.release import Release
from ocr_ops.core.spec import InputSpec
from ocr_ops.runtime.session import PROVIDER_VARIABLE, Session, to_tensor


def test_a_session_runs_on_the_cpu(tiny_release: Release) -> None:
    """And says so."""
    session = Session(tiny_release.detection, threads=1)
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


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is a GPU build")
def test_a_gpu_that_is_not_there_is_no_cpu(tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for CUDA without it is an error, never a silent fall-back."""
    monkeypatch.setenv(PROVIDER_VARIABLE, "cuda")
    with pytest.raises(OutsideSystem):
        Session(tiny_release.detection)


def test_an_unknown_provider_is_a_mistake(tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable has two values."""
    monkeypatch.setenv(PROVIDER_VARIABLE, "abacus")
    with pytest.raises(UsageError, match="cpu or cuda"):
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
