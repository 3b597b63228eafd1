"""Attestation: with which arithmetic a release was found good. INT8 kernels differ by CPU and by provider."""

import platform
from collections.abc import Iterable
from pathlib import Path

from ocr_ops.core.bundle import Digest
from ocr_ops.core.errors import CorruptBundle
from ocr_ops.core.record import Record, Value
from ocr_ops.core.report import Environment
from ocr_ops.core.spec import Task

ATTESTED_FILE = "attested.json"


class Place(Value):
    """What arithmetic a verdict on accuracy and speed was reached with: INT8 kernels differ by both."""

    architecture: str
    """As the kernel names it: `x86_64`."""
    isa: tuple[str, ...]
    provider: str
    """By its name in `OCR_OPS_PROVIDER`: `cpu`."""

    @classmethod
    def here(cls, provider: str) -> "Place":
        """On this machine, with a provider."""
        return cls(architecture=platform.machine(), isa=Environment.here().isa, provider=provider)

    def __str__(self) -> str:
        return f"{' '.join((self.architecture, *self.isa))} with {self.provider}"


class Attestation(Value):
    """A release's detector, or its recogniser, was admitted at a place."""

    task: Task
    place: Place
    cpu: str
    policy: Digest
    report: Digest
    """The measurement it rests on."""
    created: str
    """When that was made."""


class Attestations(Record):
    """Where a release was found good. Beside its manifest, not in it: a place more does not make it another release."""

    release: Digest
    attestations: tuple[Attestation, ...] = ()

    def joined(self, more: Iterable[Attestation]) -> "Attestations":
        """With these too; of two about one task and place the later one."""
        newest = {
            (one.task, str(one.place)): one for one in sorted((*self.attestations, *more), key=lambda one: one.created)
        }
        return self.model_copy(update={"attestations": tuple(newest.values())})

    @classmethod
    def beside(cls, folder: Path, release: str) -> "Attestations":
        """Those in a release's folder. `BadRecord` of a damaged file, `CorruptBundle` of another release's."""
        file = folder / ATTESTED_FILE
        if not file.is_file():
            return cls(release=release)
        found = cls.from_file(file)
        if found.release != release:
            raise CorruptBundle(file, f"about {found.release}", release, "remove it, and run `ocr-ops attest`")
        return found
