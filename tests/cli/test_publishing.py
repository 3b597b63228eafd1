"""A run is written whole, with what is known beside it, and logged as it was written."""

from pathlib import Path

import numpy as np
import pytest

from ocr_ops.bench.items import Items
from ocr_ops.bench.run import Run
from ocr_ops.cli.publishing import PAGE_FILE, RUN_FILE, TEXT_FILE, log, publish
from ocr_ops.core.record import digest_bytes, short
from ocr_ops.core.release import Release
from ocr_ops.core.workspace import Workspace
from ocr_ops.optimize.sensitivity import LayerLoss, Sensitivity
from ocr_ops.registry import Registry
from tests.registered import ENVIRONMENT
from tests.runs import TEXTS, line_cell, misread, run_of


def items_of(run: Run) -> Items:
    """As the run read them, but the other way round: a run keeps what decodes, in its own order."""
    return Items(
        unit="line",
        dataset=run.dataset,
        fold=run.fold,
        names=run.items[::-1],
        expected=run.expected[::-1],
        regions=((),) * len(run.items),
        load=lambda number: np.full((32, 8 * (number + 1), 3), 200, np.uint8),
        slices=lambda *_: (),
    )


def test_a_run_is_published_with_champion_and_layers_and_logged(
    tiny_release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path / "home")
    workspace.champion.parent.mkdir()
    workspace.champion.symlink_to(tiny_release.path)
    digest = tiny_release.recognition.digest
    run = run_of(line_cell("bars fp32", misread(TEXTS, {"0": "O"}), 2, subject=digest))
    kept = Sensitivity(
        subject=digest,
        dataset=digest_bytes(b"lines"),
        calibration="minmax",
        pictures=12,
        layers=(LayerLoss(name="/stem/Conv", operator="Conv", loss=0.25, changed=0.1),),
        edges=0.1,
        budget=0.5,
        steps=(0.25,),
        environment=ENVIRONMENT,
    )
    kept.save(workspace.reports / f"sensitivity-{short(digest)}-x-minmax.json")
    publish(run, items_of(run), tmp_path / "out", workspace)
    assert Run.from_file(tmp_path / "out" / RUN_FILE) == run
    page = (tmp_path / "out" / PAGE_FILE).read_text()
    assert "/stem/Conv" in page
    assert '<span class="mini">champion</span>' in page
    assert page.count("<img") > 1
    assert "/stem/Conv (0.25)" in (tmp_path / "out" / TEXT_FILE).read_text()

    logged = log(run, tmp_path / "out", workspace)
    assert logged is not None
    found = Registry.open(workspace).client.get_run(logged).data
    assert (found.params["verdict"], found.params["digest"]) == (str(run.results[0].checks[0].verdict), run.digest)
    assert found.metrics["bars-fp32.cer"] == pytest.approx(run.results[0].metrics["cer"])
