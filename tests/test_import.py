"""`ocr-ops import`, and what comes after it: an imported pair goes the way of any other."""

import json
import shutil
from pathlib import Path

import pytest

from ocr_ops.cli import main
from ocr_ops.core.bundle import ModelBundle
from ocr_ops.core.policy import Policy
from ocr_ops.core.record import digest_file
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import PageSet
from ocr_ops.registry import Registry
from ocr_ops.release.chain import benchmarked, benchmarked_whole, exported, paired, quantized, registered
from tests.optimize.graphs import detector, labelled, recogniser, save
from tests.optimize.hostile import HOSTILE

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("OCR_OPS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Workspace.current()


@pytest.fixture
def samples(tmp_path: Path) -> PageSet:
    return labelled(tmp_path / "samples", pages=3)


def take_in(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    main(["import", *arguments, "--samples", "samples", "--json"])
    row: dict[str, object] = json.loads(capsys.readouterr().out)
    return row


def test_an_imported_pair_goes_the_whole_way(
    workspace: Workspace, samples: PageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Registered, exported, quantized, benchmarked, paired and registered as a release, with no word of its origin."""
    save(detector(*IMAGENET), tmp_path / "det.onnx")
    save(recogniser(), tmp_path / "rec.onnx")
    (tmp_path / "dict.txt").write_text("a\nb\nc\n", encoding="utf-8")
    rows = [
        take_in(capsys, "det.onnx", "--task", "detection", "--preset", "paddleocr"),
        take_in(
            capsys, "rec.onnx", "--task", "recognition", "--charset", "dict.txt", "--mean", "0.5", "--std", "0.5,.5,.5"
        ),
    ]
    assert [row["model"] for row in rows] == ["models/det", "models/rec"]
    assert all(row["sample_accuracy"] == 1 for row in rows)

    registry, chosen = Registry.open(workspace), []
    for row in rows:
        folder = tmp_path / str(row["model"])
        version = registry.register(folder)
        assert version.digest == digest_file(folder / "model.onnx")
        assert registry.register(folder).version == version.version
        parent, reused = exported(folder, workspace)
        assert (parent.digest, reused) == (row["digest"], True)
        variants = [parent]
        if parent.manifest.task == "recognition":  # a detector of pools has nothing to quantize
            variants.append(quantized(parent, samples, workspace)[0])
        reports, _ = benchmarked(variants, samples, Policy(), workspace)
        assert {report.metrics["accuracy"] for report in reports} == {1}
        registry.log_bundle(version, variants[-1], reports[-1])
        chosen.append(variants[-1])
    made = paired(chosen[0], chosen[1], workspace)
    report, _ = benchmarked_whole(made, samples, Policy(), workspace)
    assert report.metrics["word_f1"] == 1
    assert registered(registry, made, workspace).digest == made.digest


def test_an_archive_is_taken_for_the_model_in_it(
    workspace: Workspace, samples: PageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is called like the archive, and nothing of what was unpacked stays."""
    save(recogniser(), tmp_path / "export" / "inference.onnx")
    (tmp_path / "dict.txt").write_text("abc ", encoding="utf-8")
    shutil.make_archive("Bars_rec", "gztar", "export")
    row = take_in(capsys, "Bars_rec.tar.gz", "--task", "recognition", "--charset", "dict.txt", "--mean", "0.5")
    assert row["model"] == "models/bars-rec"
    assert "`inference.onnx` in `Bars_rec.tar.gz`" in (tmp_path / "models/bars-rec/card.md").read_text(encoding="utf-8")
    assert digest_file(tmp_path / "models/bars-rec/model.onnx") == digest_file(tmp_path / "export/inference.onnx")


def test_export_checks_an_imported_folder_again(
    workspace: Workspace, samples: PageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A spec somebody changed is held against the samples before it becomes a bundle."""
    save(recogniser(), tmp_path / "rec.onnx")
    (tmp_path / "dict.txt").write_text("abc ", encoding="utf-8")
    row = take_in(capsys, "rec.onnx", "--task", "recognition", "--charset", "dict.txt", "--mean", "0.5")
    folder = tmp_path / str(row["model"])
    (folder / "charset.txt").write_text("bca ", encoding="utf-8")
    with pytest.raises(Exception, match=r"model\.onnx: reads .* of the sample lines' characters"):
        exported(folder, workspace, samples)
    assert ModelBundle.open(workspace.bundles / "rec-fp32").digest == row["digest"], "the sound one stands"


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (["none.onnx", "--task", "detection"], 4, "none.onnx: no such file"),
        (["text.onnx", "--task", "detection"], 4, "text.onnx: not an ONNX file"),
        (["text.zip", "--task", "detection"], 4, "text.zip: no zip archive"),
        (["frobnicate.tar", "--task", "detection"], 4, "frobnicate.tar/m.onnx: operator 'Frobnicate' of ai.onnx 17"),
        (["text.onnx", "--mean", "half"], 2, "not numbers between commas"),
        (["rapidocr", "--height", "48"], 2, "rapidocr: --height beside it"),
    ],
)
def test_a_refusal_is_one_line(
    arguments: list[str], code: int, cause: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the file and the cause, and leaves nothing behind."""
    Path("text.onnx").write_text("not a model", encoding="utf-8")
    Path("text.zip").write_text("no archive", encoding="utf-8")
    save(HOSTILE["an operator nobody knows"][0], Path("hostile/m.onnx"))
    shutil.make_archive("frobnicate", "tar", "hostile")
    with pytest.raises(SystemExit) as ended:
        main(["import", *arguments])
    assert ended.value.code == code
    assert cause in capsys.readouterr().err
    assert not Path("models").exists()
    assert not workspace.bundles.exists()
