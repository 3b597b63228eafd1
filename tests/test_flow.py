"""The whole loop, walked once: the shipped training outputs become a promoted service, are replaced, and come back."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocr_ops.core.record import short
from ocr_ops.core.scores import match_words
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.documents import rendered_pages
from ocr_ops.data.pages import PageSet
from ocr_ops.release.server import serve

ROOT = Path(__file__).parent.parent
MODELS = ("models/detection-tiny", "models/recognition-tiny")
POLICY = """
min_word_f1 = 0.3
[variant]
max_cer_increase = 0.05
max_hmean_drop = 0.05
min_speedup = 0.01
[variant.slice]
max_cer_increase = 0.1
max_hmean_drop = 0.1
min_speedup = 0.01
min_boxes = 100
min_pages = 2
[load]
users = 2
seconds = 3
min_requests = 2
max_p95_ms = 120000
min_requests_per_second = 0.01
"""
"""What is proven here is the loop, not the machine it runs on."""


@dataclass(frozen=True)
class Shop:
    """A workspace beside the clone, and the command line in it."""

    folder: Path
    pages: PageSet

    def __call__(self, *arguments: object, expect: int = 0) -> list[dict[str, Any]]:
        """Runs `ocr-ops`; the JSON objects it prints."""
        done = self.process([sys.executable, "-c", "from ocr_ops.cli import main; main()", *map(str, arguments)])
        assert done.returncode == expect, done.stderr
        assert "Traceback" not in done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def error(self, *arguments: object, expect: int) -> str:
        """Runs `ocr-ops`; the last line on stderr."""
        done = self.process([sys.executable, "-c", "from ocr_ops.cli import main; main()", *map(str, arguments)])
        assert done.returncode == expect, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip().splitlines()[-1]

    def process(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        environment["OCR_OPS_HOME"] = str(self.home)
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def release(self) -> dict[str, list[dict[str, Any]]]:
        """Runs the chain; its rows by stage."""
        rows = self("release", *MODELS, "--data", self.pages.folder, "--policy", "policy.toml", "--json")
        stages: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            stages.setdefault(row["stage"], []).append(row)
        return stages

    @property
    def home(self) -> Path:
        return self.folder / ".ocr-ops"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """After one release."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "monitoring").mkdir()
    (folder / "monitoring" / "slo.toml").write_text((ROOT / "monitoring" / "slo.toml").read_text())
    for model in MODELS:
        shutil.copytree(ROOT / model, folder / model)
    (folder / "policy.toml").write_text(POLICY)
    made = Shop(folder, rendered_pages(Workspace(folder / "labelled"), 4, seed=21))
    stages = made.release()
    (folder / "stages.json").write_text(json.dumps(stages))
    return made


@pytest.fixture(scope="module")
def champion(shop: Shop) -> str:
    """Digest of the first release."""
    return str(json.loads((shop.folder / "stages.json").read_text())["promote"][0]["digest"])


def read(shop: Shop, image: Path) -> dict[str, Any]:
    (reading,) = shop("read", image, "--format", "json")
    return reading


def text_of(reading: dict[str, Any]) -> str:
    return "\n".join(line["text"] for page in reading["pages"] for line in page["lines"])


def test_every_stage_ran_and_passed(shop: Shop) -> None:
    """In the chain's order, each with its artefact and digest."""
    stages = json.loads((shop.folder / "stages.json").read_text())
    assert set(stages) == {
        *("register", "export", "quantize", "bench", "choose", "package", "gate", "receipt", "promote", "rules")
    }
    rows = [row for group in stages.values() for row in group]
    assert all(row["artefact"] and row["digest"].startswith("sha256:") for row in rows)
    assert {row["verdict"] for row in rows} <= {"done", "PASS", "PASSED", "FAIL", "INCONCLUSIVE"}
    assert {row["verdict"] for name in ("export", "choose", "gate", "receipt") for row in stages[name]} <= {
        "PASS",
        "PASSED",
    }
    assert (shop.folder / "monitoring" / "rules" / "ocr.rules.yml").is_file()


def test_running_it_again_keeps_what_is_there(shop: Shop, champion: str) -> None:
    """Same digests, nothing done twice, nothing moved."""
    stages = shop.release()
    for name in ("export", "quantize", "bench", "gate", "promote"):
        assert {row["took"] for row in stages[name]} == {"kept"}, name
    assert stages["promote"][0]["digest"] == champion
    assert len(shop("history", "--json")) == 1


