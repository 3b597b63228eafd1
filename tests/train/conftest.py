from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

CHARSET = " 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,:;-/()@€é"

RECOGNITION = f"""
schema_version = 1
name = "small-reader"
task = "recognition"
licence = "Apache-2.0"
charset = "{CHARSET}"
input = {{ height = 32, stride = 4, max_side = 512 }}
network = {{ kind = "ctc", widths = [8, 8, 16, 16, 16], kernel = 3 }}
recipe = {{ steps = 6, batch = 4, learning_rate = 4e-3, seed = 1, longest = 160, strength = 0.5 }}
quality = {{ floor = 0.0 }}
"""

DETECTION = """
schema_version = 1
name = "small-detector"
task = "detection"
licence = "Apache-2.0"
input = { stride = 32, max_side = 640 }
network = { kind = "db", widths = [8, 8, 8, 16, 16], pyramid = 8, head = 8 }
recipe = { steps = 6, batch = 2, learning_rate = 4e-3, seed = 1, crop = 128, strength = 0.5 }
quality = { floor = 0.0 }
"""


@pytest.fixture(autouse=True, scope="module")
def quiet_machine() -> Iterator[None]:
    """One thread, so that sums come out alike, and the `base` fonts alone."""
    torch.set_num_threads(1)
    folders = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/truetype/liberation2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCR_OPS_FONTS", ":".join(folders))
        yield


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a spec to a model folder of its own."""

    def write(text: str) -> Path:
        folder = tmp_path / "models" / f"model-{len(list(tmp_path.glob('models/*')))}"
        folder.mkdir(parents=True)
        (folder / "model.toml").write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture
def recognition(folder_of: Callable[[str], Path]) -> Path:
    return folder_of(RECOGNITION)


@pytest.fixture
def detection(folder_of: Callable[[str], Path]) -> Path:
    return folder_of(DETECTION)


def write_crops(folder: Path, text: str, documents: int) -> Path:
    """A folder of crops that show `text`, two of each document."""
    folder.mkdir(parents=True)
    image = np.full((30, 80), 255, np.uint8)
    cv2.putText(image, "Total", (5, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0,), 2)
    names = [f"{document}_{line:03}.png" for document in range(documents) for line in range(2)]
    for name in names:
        cv2.imwrite(str(folder / name), image)
    (folder / "labels.tsv").write_text("".join(f"{name}\t{text}\n" for name in names), encoding="utf-8")
    return folder


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Eighty upper-cased crops of forty documents."""
    return write_crops(tmp_path / "crops", "TOTAL", 40)
