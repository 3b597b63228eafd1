"""Reader: a release reading documents in this process, the very steps the services take."""

import numpy as np
from numpy.typing import NDArray

from ocr_ops.core.reading import Page, Reading
from ocr_ops.core.release import Release
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.detection import Detector, prepare_page
from ocr_ops.runtime.documents import LIMITS, Limits, page_images
from ocr_ops.runtime.layout import assemble
from ocr_ops.runtime.recognition import Recognizer, prepare_crop
from ocr_ops.runtime.session import to_channels


class Reader:
    """May be shared by threads."""

    def __init__(self, release: Release, threads: int | None = None) -> None:
        """Loads both bundles; errors as `Session`."""
        self.detector = Detector(release.detection, threads)
        self.recognizer = Recognizer(release.recognition, threads)

    def read_page(self, page: NDArray[np.uint8]) -> Page:
        """Reads one page, uint8 (H, W, 3) RGB."""
        prepared = prepare_page(page, self.detector.bundle.manifest.input)
        polygons = prepared.restore(self.detector.detect([prepared.pixels])[0])
        spec = self.recognizer.bundle.manifest.input
        source = to_channels(page, spec)
        crops = [prepare_crop(source, polygon, spec) for polygon in polygons]
        read = assemble(page.shape[1], page.shape[0], list(polygons), self.recognizer.recognize(crops))
        telemetry.page_read(read)
        return read

    def read(self, data: bytes, name: str, limits: Limits = LIMITS) -> Reading:
        """Reads a document from its bytes; `UnreadableDocument` as `page_images`."""
        return Reading(pages=tuple(self.read_page(page) for page in page_images(data, name, limits)))