def test_a_damaged_bundle_is_made_again(shop: Shop, champion: str) -> None:
    """Not trusted, not a dead end: the same digest comes out."""
    graph = shop.home / "bundles" / "recognition-tiny-int8" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    stages = shop.release()
    assert [row["took"] == "kept" for row in stages["quantize"]] == [True, False]
    assert stages["promote"][0]["digest"] == champion


def test_the_champion_reads_in_process_over_http_and_through_mlflow_alike(shop: Shop, champion: str) -> None:
    """One release, three ways in, the same pages."""
    page = shop.pages.pages[0]
    image = shop.pages.folder / page.image
    here = read(shop, image)
    assert (match_words(page.text, text_of(here)).f1 or 0) > 0.3

    code = (
        "import json, sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]); mlflow.set_registry_uri(sys.argv[1]);"
        "print(json.dumps(mlflow.pyfunc.load_model('models:/ocr@champion').predict(sys.argv[2])[0]))"
    )
    done = shop.process([sys.executable, "-W", "ignore", "-c", code, f"sqlite:///{shop.home}/mlflow.db", str(image)])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["pages"] == here["pages"]

    bento = shop.home / "bentoml" / "bentos" / "ocr" / short(champion)
    with serve(bento, log=shop.folder / "serve.log") as server:
        edge = "an-edge-no-image-holds"
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="page.png"\r\n\r\n'
        body = head.encode() + image.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        request = urllib.request.Request(f"{server.url}/v1/ocr", body, headers)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            assert json.load(answer)["pages"] == here["pages"]


@pytest.mark.shared_data
def test_real_receipts_are_read(shop: Shop, shared_data: Path) -> None:
    """Well above the floor of the first version, on pages nobody trained on."""
    (report,) = shop("bench", "--data", shared_data / "sroie", "--pages", 24, "--policy", "policy.toml", "--json")
    assert report["pages"] == 24
    assert report["word_f1"] > 0.55


def test_a_second_release_needs_its_own_receipt_and_can_be_rolled_back(shop: Shop, champion: str) -> None:
    """Refused without evidence, promoted with it, and `previous` is one command away."""
    bundles = shop.home / "bundles"
    chosen = json.loads((shop.home / "champion" / "release.json").read_text())
    precision = json.loads((shop.home / "champion" / "detection" / "manifest.json").read_text())["precision"]
    other = "fp32" if precision == "int8" else "int8"
    (packed,) = shop("package", "--detection", bundles / f"detection-tiny-{other}", "--json")
    assert packed["digest"] != champion

    refused = shop.error("promote", expect=3)
    assert short(packed["digest"]) in refused

    second = shop.home / "releases" / short(packed["digest"])
    shop("bench", second, "--data", shop.pages.folder, "--policy", "policy.toml", "--json")
    (gated,) = shop("gate", second, "--data", shop.pages.folder, "--policy", "policy.toml", "--json")
    assert gated["verdict"] == "PASS"

    receipt = Path(gated["receipt"])
    honest = receipt.read_text()
    envelope = json.loads(honest)
    envelope["payload"] = json.loads((shop.home / "receipts" / f"{short(champion)}.json").read_text())["payload"]
    receipt.write_text(json.dumps(envelope))
    assert "receipt" in shop.error("promote", expect=4)
    receipt.write_text(honest)

    (moved,) = shop("promote", "--reason", "try the other variant", "--json")
    assert moved["digest"] == packed["digest"]
    (back,) = shop("rollback", "--reason", "the first was better", "--json")
    assert back["digest"] == champion
    assert json.loads((shop.home / "champion" / "release.json").read_text()) == chosen

    entries = shop("history", "--json")
    assert [entry["action"] for entry in entries] == ["promote", "promote", "rollback"]
    assert entries[-1]["reason"] == "the first was better"
    assert entries[-1]["to_digest"] == champion


def test_a_failed_gate_stops_the_chain_before_anything_moves(shop: Shop, champion: str) -> None:
    """Exit code 1, one line, and the champion serves on."""
    (shop.folder / "strict.toml").write_text(POLICY.replace("min_word_f1 = 0.3", "min_word_f1 = 1.0"))
    line = shop.error("release", *MODELS, "--data", shop.pages.folder, "--policy", "strict.toml", expect=1)
    assert "word_f1" in line
    assert json.loads((shop.home / "champion" / "release.json").read_text())["detection"]
    assert len(shop("history", "--json")) == 3
