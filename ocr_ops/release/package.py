"""Package: a release as a Bento, built from an allow-list of the clone and the release, and nothing else."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import ocr_ops
from ocr_ops.core.attestation import ATTESTED_FILE, Attestations
from ocr_ops.core.errors import BadInput, OutsideSystem
from ocr_ops.core.record import canonical_json, digest_bytes, digest_file, short
from ocr_ops.core.release import RELEASE_FILE, Release
from ocr_ops.core.serving import ServingSettings, settings_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.release.sbom import SBOM_FILE, write_sbom

BENTOFILE = "bentofile.yaml"
_TREE = Path(ocr_ops.__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Package:
    """A Bento on disk that carries the release of this digest."""

    tag: str
    path: Path
    digest: str


def package(release: Release, workspace: Workspace) -> Package:
    """Builds `ocr:<short digest>` in the workspace's own BentoML home; one that is there already is kept.

    It carries the release's attestations, its SBOM, and the settings that the workspace keeps for it, if any. Its
    labels name the release, both bundles, attestations, settings, SBOM and sources, each by digest. Raises `BadInput`
    outside a clone, `OutsideSystem` when BentoML fails.
    """
    if not (_TREE / BENTOFILE).is_file():
        raise BadInput(_TREE, f"no {BENTOFILE}", "a clone of the toolkit", "run it from a clone: `pip install -e .`")
    home = workspace.home / "bentoml"
    name = _bentofile()["name"]
    made = Package(f"{name}:{short(release.digest)}", home / "bentos" / name / short(release.digest), release.digest)
    settings = ServingSettings.read(workspace, release.digest)
    attested = Attestations.beside(release.path, release.digest)  # one may have come since it was opened
    bill = write_sbom(release)
    settings.tuned(release)  # settings that do not fit it are refused here, not by a service that will not start
    labels = {
        "release": release.digest,
        "detection": release.detection.digest,
        "recognition": release.recognition.digest,
        "attested": attested.digest,
        "serving": settings.digest,
        "sbom": digest_file(bill),
        "sources": _digest(_TREE),
        "bentofile": digest_file(_TREE / BENTOFILE),
    }
    if _stands(made, labels):
        return made
    shutil.rmtree(made.path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="ocr-ops-package-") as folder:
        stage = Path(folder)
        for file in (BENTOFILE, *_files(_TREE)):
            (stage / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_TREE / file, stage / file)
        carried = Workspace(stage / ".ocr-ops")
        release.detection.copy(carried.champion / "detection")
        release.recognition.copy(carried.champion / "recognition")
        shutil.copyfile(release.path / RELEASE_FILE, carried.champion / RELEASE_FILE)
        shutil.copyfile(bill, carried.champion / SBOM_FILE)
        if attested.attestations:
            attested.save(carried.champion / ATTESTED_FILE)
        if settings != ServingSettings():
            settings.save(settings_file(carried, release.digest))
        _build(stage, home, short(release.digest), labels)
    if not _stands(made, labels):
        raise OutsideSystem(made.path, "not the Bento that was asked for", f"release {release.digest}", "build again")
    return made


def _stands(made: Package, labels: dict[str, str]) -> bool:
    """Whether the Bento is there, says it holds all this, and does."""
    manifest = made.path / "bento.yaml"
    if not manifest.is_file():
        return False
    found = yaml.safe_load(manifest.read_text(encoding="utf-8"))["labels"]
    if any(found.get(key) != value for key, value in labels.items()):
        return False
    source = made.path / "src"
    home = Workspace(source / ".ocr-ops")
    try:
        carried = Release.open(home.champion)
        settings = ServingSettings.read(home, carried.digest)
        bill = digest_file(home.champion / SBOM_FILE)
    except (BadInput, OSError):
        return False
    found = {
        "release": carried.digest,
        "attested": carried.attested.digest,
        "serving": settings.digest,
        "sbom": bill,
        "sources": _digest(source),
    }
    return all(labels[name] == digest for name, digest in found.items())


def _build(stage: Path, home: Path, version: str, labels: dict[str, str]) -> None:
    command = [sys.executable, "-m", "bentoml", "build", str(stage), "--version", version]
    for key, value in labels.items():
        command += ["--label", f"{key}={value}"]
    # The workspace's own BentoML home: nothing outside the workspace is touched.
    env = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "true"}
    done = subprocess.run(command, env=env, cwd=stage, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it printed nothing"]
        raise OutsideSystem("bentoml build", last[0], "a Bento", "run `bentoml build` in the clone for the whole log")


def _bentofile() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((_TREE / BENTOFILE).read_text(encoding="utf-8"))
    return found


def _files(tree: Path) -> list[str]:
    """What the allow-list takes of a tree, less what a workspace holds."""
    patterns = [pattern.lstrip("/") for pattern in _bentofile()["include"] if not pattern.startswith("/.ocr-ops")]
    return sorted(
        {str(file.relative_to(tree)) for pattern in patterns for file in tree.glob(pattern) if file.is_file()}
    )


def _digest(tree: Path) -> str:
    return digest_bytes(canonical_json({file: digest_file(tree / file) for file in _files(tree)}).encode())
