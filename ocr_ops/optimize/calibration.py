"""What a bundle is calibrated on: labelled pages or line crops, as serving would prepare them."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.bundle import Manifest
from ocr_ops.core.errors import BadInput
from ocr_ops.core.reading import Polygon
from ocr_ops.core.spec import InputSpec, Task
from ocr_ops.data.lines import LabelledLine, LineSet, line_format, read_lines
from ocr_ops.data.pages import PageSet, read_pages
from ocr_ops.runtime.detection import prepare_page
from ocr_ops.runtime.documents import page_images
from ocr_ops.runtime.recognition import prepare_crop, whole_crop
from ocr_ops.runtime.session import padded, to_tensor

Material = PageSet | LineSet
Picture = NDArray[np.uint8]

MOST = {"detection": 64, "recognition": 2048}
"""Pages, and lines: more of them move no range worth mentioning, and everyone waits."""
_REMEDY = "point --data at labelled pages or, for a recogniser, line crops"


def read_material(path: Path, task: Task) -> Material:
    """Labelled pages, or for a recogniser also line crops; `BadInput` for none, and for those of another task."""
    material: Material = read_pages(path) if line_format(path) is None else read_lines(path)
    require_fit(material, task)
    return material


def require_fit(material: Material, task: Task) -> None:
    """`BadInput` when there is nothing in it that a model of this task reads."""
    lines = isinstance(material, LineSet)
    if lines and task == "detection":
        raise BadInput(material.folder, "line crops", "whole pages: a detector sees nothing else", _REMEDY)
    if not (material.lines if isinstance(material, LineSet) else material.pages):
        raise BadInput(material.folder, "nothing in it", "at least one page or line", _REMEDY)
    if isinstance(material, PageSet) and task == "recognition" and not _regions(material):
        raise BadInput(material.folder, "pages without a readable region", "at least one, with its text", _REMEDY)


def sources(manifest: Manifest, material: Material, most: int | None = None) -> Sequence[Callable[[], Picture]]:
    """At most so many prepared pages or crops, evenly spread over all there are, each as a call that makes it.

    A picture is uint8 (H, W) or (H, W, 3). Errors as `require_fit`; a call raises `BadInput` where its image is none.
    """
    require_fit(material, manifest.task)
    spec = manifest.input
    found: list[Callable[[], Picture]]
    if isinstance(material, LineSet):
        found = [partial(_line, line, spec) for line in material.lines]
    elif manifest.task == "detection":
        found = [partial(_page, material.folder / page.image, spec) for page in material.pages]
    else:
        found = [partial(_region, path, polygon, spec) for path, polygon in _regions(material)]
    return found[:: -(-len(found) // (most or MOST[manifest.task]))]


def tensor(picture: Picture, spec: InputSpec) -> NDArray[np.float32]:
    """A prepared picture alone, float32 (1, C, H, W), padded where the model's size is fixed."""
    return to_tensor([padded(picture, spec.width or picture.shape[1], spec.height or picture.shape[0], spec)], spec)


def _regions(pages: PageSet) -> list[tuple[Path, Polygon]]:
    found = [(pages.folder / page.image, region) for page in pages.pages for region in page.regions]
    return [(path, region.polygon) for path, region in found if region.readable]


def _line(line: LabelledLine, spec: InputSpec) -> Picture:
    return whole_crop(line.image(), spec)


def _page(path: Path, spec: InputSpec) -> Picture:
    return prepare_page(_image(path), spec).pixels


def _region(path: Path, polygon: Polygon, spec: InputSpec) -> Picture:
    return prepare_crop(_image(path), np.asarray(polygon, np.float32), spec)


@lru_cache(maxsize=2)  # regions come page by page
def _image(path: Path) -> Picture:
    return next(page_images(path.read_bytes(), path.name))
