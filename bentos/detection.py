"""Detection: prepared pages in, text boxes out. One model, reached by the gateway only.

A page that comes alone has all the threads. Those that come beside it have one each: so spread, a page is done sooner,
but takes a sixth more of the CPU.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import bentoml
import numpy as np
from starlette.responses import Response

from bentos.champion import attested, model_threads, open_champion, serving, workers
from bentos.connections import CIPHERS
from bentos.guard import Call, Packed, guarded
from bentos.lifecycle import check_model, outlive_gateway, settle
from bentos.packing import pack_boxes
from ocr_ops.core.errors import UsageError
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.detection import Detector, prepare_page
from ocr_ops.runtime.session import PROVIDERS

SETTINGS, WORKERS = serving(), workers("detection")


@guarded
@bentoml.service(
    workers=WORKERS,
    metrics={"enabled": False, "namespace": "bentoml_service"},
    logging={"access": {"enabled": False}},  # the gateway tells of each document
    ssl={"ciphers": CIPHERS},
)
class Detection:
    def __init__(self) -> None:
        release = open_champion()
        self.release = release.digest
        bundle = release.detection
        self.digest = bundle.digest
        threads = model_threads(SETTINGS, WORKERS)
        self.detector = Detector(bundle, threads)
        session = self.detector.session
        on_cpu = session.provider == PROVIDERS["cpu"]
        self.narrow = Detector(bundle, 1) if on_cpu and threads > 1 else self.detector
        blank = prepare_page(np.full((256, 256, 3), 255, np.uint8), bundle.manifest.input).pixels
        for detector in (self.detector, self.narrow):
            detector.detect([blank])
        # Pages beyond wait here, where they can still be dropped.
        self.pool = ThreadPoolExecutor(session.at_once(threads) if on_cpu or session.on_gpu else 1, "detection")
        self.inside = 0
        telemetry.model_loaded(bundle, session.provider)
        self.attested = attested(release, "detection", session.provider)
        outlive_gateway()
        settle()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts."""
        check_model()

    @bentoml.api(route="/detect", input_spec=Packed, output_spec=Packed)
    async def detect(self, call: Call) -> Response:
        """Boxes of one prepared page, float32 (N, 4, 2) in its pixels."""
        return await call.answered(self._boxes(call), "application/octet-stream")

    async def _boxes(self, call: Call) -> bytes:
        pages = call.pictures()
        if len(pages) != 1:
            raise UsageError("hop", f"{len(pages)} pages", "one", "run the same version on both sides")
        detector = self.narrow if self.inside else self.detector
        self.inside += 1
        try:
            [boxes] = await asyncio.get_running_loop().run_in_executor(self.pool, detector.detect, pages)
        finally:
            self.inside -= 1
        return pack_boxes(boxes)

    def loaded(self) -> dict[str, str | bool]:
        """Which bundle this worker runs, on what, and whether its release was admitted there."""
        provider = self.detector.session.provider
        return {"digest": self.digest, "provider": provider, "attested": self.attested}
