"""SBOM: what the box that serves is made of, as CycloneDX: packages, by the lock it is installed from, and models."""

import json
import re
import uuid
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

import ocr_ops
from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import BadInput
from ocr_ops.core.record import canonical_json, short, write_atomic
from ocr_ops.core.release import Release

SBOM_FILE = "sbom.cdx.json"
LOCK = Path(ocr_ops.__file__).resolve().parent.parent / "bentos" / "requirements.lock"
LICENCE = "Apache-2.0"
"""Of the toolkit itself."""


def write_sbom(release: Release) -> Path:
    """Writes the SBOM of a release beside it; `BadInput` outside a clone, which has the lock."""
    path = release.path / SBOM_FILE
    write_atomic(path, sbom(release).encode())
    return path


def sbom(release: Release) -> str:
    """CycloneDX 1.6 as JSON. The same release and lock make the same bytes: no date, and a digest for a name."""
    if not LOCK.is_file():
        raise BadInput(LOCK, "no such file", "the lock of what serves", "run it from a clone: `pip install -e .`")
    root = Component(
        name="ocr",
        version=short(release.digest),
        type=ComponentType.APPLICATION,
        bom_ref="ocr",
        licenses=_licences(LICENCE),
        properties=_properties(release=release.digest, toolkit=ocr_ops.__version__),
    )
    parts = [
        *_packages(LOCK.read_text(encoding="utf-8")),
        *map(_model, (release.detection, release.recognition)),
    ]
    bom = Bom(components=parts)
    bom.metadata.component = root
    bom.register_dependency(root, parts)
    made = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    del made["metadata"]["timestamp"], made["serialNumber"]
    named = {**made, "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, canonical_json(made)).urn}
    return json.dumps(named, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@cache
def _packages(lock: str) -> tuple[Component, ...]:
    """Once a process: asking all of them for their licences takes longer than the rest."""
    return tuple(map(_package, _locked(lock)))


def _locked(lock: str) -> Iterator[tuple[str, str]]:
    """Name and version of every package; BentoML, which adds itself to what its Bentos install, is the one here."""
    yield "bentoml", version("bentoml")
    yield from re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", lock, re.MULTILINE)


def _package(locked: tuple[str, str]) -> Component:
    name, number = locked
    url = PackageURL("pypi", name=name, version=number)
    licences = _licences(_licence_of(name))
    return Component(
        name=name, version=number, type=ComponentType.LIBRARY, bom_ref=str(url), purl=url, licenses=licences
    )


def _model(bundle: ModelBundle) -> Component:
    manifest = bundle.manifest
    graph = manifest.files[GRAPH_FILE].removeprefix("sha256:")
    return Component(
        name=f"{manifest.model}-{manifest.precision}",
        version=short(bundle.digest),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{bundle.digest}",
        description=f"Text {manifest.task}, {manifest.precision}, ONNX",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=graph)],
        licenses=_licences(manifest.licence),
        properties=_properties(bundle=bundle.digest, weights=manifest.weights, parent=manifest.parent),
    )


def _licences(text: str | None) -> list[License]:
    return [LicenseFactory().make_from_string(text)] if text else []


def _licence_of(name: str) -> str | None:
    """What an installed package says its licence is; None where it is not installed or does not say."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return None
    given = [line for name in ("License-Expression", "License") for line in told.get_all(name) or ()]
    given += [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or () if line.startswith("License ::")]
    return next((text for text in given if text and "\n" not in text and len(text) < 80 and text != "UNKNOWN"), None)


def _properties(**values: str | None) -> list[Property]:
    return [Property(name=f"ocr-ops:{name}", value=value) for name, value in values.items() if value]
