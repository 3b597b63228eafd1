"""ServingSettings: how a release is run by its services. What it is, its digest says; this is how it is served."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator

from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.errors import UsageError
from ocr_ops.core.record import Record, short
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace

Workers = Annotated[int, Field(ge=1, le=64)]


CORES = {"gateway": 4, "detection": 8, "recognition": 8}
"""For which a worker of each has enough to do: of what a page costs, a gateway has a sixth, most of it one thread's."""


class ServingSettings(Record):
    """The defaults serve as a release without any settings is served."""

    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Of each model in each worker: a page is spread over them, lines are read on each; None: an even part of the
    CPU share."""
    detection_workers: Workers | None = None
    recognition_workers: Workers | None = None
    gateway_workers: Workers | None = None
    """Processes of each; None: as many as `workers_on` says."""
    max_batch_size: Annotated[int, Field(ge=1, le=1024)] = 32
    """Crops of one call of the recogniser's network."""
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """How long crops wait for others of their width to share a call with, while the network is idle."""
    max_side: Annotated[int, Field(ge=32)] | None = None
    """Cap on a page's longer side for the detector, pixels; None: its manifest's."""
    buckets: tuple[Annotated[int, Field(ge=8)], ...] = ()
    """Widths crops are padded to, as `Manifest.buckets`; none: the recogniser's manifest's."""

    @field_validator("buckets")
    @classmethod
    def _rising(cls, buckets: tuple[int, ...]) -> tuple[int, ...]:
        if list(buckets) != sorted(set(buckets)):
            msg = "buckets must rise"
            raise ValueError(msg)
        return buckets

    @classmethod
    def read(cls, workspace: Workspace, release: str) -> Self:
        """The settings a workspace, or a Bento, keeps for the release of this digest; the defaults without any.

        `BadRecord` when the file is none.
        """
        path = settings_file(workspace, release)
        return cls.from_file(path) if path.exists() else cls()

    def workers_on(self, cores: int) -> dict[str, int]:
        """Workers of each service on so many cores: as these settings say, or a power of two for each `CORES`."""
        asked = {
            "gateway": self.gateway_workers,
            "detection": self.detection_workers,
            "recognition": self.recognition_workers,
        }
        return {name: asked[name] or 2 ** (max(1, cores // each).bit_length() - 1) for name, each in CORES.items()}

    def tuned(self, release: Release) -> Release:
        """The release with its inputs as these settings have them. Its digest stands for what it was before.

        `UsageError` for a detector size or widths its models cannot be run with.
        """
        return replace(release, detection=self._detection(release), recognition=self._recognition(release))

    def _detection(self, release: Release) -> ModelBundle:
        bundle, spec = release.detection, release.detection.manifest.input
        if self.max_side is None or self.max_side == spec.max_side:
            return bundle
        if spec.height and spec.width:
            found, expected = f"{self.max_side}, for a model of fixed size", "none"
            raise UsageError("max_side", found, expected, "leave it out of the settings")
        if self.max_side % spec.stride:
            raise UsageError("max_side", str(self.max_side), f"a multiple of {spec.stride}", "correct the settings")
        return _with(bundle, input=spec.model_copy(update={"max_side": self.max_side}))

    def _recognition(self, release: Release) -> ModelBundle:
        bundle, manifest = release.recognition, release.recognition.manifest
        if not self.buckets or self.buckets == manifest.buckets:
            return bundle
        spec = manifest.input
        if spec.width:
            raise UsageError("buckets", "widths, for a model of fixed width", "none", "leave them out of the settings")
        wrong = [width for width in self.buckets if manifest.buckets and width not in manifest.buckets]
        if wrong:
            expected = f"some of those proven invariant: {manifest.buckets}"
            raise UsageError("buckets", f"{wrong[0]}", expected, "correct the settings")
        if any(width % spec.stride for width in self.buckets):
            raise UsageError("buckets", f"{self.buckets}", f"multiples of {spec.stride}", "correct the settings")
        return _with(bundle, buckets=self.buckets)


def settings_file(workspace: Workspace, release: str) -> Path:
    """Where settings for the release of this digest are kept: the same relative place in a clone and in a Bento."""
    return workspace.home / "serving" / f"{short(release)}.json"


def _with(bundle: ModelBundle, **changes: object) -> ModelBundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update=changes))
