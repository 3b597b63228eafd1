"""Detection: prepared pages in, text boxes out. One model, page after page, reached by the gateway only."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import bentoml
import numpy as np
from starlette.responses import Response

from bentos.champion import attested, model_threads, open_champion, serving
from bentos.guard import Call, Packed, guarded
from bentos.lifecycle import check_model, outlive_gateway
from bentos.packing import pack_boxes, unpack
from ocr_ops.core.errors import UsageError
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.detection import Detector, prepare_page

SETTINGS = serving()


@guarded
@bentoml.service(
    workers=SETTINGS.detection_workers,
    metrics={"enabled": False, "namespace": "bentoml_service"},
    logging={"access": {"enabled": False}},  # the gateway tells of each document
)
class Detection:
    def __init__(self) -> None:
        release = open_champion()
        self.release = release.digest
        bundle = self.bundle = release.detection
        self.detector = Detector(bundle, model_threads(SETTINGS, SETTINGS.detection_workers))
        blank = np.full((256, 256, 3), 255, np.uint8)
        self.detector.detect([prepare_page(blank, bundle.manifest.input).pixels])
        # A page takes all the threads: those that come meanwhile wait here, where they can still be dropped.
        self.pool = ThreadPoolExecutor(1, "detection")
        telemetry.model_loaded(bundle, self.detector.session.provider)
        self.attested = attested(release, "detection", self.detector.session.provider)
        outlive_gateway()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts."""
        check_model()

    @bentoml.api(route="/detect", input_spec=Packed, output_spec=Packed)
    async def detect(self, call: Call) -> Response:
        """Boxes of one prepared page, float32 (N, 4, 2) in its pixels."""
        return await call.answered(self._boxes(call.body), "application/octet-stream")

    async def _boxes(self, body: bytes) -> bytes:
        pages = unpack(body)
        if len(pages) != 1:
            raise UsageError("hop", f"{len(pages)} pages", "one", "run the same version on both sides")
        [boxes] = await asyncio.get_running_loop().run_in_executor(self.pool, self.detector.detect, pages)
        return pack_boxes(boxes)

    def loaded(self) -> dict[str, str | bool]:
        """Which bundle this worker runs, on what, and whether its release was admitted there."""
        provider = self.detector.session.provider
        return {"digest": self.bundle.digest, "provider": provider, "attested": self.attested}
