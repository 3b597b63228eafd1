"""Release: the pair of bundles that serve together. What is load-tested, promoted and rolled back."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ocr_ops import __version__
from ocr_ops.core.attestation import ATTESTED_FILE, Attestation, Attestations, Place
from ocr_ops.core.bundle import Digest, ModelBundle
from ocr_ops.core.errors import BadInput, CorruptBundle, UnknownModel
from ocr_ops.core.record import Record
from ocr_ops.core.spec import TASKS, Task

RELEASE_FILE = "release.json"


class ReleaseManifest(Record):
    """Its digest is the release's identity."""

    detection: Digest
    recognition: Digest
    toolkit: str


@dataclass(frozen=True, slots=True)
class Release:
    """An opened release folder: `release.json`, `detection/`, `recognition/`, all verified, and who attests to it."""

    path: Path
    manifest: ReleaseManifest
    detection: ModelBundle
    recognition: ModelBundle
    attested: Attestations

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def attested_at(self, task: Task, place: Place) -> bool:
        """Whether its bundle for the task was admitted with this very arithmetic."""
        return any((one.task, one.place) == (task, place) for one in self.attested.attestations)

    def attest(self, more: Iterable[Attestation]) -> "Release":
        """The release with further attestations, which its folder keeps."""
        found = self.attested.joined(more)
        if found != self.attested:
            found.save(self.path / ATTESTED_FILE)
        return Release.open(self.path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Verifies and opens a release folder.

        Raises `UnknownModel` without one, `CorruptBundle` when it is not whole.
        """
        if not (path / RELEASE_FILE).is_file():
            raise UnknownModel(path, f"no {RELEASE_FILE}", "a release folder", "run `ocr-ops release` to make one")
        manifest = ReleaseManifest.from_file(path / RELEASE_FILE)
        bundles = {task: ModelBundle.open(path / task) for task in TASKS}
        for task, bundle in bundles.items():
            expected = getattr(manifest, task)
            if bundle.digest != expected or bundle.manifest.task != task:
                raise CorruptBundle(
                    bundle.path, bundle.digest, f"{expected} ({task})", "make or fetch the release again"
                )
        return cls(
            path, manifest, bundles["detection"], bundles["recognition"], Attestations.beside(path, manifest.digest)
        )

    @classmethod
    def write(cls, path: Path, detection: ModelBundle, recognition: ModelBundle) -> Self:
        """Puts two bundles together in a folder; whatever stood there is replaced."""
        for bundle, task in zip((detection, recognition), TASKS, strict=True):
            if bundle.manifest.task != task:
                raise BadInput(bundle.path, f"a {bundle.manifest.task} bundle", f"a {task} bundle", "swap the two")
        shutil.rmtree(path, ignore_errors=True)
        detection.copy(path / "detection")
        recognition.copy(path / "recognition")
        ReleaseManifest(detection=detection.digest, recognition=recognition.digest, toolkit=__version__).save(
            path / RELEASE_FILE
        )
        return cls.open(path)
