"""Gateway: the one service clients see. Documents in, readings out; the models are a hop away."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import bentoml
import numpy as np
from bentoml.exceptions import BentoMLException
from numpy.typing import NDArray
from starlette.responses import Response

from bentos.champion import open_champion, require_champion, setting
from bentos.detection import Detection
from bentos.edge import Document, Edge, Upload, problem
from bentos.hop import calls
from bentos.recognition import MAX_BATCH, Recognition
from ocr_ops.core.errors import NotProven, OcrOpsError, OutsideSystem, UnreadableDocument
from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.detection import prepare_page
from ocr_ops.runtime.documents import Limits, page_images
from ocr_ops.runtime.layout import assemble
from ocr_ops.runtime.recognition import prepare_crop

log = logging.getLogger("bentoml.ocr_ops")

READINESS_SECONDS = 2.0
RETRY_AFTER = {"Retry-After": "1"}


@bentoml.service(traffic={"timeout": 300}, metrics={"enabled": True, "namespace": "bentoml_service"})
class Gateway:
    detection = bentoml.depends(Detection)
    recognition = bentoml.depends(Recognition)

    def __init__(self) -> None:
        self.release = open_champion()
        self.limits = Limits()
        self.most_documents = setting("OCR_OPS_MAX_IN_FLIGHT", 16)
        self.seconds = setting("OCR_OPS_DOCUMENT_SECONDS", 120)
        self.documents = 0
        threads = thread_count()
        self.workers = ThreadPoolExecutor(threads, "page")
        # A page may be 180 MB of pixels: only so many are open at a time, enough for full batches.
        self.open_pages = asyncio.Semaphore(2 * threads + 2)
        self.detector, self.recognizer = calls(self.detection), calls(self.recognition)
        telemetry.release_loaded(self.release)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Runs once, before any worker starts."""
        require_champion()

    @bentoml.api(route="/v1/ocr", input_spec=Document, output_spec=Reading)
    async def ocr(self, file: Upload) -> Reading | Response:
        """Reads the document in the multipart field `file`: JPEG, PNG, TIFF, WebP, BMP, GIF or PDF."""
        if self.documents >= self.most_documents:
            error = OutsideSystem(
                "service", f"{self.documents} documents in flight", "fewer", "try again in a second"
            )
            telemetry.document_answered(503, 0.0)
            return problem(error, 503, RETRY_AFTER)
        start = time.perf_counter()
        self.documents += 1
        try:
            with telemetry.document_in_flight():
                answer = await self._answer(file)
        finally:
            self.documents -= 1
        status = answer.status_code if isinstance(answer, Response) else 200
        telemetry.document_answered(status, time.perf_counter() - start)
        return answer
