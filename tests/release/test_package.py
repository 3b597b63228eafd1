import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image

from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import digest_file, short
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.release import package as packaging
from ocr_ops.release.package import Package, package
from ocr_ops.release.sbom import SBOM_FILE, sbom
from ocr_ops.release.server import readiness, serve
from tests.core.test_attestation import attestation
from tests.tiny import build_release, draw

ROOT = Path(__file__).resolve().parents[2]
POISON = ("torch", "mlflow", "optuna", "onnx", "locust", "matplotlib")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("package") / "home")


@pytest.fixture(scope="module")
def release(workspace: Workspace) -> Release:
    return build_release(workspace.releases / "tiny")


@pytest.fixture(scope="module")
def packed(release: Release, workspace: Workspace) -> Package:
    return package(release, workspace)


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_package_is_named_after_its_release(packed: Package, release: Release, workspace: Workspace) -> None:
    assert packed.tag == f"ocr:{short(release.digest)}"
    assert packed.digest == release.digest
    assert packed.path.is_relative_to(workspace.home)


def test_a_package_carries_the_release_and_what_serves_it(packed: Package, release: Release) -> None:
    """An allow-list: no training, no registry, no tests, nothing of the workspace but the release."""
    source = packed.path / "src"
    files = _files(source)
    rooms = ("ocr_ops/core/", "ocr_ops/runtime/", "bentos/", ".ocr-ops/champion/")
    assert {file for file in files if not file.startswith(rooms)} == {"bentofile.yaml", "ocr_ops/__init__.py"}
    rest = {file for file in files if Path(file).suffix not in {".py", ".lock", ".json", ".onnx", ".yaml"}}
    assert {file for file in rest if not file.startswith("bentos/web/")} == {"ocr_ops/core/languages.tsv"}
    assert "bentos/web/index.html" in rest
    assert Release.open(source / ".ocr-ops" / "champion").digest == release.digest


def test_labels_tell_what_is_inside(packed: Package, release: Release) -> None:
    labels = yaml.safe_load((packed.path / "bento.yaml").read_text(encoding="utf-8"))["labels"]
    assert labels["release"] == release.digest
    assert labels["detection"] == release.detection.digest
    assert labels["recognition"] == release.recognition.digest


def test_a_package_tells_what_it_is_made_of(packed: Package, release: Release) -> None:
    """An SBOM, named by digest in its labels."""
    bill = packed.path / "src" / ".ocr-ops" / "champion" / SBOM_FILE
    assert bill.read_text(encoding="utf-8") == sbom(release)
    labels = yaml.safe_load((packed.path / "bento.yaml").read_text(encoding="utf-8"))["labels"]
    assert labels["sbom"] == digest_file(bill)


def test_the_image_gets_the_serving_set_pinned(packed: Package) -> None:
    lines = (packed.path / "env" / "python" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.split(";")[0].strip() for line in lines if line and line[0] not in "#-"]
    assert all("==" in line for line in wanted)
    names = {line.partition("==")[0] for line in wanted}
    assert {"bentoml", "onnxruntime", "numpy", "opencv-python-headless", "pillow", "pypdfium2"} <= names
    assert not names & set(POISON)


def test_a_package_is_not_built_twice(packed: Package, release: Release, workspace: Workspace) -> None:
    before = (packed.path / "bento.yaml").stat().st_mtime_ns
    assert package(release, workspace) == packed
    assert (packed.path / "bento.yaml").stat().st_mtime_ns == before


def test_bentoml_build_in_a_clone_carries_the_same_files(packed: Package, release: Release, tmp_path: Path) -> None:
    """The allow-list of bentofile.yaml itself: a clone has much more than serving needs."""
    clone = tmp_path / "clone"
    noise = shutil.ignore_patterns("__pycache__")
    for room in ("ocr_ops", "bentos", "tests", "loadtests"):
        shutil.copytree(ROOT / room, clone / room, ignore=noise)
    shutil.copyfile(ROOT / "bentofile.yaml", clone / "bentofile.yaml")
    home = Workspace(clone / ".ocr-ops")
    shutil.copytree(release.path, home.champion)
    for stray in (clone / "core.py", clone / "secret.key", home.home / "ledger.jsonl", home.champion.parent / "k.pem"):
        stray.write_text("not for the box that serves", encoding="utf-8")
    env = {**os.environ, "BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
    command = [sys.executable, "-m", "bentoml", "build", "--version", "test"]
    subprocess.run(command, cwd=clone, env=env, check=True, capture_output=True)
    assert _files(tmp_path / "bentoml" / "bentos" / "ocr" / "test" / "src") == _files(packed.path / "src")


def test_an_altered_package_is_built_again(packed: Package, release: Release, workspace: Workspace) -> None:
    altered = packed.path / "src" / "bentos" / "gateway.py"
    whole = altered.read_bytes()
    altered.write_bytes(whole + b"\n# and a little more\n")
    assert package(release, workspace) == packed
    assert altered.read_bytes() == whole


def test_a_package_carries_what_its_release_may_say_of_itself(workspace: Workspace, packed: Package) -> None:
    """One attestation more is the same release in another Bento."""
    vouched = build_release(workspace.releases / "vouched").attest([attestation("recognition")])
    again = package(vouched, workspace)
    assert again == packed
    carried = Release.open(again.path / "src" / ".ocr-ops" / "champion")
    assert carried.attested == vouched.attested


def test_a_package_serves_its_own_release_without_any_workbench(
    packed: Package, release: Release, tmp_path: Path
) -> None:
    """Whatever OCR_OPS_HOME says; and nothing a served document needs imports what trains, registers or loads."""
    marker = tmp_path / "imported"
    for name in POISON:
        body = f"open({str(marker)!r}, 'a').write({name + ' '!r})\nraise ImportError({name!r})\n"
        (tmp_path / f"{name}.py").write_text(body, encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(packed.path, elsewhere)
    env = {"PYTHONPATH": str(tmp_path), "OCR_OPS_HOME": str(tmp_path / "nothing")}
    page = io.BytesIO()
    Image.fromarray(draw(["abc"])).save(page, "PNG")
    with serve(elsewhere, env=env, log=tmp_path / "log") as server:
        assert readiness(server.url)["release"] == release.digest
        answer = httpx.post(f"{server.url}/v1/ocr", files={"file": ("a.png", page.getvalue())}, timeout=60)
    assert answer.json()["pages"][0]["lines"][0]["text"] == "abc"
    assert not marker.exists(), marker.read_text(encoding="utf-8")


def test_outside_a_clone_is_said_in_one_line(
    release: Release, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaging, "_TREE", tmp_path)
    with pytest.raises(BadInput, match=r"no bentofile\.yaml"):
        package(release, workspace)
