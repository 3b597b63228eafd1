"""The SBOM: valid by CycloneDX's own validator, whole, and the same for the same release."""

import json
import re
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ocr_ops.core.errors import BadInput
from ocr_ops.core.release import Release
from ocr_ops.release import sbom as making
from ocr_ops.release.sbom import LOCK, sbom


@pytest.fixture(scope="module")
def text(tiny_release: Release) -> str:
    return sbom(tiny_release)


@pytest.fixture(scope="module")
def parts(text: str) -> dict[str, dict[str, Any]]:
    return {component["name"]: component for component in json.loads(text)["components"]}


def test_it_is_valid(text: str) -> None:
    """By the strict schema: no key it does not know."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_every_package_of_the_lock_is_in_it(parts: dict[str, dict[str, Any]]) -> None:
    """At its version, with a package URL; and nothing of the workbench."""
    locked = dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", LOCK.read_text(), re.MULTILINE))
    assert len(locked) > 50
    for name, version in locked.items():
        assert parts[name]["version"] == version
        assert parts[name]["purl"] == f"pkg:pypi/{name}@{version}"
    assert parts["bentoml"]["purl"].startswith("pkg:pypi/bentoml@1.4")
    assert not {"torch", "mlflow", "locust", "onnx"} & set(parts)
    told = [name for name in locked if parts[name].get("licenses")]
    assert len(told) >= 0.9 * len(locked), set(locked) - set(told)


def test_both_models_are_in_it_by_digest_and_licence(parts: dict[str, dict[str, Any]], tiny_release: Release) -> None:
    for bundle in (tiny_release.detection, tiny_release.recognition):
        model = parts[f"{bundle.manifest.model}-{bundle.manifest.precision}"]
        assert model["type"] == "machine-learning-model"
        assert model["hashes"] == [
            {"alg": "SHA-256", "content": bundle.manifest.files["model.onnx"].removeprefix("sha256:")}
        ]
        assert {"name": "ocr-ops:bundle", "value": bundle.digest} in model["properties"]
        assert model["licenses"]


def test_the_same_release_makes_the_same_bytes(text: str, tiny_release: Release) -> None:
    """And says which release it is about."""
    assert sbom(tiny_release) == text
    told = json.loads(text)["metadata"]["component"]
    assert {"name": "ocr-ops:release", "value": tiny_release.digest} in told["properties"]


def test_outside_a_clone_it_says_what_is_missing(tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "LOCK", LOCK.with_name("no.lock"))
    with pytest.raises(BadInput, match="clone"):
        sbom(tiny_release)
