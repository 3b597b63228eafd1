"""A bundle opens only when every byte is what its manifest says."""

from pathlib import Path

import pytest

from ocr_ops.core.bundle import Manifest, ModelBundle
from ocr_ops.core.errors import BadRecord, CorruptBundle
from ocr_ops.core.spec import InputSpec, TextSpec

MANIFEST = Manifest(
    model="reader",
    task="recognition",
    precision="fp32",
    licence="Apache-2.0",
    input=InputSpec(height=32, stride=4, max_side=512),
    charset="ab",
    floor=0.5,
    opset=17,
    weights="sha256:" + "0" * 64,
    toolkit="0",
    files={},
)


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return ModelBundle.write(tmp_path / "bundle", MANIFEST, {"model.onnx": b"graph", "note.txt": b"note"})


def test_digest_is_that_of_the_content(bundle: ModelBundle, tmp_path: Path) -> None:
    """A copy elsewhere is the same bundle; other bytes are another one."""
    assert bundle.copy(tmp_path / "copy").digest == bundle.digest
    other = ModelBundle.write(tmp_path / "other", MANIFEST, {"model.onnx": b"graph!", "note.txt": b"note"})
    assert other.digest != bundle.digest


def test_altered_missing_foreign_and_linked_files_are_refused(bundle: ModelBundle) -> None:
    """Each way to tamper is named with its file."""
    graph = bundle.path / "model.onnx"
    graph.write_bytes(b"other")
    with pytest.raises(CorruptBundle, match=r"model\.onnx"):
        ModelBundle.open(bundle.path)
    graph.unlink()
    with pytest.raises(CorruptBundle, match="missing"):
        ModelBundle.open(bundle.path)
    outside = bundle.path.parent / "graph"
    outside.write_bytes(b"graph")
    graph.symlink_to(outside)
    with pytest.raises(CorruptBundle):
        ModelBundle.open(bundle.path)
    graph.unlink()
    graph.write_bytes(b"graph")
    (bundle.path / "extra.bin").write_bytes(b"")
    with pytest.raises(CorruptBundle, match="not in the manifest"):
        ModelBundle.open(bundle.path)


def test_manifest_cannot_name_files_outside(bundle: ModelBundle) -> None:
    """A path in the manifest is refused before anything is opened."""
    path = bundle.path / "manifest.json"
    path.write_text(path.read_text().replace("note.txt", "../note.txt"))
    with pytest.raises(BadRecord, match="files"):
        ModelBundle.open(bundle.path)


def test_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    """An empty folder is a bad record, not a crash."""
    with pytest.raises(BadRecord, match="no such file"):
        ModelBundle.open(tmp_path)


def test_later_fields_leave_earlier_digests_alone() -> None:
    """A manifest that says nothing of them is the very record it was before they came."""
    assert "boxes" not in MANIFEST.canonical
    assert "min_side" not in MANIFEST.canonical
    other = MANIFEST.model_copy(update={"text": TextSpec(blank="last")})
    assert '"text":{"blank":"last","output":"logits"}' in other.canonical
    assert Manifest.parse_json(other.canonical, "it") == other
    assert other.digest != MANIFEST.digest
