"""Documents rendered on the spot: pages to calibrate and benchmark on, files to load a service with."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.record import canonical_json, digest_bytes, short, write_atomic
from ocr_ops.core.workspace import Workspace
from ocr_ops.data.pages import LabelledPage, PageSet, Region, read_pages, write_index
from ocr_ops.data.render_pages import PageRenderer

PAGE_SIDE = 1100
"""Pixels; about an A5 slip at 150 dpi."""
CHARACTERS = "".join(map(chr, range(0x20, 0x7F)))
"""What the rendered pages are written in: every system font covers ASCII."""
FORMATS = (("JPEG", "jpg"), ("PNG", "png"), ("TIFF", "tiff"), ("WEBP", "webp"), ("PDF", "pdf"))


def rendered_pages(workspace: Workspace, count: int, seed: int) -> PageSet:
    """`count` labelled pages drawn from `seed` with this machine's fonts; kept, and drawn again when damaged.

    Pages without text are left out: they have no accuracy.
    """
    folder = workspace.home / "pages" / f"seed-{seed}-{count}"
    try:
        return read_pages(folder)
    except OcrOpsError:
        pass
    folder.mkdir(parents=True, exist_ok=True)
    renderer = PageRenderer(CHARACTERS)
    rng = np.random.default_rng(seed)
    pages: list[LabelledPage] = []
    with tqdm(total=count, desc=f"render pages (seed {seed})", unit="page", disable=None) as bar:
        while len(pages) < count:
            page = renderer.page(rng, PAGE_SIDE)
            if not page.segments:
                continue
            name = f"{len(pages):03}.png"
            write_atomic(folder / name, cv2.imencode(".png", page.image)[1].tobytes())
            regions = tuple(
                Region(polygon=tuple((float(x), float(y)) for x, y in segment.polygon), text=segment.text)
                for segment in page.segments
            )
            pages.append(LabelledPage(image=name, regions=regions))
            bar.update()
    return write_index(folder, tuple(pages))


def load_documents(workspace: Workspace, pages: PageSet, count: int = 15) -> Path:
    """A folder of up to `count` of the pages as users send them: JPEG, PNG, TIFF, WebP and PDF in turn."""
    images = [pages.folder / page.image for page in pages.pages[:count]]
    identity = digest_bytes(canonical_json([pages.digest, count, FORMATS]).encode())
    folder = workspace.home / "documents" / short(identity)
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    if folder.is_dir():
        return folder
    scratch.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(images):
        form, extension = FORMATS[number % len(FORMATS)]
        buffer = io.BytesIO()
        with Image.open(path) as image:
            image.convert("L").save(buffer, format=form, **({"resolution": 150} if form == "PDF" else {}))
        write_atomic(scratch / f"{number:03}.{extension}", buffer.getvalue())
    scratch.rename(folder)
    return folder
