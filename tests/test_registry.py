import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import BadInput, CorruptBundle, RegistryUnreachable, UnknownModel
from ocr_ops.core.record import digest_bytes, digest_file
from ocr_ops.core.release import Release
from ocr_ops.core.spec import TASKS
from ocr_ops.core.verdict import Verdict
from ocr_ops.core.workspace import Workspace
from ocr_ops.registry import Registry
from ocr_ops.registry.client import make_store
from ocr_ops.registry.page import LIMIT
from tests.registered import model_folder, register_release, release_of, report
from tests.servers import free_port, mlflow_running
from tests.tiny import draw


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Workspace(tmp_path_factory.mktemp("registry") / "home")


@pytest.fixture(scope="module")
def registry(workspace: Workspace) -> Registry:
    """One store for the module: making one takes seconds. Tests use weights of their own."""
    return Registry.open(workspace)


def test_a_store_is_made_once_and_leaves_nothing_beside_it(
    registry: Registry, workspace: Workspace, tmp_path: Path
) -> None:
    """Where it cannot be made, MLflow is to tell why."""
    path = workspace.home / "mlflow.db"
    before = digest_file(path)
    make_store(path)
    assert digest_file(path) == before
    assert not [file.name for file in workspace.home.iterdir() if file.name.startswith("tmp")]
    make_store(tmp_path / "no folder" / "mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_a_training_output_becomes_a_version_with_all_that_was_known(
    registry: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder(tmp_path / "model", "detection", seed=10)
    version = registry.register(folder)
    assert version.name == "ocr-detection"
    assert version.digest == digest_file(folder / "weights.safetensors")
    assert version.aliases == ("candidate",)
    assert "Reads bars" in version.description
    assert "| score | 0.97 |" in version.description
    run = registry.client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe.steps"] == "100"
    assert run.data.params["device"] == "cpu"
    assert run.data.metrics["data.lines"] == 5000
    assert len(registry.client.get_metric_history(version.run_id, "loss")) == 100
    files = {file.path for file in registry.client.list_artifacts(version.run_id, "model")}
    assert files == {f"model/{file.name}" for file in folder.iterdir()}
    assert [file.path for file in registry.client.list_artifacts(version.run_id, "plots")] == ["plots/curves.png"]
    assert capfd.readouterr() == ("", "")


def test_registering_again_gives_the_same_version_and_other_weights_another(registry: Registry, tmp_path: Path) -> None:
    first = registry.register(model_folder(tmp_path / "one", "recognition", seed=20))
    other = registry.register(model_folder(tmp_path / "two", "recognition", seed=21))
    again = registry.register(tmp_path / "one")
    assert other.version != first.version
    assert again.version == first.version
    assert registry.alias("ocr-recognition", "candidate") == again
    assert registry.find("ocr-recognition", other.digest).version == other.version
    assert registry.versions("ocr-recognition")[0].version == other.version


def test_weights_without_card_or_curves_will_do(registry: Registry, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", "detection", seed=30)
    (folder / "card.md").unlink()
    (folder / "training.json").unlink()
    assert registry.register(folder).digest


def test_a_history_of_other_weights_is_refused(registry: Registry, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model", "detection", seed=31)
    (folder / "training.json").write_text('{"weights": "sha256:stale"}', encoding="utf-8")
    with pytest.raises(BadInput, match="stale"):
        registry.register(folder)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 surely a pickle", b"\x02\0\0\0\0\0\0\0{}"])
def test_weights_that_cannot_be_read_are_never_registered(
    registry: Registry, tmp_path: Path, content: bytes | None
) -> None:
    folder = model_folder(tmp_path / "model", "detection", seed=40)
    weights = folder / "weights.safetensors"
    weights.unlink() if content is None else weights.write_bytes(content)
    before = registry.versions("ocr-detection")
    with pytest.raises(BadInput, match=r"weights\.safetensors"):
        registry.register(folder)
    assert registry.versions("ocr-detection") == before


def test_a_bundle_joins_the_model_it_was_made_of(registry: Registry, tmp_path: Path) -> None:
    models = {task: model_folder(tmp_path / task, task, seed=50) for task in TASKS}
    release = release_of(tmp_path, models)
    version = registry.register(models["detection"])
    measured = report("bench", "detection-bars fp32", release.detection.digest)
    version = registry.log_bundle(version, release.detection, measured)
    assert version.tags["bundle.fp32"] == release.detection.digest
    run = registry.client.get_run(version.run_id)
    assert run.data.metrics["fp32.accuracy"] == 0.98
    files = {file.path for file in registry.client.list_artifacts(version.run_id, "bundles/fp32")}
    assert files == {"bundles/fp32/manifest.json", "bundles/fp32/model.onnx"}
    with pytest.raises(BadInput, match="made from weights"):
        registry.log_bundle(version, release.recognition, None)
    with pytest.raises(BadInput, match="about"):
        registry.log_bundle(version, release.detection, report("bench", "x", digest_bytes(b"another")))


def test_a_release_is_registered_once_and_shows_what_a_promotion_needs(registry: Registry, tmp_path: Path) -> None:
    release, version = register_release(registry, tmp_path, seed=60)
    assert version.tags["gate"] == "PENDING"
    assert version.tags["detection"] == release.detection.digest
    assert "PENDING" in version.description
    models = [registry.find(f"ocr-{task}", getattr(release, task).manifest.weights) for task in TASKS]
    assert version.tags["recognition.version"] == str(models[1].version)

    gate = report("gate", "load", release.digest)
    receipt = digest_bytes(b"receipt")
    version = registry.tag_gate(version, Verdict.PASS, gate, receipt)
    assert (version.tags["gate"], version.tags["receipt"]) == ("PASS", receipt)
    assert version.tags["gate.p95_ms"] == "120"
    assert "may be promoted" in version.description
    assert "| p95_ms | 120 | <= 500 | PASS |" in version.description

    bench = report("bench", "detection-bars fp32", release.detection.digest)
    again = registry.log_release(release, models[0], models[1], [bench])
    assert again.version == version.version
    assert "may be promoted" in again.description
    assert "| detection-bars fp32 | detection | **PASS** |" in again.description
    assert again.tags["detection-bars-fp32.p95_ms"] == "120"

    many = [report("bench", f"variant {number} of many", release.digest) for number in range(30)]
    crowded = registry.log_release(release, models[0], models[1], many)
    assert len(crowded.description) <= LIMIT
    assert "may be promoted" in crowded.description
    assert f"ocr-ops promote --version {version.version}" in crowded.description


def test_a_gate_that_failed_says_so(registry: Registry, tmp_path: Path) -> None:
    release, version = register_release(registry, tmp_path, seed=61)
    gate = report("gate", "load", release.digest, found=900)
    version = registry.tag_gate(version, gate.verdict, gate, None)
    assert version.tags["gate"] == "FAIL"
    assert "do not promote" in version.description
    assert "PENDING" not in version.description


def test_a_release_of_bundles_from_elsewhere_is_refused(registry: Registry, tmp_path: Path) -> None:
    release, _ = register_release(registry, tmp_path / "one", seed=62)
    stranger = registry.register(model_folder(tmp_path / "two", "detection", seed=63))
    recognition = registry.find("ocr-recognition", release.recognition.manifest.weights)
    with pytest.raises(BadInput, match="made from weights"):
        registry.log_release(release, stranger, recognition, [])


def test_a_fetched_release_is_the_one_registered(registry: Registry, tmp_path: Path) -> None:
    release, version = register_release(registry, tmp_path, seed=70)
    fetched = registry.fetch_release(version, tmp_path / "fetched")
    assert fetched.digest == release.digest
    assert fetched.path == tmp_path / "fetched"
    assert registry.fetch_release(version, tmp_path / "fetched").digest == release.digest


def _artifacts(registry: Registry, run_id: str) -> Path:
    return Path(registry.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


def test_files_swapped_behind_a_version_are_found(registry: Registry, tmp_path: Path) -> None:
    """MLflow itself would load either; neither its version nor its alias changes."""
    _, version = register_release(registry, tmp_path / "one", seed=71)
    other, _ = register_release(registry, tmp_path / "two", seed=72)
    stored = _artifacts(registry, version.run_id) / "model/data/release"
    shutil.rmtree(stored)
    shutil.copytree(other.path, stored)
    with pytest.raises(CorruptBundle, match=version.digest):
        registry.fetch_release(version, tmp_path / "fetched")
    (stored / "detection/model.onnx").write_bytes(b"poison")
    with pytest.raises(CorruptBundle, match=r"model\.onnx"):
        registry.fetch_release(version, tmp_path / "fetched")
    shutil.rmtree(stored)
    with pytest.raises(CorruptBundle, match="no files"):
        registry.fetch_release(version, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_registration_that_breaks_off_leaves_no_version(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "model", "detection", seed=80)
    before = registry.versions("ocr-detection")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(registry.client.mlflow, "log_artifact", full)
        with pytest.raises(OSError, match="No space"):
            registry.register(folder)
    assert registry.versions("ocr-detection") == before
    assert registry.register(folder).version == before[0].version + 1


def test_names_nobody_registered_are_unknown(registry: Registry) -> None:
    assert registry.versions("ocr-nothing") == []
    assert registry.alias("ocr-nothing", "champion") is None
    assert registry.alias("ocr-detection", "previous") is None
    with pytest.raises(UnknownModel):
        registry.find("ocr-detection", digest_bytes(b"never"))
    with pytest.raises(UnknownModel):
        registry.version("ocr-detection", 999)


def test_mlflow_alone_loads_the_champion_and_reads(registry: Registry, tmp_path: Path) -> None:
    """In a process of its own, by the code the version carries: no part of the toolkit is imported before."""
    _, version = register_release(registry, tmp_path, seed=90)
    registry.set_alias(version, "champion")
    assert cv2.imwrite(str(tmp_path / "page.png"), cv2.cvtColor(draw(["abc cab"]), cv2.COLOR_RGB2BGR))
    program = """
import sys, pandas, mlflow.pyfunc
model = mlflow.pyfunc.load_model("models:/ocr@champion")
import ocr_ops
assert "artifacts/model/code" in ocr_ops.__file__, ocr_ops.__file__
data = open("page.png", "rb").read()
inputs = ["page.png", data, ["page.png", data], pandas.DataFrame({"path": ["page.png"]}),
          pandas.DataFrame({"image": [data]})]
for given in inputs:
    for reading in model.predict(given):
        print(reading["pages"][0]["lines"][0]["text"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": registry.client.uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["abc cab"] * 6
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "postgresql://u:secret@127.0.0.1:{port}/mlflow"])
def test_a_server_that_is_away_is_one_line_within_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=free_port()))
    started = time.monotonic()
    with pytest.raises(RegistryUnreachable) as caught:
        Registry.open(Workspace(tmp_path))
    assert time.monotonic() - started < 10
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_answers_is_given_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(RegistryUnreachable):
            Registry.open(Workspace(tmp_path))


def test_a_store_that_is_no_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 500)
    with pytest.raises(RegistryUnreachable, match="not a database"):
        Registry.open(Workspace(tmp_path))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a real MLflow server."""
    with mlflow_running(tmp_path) as running:
        yield running.url


def test_the_same_calls_work_against_a_server_until_it_dies(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    registry = Registry.open(Workspace(tmp_path / "home"))
    release, version = register_release(registry, tmp_path, seed=1)
    bundle = ModelBundle.open(release.detection.path)
    registry.log_bundle(registry.find("ocr-detection", bundle.manifest.weights), bundle, None)
    registry.set_alias(version, "champion")
    champion = registry.alias("ocr", "champion")
    assert champion
    assert registry.alias("ocr", "previous") is None
    assert registry.fetch_release(champion, tmp_path / "fetched").digest == release.digest
    assert Release.open(tmp_path / "fetched").digest == release.digest
    assert not (tmp_path / "home").exists()
    (tmp_path / "served").rename(tmp_path / "lost")
    with pytest.raises((CorruptBundle, RegistryUnreachable)):
        registry.fetch_release(champion, tmp_path / "fetched")
