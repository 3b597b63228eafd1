"""A release measured on one machine more: admitted there and written down, or refused and nothing written."""

from pathlib import Path

import cv2
import onnx
import pytest

from ocr_ops.core.attestation import ATTESTED_FILE, Place
from ocr_ops.core.bundle import GRAPH_FILE, ModelBundle
from ocr_ops.core.errors import NotProven, UnknownModel
from ocr_ops.core.policy import Policy, SlicePolicy, VariantPolicy
from ocr_ops.core.record import write_atomic
from ocr_ops.core.release import Release
from ocr_ops.core.spec import TASKS, Task
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import LabelledPage, PageSet, Region, write_index
from ocr_ops.registry import Registry
from ocr_ops.release.attest import attest
from ocr_ops.release.chain import attested, benchmarked, registered
from ocr_ops.runtime.pipeline import Reader
from tests.core.test_attestation import VNNI, attestation
from tests.registered import model_folder, release_of
from tests.tiny import draw

LENIENT = Policy(
    variant=VariantPolicy(
        max_cer_increase=0.5,
        min_speedup=1e-6,
        slice=SlicePolicy(max_cer_increase=1.0, min_speedup=1e-6, min_lines=4, min_pages=2),
    )
)
HERE = Place.here("cpu")


@pytest.fixture
def pages(tiny_release: Release, tmp_path: Path) -> PageSet:
    """Two pages of four lines."""
    image = draw(("abc cab", "cc ab a", "bbb", "abcabcabcabc"))
    regions = tuple(
        Region(polygon=line.polygon, text=line.text) for line in Reader(tiny_release).read_page(image).lines
    )
    for name in ("0.png", "1.png"):
        write_atomic(tmp_path / "pages" / name, cv2.imencode(".png", image)[1].tobytes())
    return write_index(
        tmp_path / "pages", tuple(LabelledPage(image=name, regions=regions) for name in ("0.png", "1.png"))
    )


def smaller(parent: ModelBundle, folder: Path) -> ModelBundle:
    """What passes for its INT8 variant: the same graph under another name."""
    model = onnx.load(parent.graph)
    model.graph.name = "smaller"
    manifest = parent.manifest.model_copy(update={"precision": "int8", "parent": parent.digest})
    return ModelBundle.write(folder, manifest, {GRAPH_FILE: model.SerializeToString()})


def test_a_release_attests_where_its_bundles_passed(tiny_release: Release, pages: PageSet, tmp_path: Path) -> None:
    """A bundle that did not, or was never measured, is not spoken for."""
    workspace = Workspace(tmp_path / "home")
    release = Release.write(tmp_path / "release", tiny_release.detection, tiny_release.recognition)
    reports, _ = benchmarked([release.detection], pages, LENIENT, workspace)
    assert attested(release, reports).attested_at("detection", HERE)
    assert not Release.open(release.path).attested_at("recognition", HERE)
    failed = [report.model_copy(update={"checks": ()}) for report in reports]
    other = Release.write(tmp_path / "other", tiny_release.detection, tiny_release.recognition)
    assert attested(other, failed).attested.attestations == ()


def test_another_machine_measures_and_adds_itself(
    pages: PageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float parent comes from the registry, what machines before said stays; refused, nothing is written."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, second = Workspace(tmp_path / "first"), Workspace(tmp_path / "second")
    registry = Registry.open(first)
    models: dict[Task, Path] = {task: model_folder(tmp_path / task, task) for task in TASKS}
    for folder in models.values():
        (folder / "training.json").unlink()
    versions = [registry.register(models[task]) for task in TASKS]
    floats = release_of(tmp_path / "floats", models)
    variant = smaller(floats.recognition, tmp_path / "smaller")
    made = Release.write(tmp_path / "made", floats.detection, variant)
    version = registered(registry, made, first)
    assert registry.log_attestations(version, made.attest([attestation(place=VNNI)]).attested).attestations

    fetched = registry.fetch_release(version, tmp_path / "fetched")
    assert fetched.attested_at("detection", VNNI)
    with pytest.raises(UnknownModel, match="recognition bundle"):
        attest(fetched, pages, LENIENT, second, registry)
    assert not Release.open(fetched.path).attested_at("detection", HERE)

    registry.log_bundle(versions[1], floats.recognition, None)
    strict = Policy(variant=VariantPolicy(min_speedup=1e-6))
    with pytest.raises(NotProven, match="INCONCLUSIVE"):
        attest(fetched, pages, strict, second, registry)
    assert not Release.open(fetched.path).attested_at("recognition", HERE)

    known = attest(fetched, pages, LENIENT, second, registry)
    assert len(known.attestations) == 3
    for folder in (fetched.path, registry.fetch_release(version, tmp_path / "again").path):
        release = Release.open(folder)
        assert release.digest == made.digest
        assert all(release.attested_at(task, HERE) for task in TASKS)
        assert release.attested_at("detection", VNNI)
    assert (fetched.path / ATTESTED_FILE).is_file()
