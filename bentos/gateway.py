"""Gateway: the one service clients see. Documents in, readings out; the models are a hop away."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import bentoml
import numpy as np
from bentoml.exceptions import BentoMLException
from numpy.typing import NDArray
from starlette.responses import Response

from bentos.champion import open_champion, require_attested, require_champion, require_port, serving, setting, switch
from bentos.detection import Detection
from bentos.edge import Document, Upload, edged, problem
from bentos.hop import calls
from bentos.recognition import Recognition
from ocr_ops.core.errors import OcrOpsError, OutsideSystem, UnreadableDocument
from ocr_ops.core.reading import Page, Reading
from ocr_ops.core.spec import TASKS
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.documents import LIMITS, page_images
from ocr_ops.runtime.pipeline import read_page

log = logging.getLogger("bentoml.ocr_ops")
T = TypeVar("T")

SETTINGS = serving()
MAX_IN_FLIGHT = setting("OCR_OPS_MAX_IN_FLIGHT", 16)
"""Documents of each gateway worker. Those beyond are turned away before they are received."""
DOCUMENT_SECONDS = setting("OCR_OPS_DOCUMENT_SECONDS", 120)
"""From the first byte to the reading."""
ORIENT = switch("OCR_OPS_ORIENTATION")
"""Whether pages that lie on their sides or upside-down are read as well as upright ones, for more of the CPU."""
PROBE_SECONDS = 5.0
DEAD_SECONDS = 120.0
"""How long a model may go without an answer before /livez says to start anew: it hangs, for a dead one is replaced."""


@dataclass(frozen=True, slots=True)
class _Hops:
    """`Models`, each a hop away."""

    models: Mapping[str, Any]
    workers: ThreadPoolExecutor

    async def detect(self, page: NDArray[np.uint8]) -> NDArray[np.float32]:
        [found] = await self.models["detection"].detect(pages=[page])
        return np.asarray(found, np.float32)

    async def recognize(self, crops: Sequence[NDArray[np.uint8]]) -> list[Decoded]:
        size = SETTINGS.max_batch_size
        chunks = [crops[start : start + size] for start in range(0, len(crops), size)]
        texts = await asyncio.gather(*(self.models["recognition"].recognize(crops=chunk) for chunk in chunks))
        return [text for chunk in texts for text in chunk]

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        """Runs `work` off the event loop, on one of as many threads as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, work, *args)


# BentoML's own request metrics have a label for the path: on the entry port, any client could fill the memory.
@edged
@bentoml.service(
    traffic={"timeout": 600},
    workers=SETTINGS.gateway_workers,
    metrics={"enabled": False, "namespace": "bentoml_service"},
)
class Gateway:
    detection = bentoml.depends(Detection)
    recognition = bentoml.depends(Recognition)

    def __init__(self) -> None:
        self.release = open_champion()
        tuned = SETTINGS.tuned(self.release)
        self.inputs = (tuned.detection.manifest.input, tuned.recognition.manifest.input)
        self.limits = LIMITS
        self.documents = 0
        self.last_ready = time.monotonic()
        threads = thread_count()
        # A page may hold 180 MB of pixels: only so many are open at a time, still enough to fill batches.
        self.open_pages = asyncio.Semaphore(2 * threads + 2)
        models = {"detection": calls(self.detection), "recognition": calls(self.recognition)}
        self.hops = _Hops(models, ThreadPoolExecutor(threads, "page"))
        telemetry.release_loaded(self.release)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts."""
        require_champion()
        require_attested()
        require_port()

    @bentoml.api(route="/v1/ocr", input_spec=Document, output_spec=Reading)
    async def ocr(self, file: Upload) -> Reading | Response:
        """Reads the document in the multipart field `file`: JPEG, PNG, TIFF, WebP, BMP, GIF or PDF."""
        start = time.perf_counter()
        if self.documents >= MAX_IN_FLIGHT:
            found = f"{self.documents} documents in flight"
            answer: Reading | Response = _unavailable(OutsideSystem("service", found, "fewer", "try again soon"))
        else:
            self.documents += 1
            try:
                with telemetry.document_in_flight():
                    answer = await self._answer(file)
            finally:
                self.documents -= 1
        status = answer.status_code if isinstance(answer, Response) else 200
        telemetry.document_answered(status, time.perf_counter() - start)
        return answer

    async def _answer(self, file: Upload) -> Reading | Response:
        try:
            async with asyncio.timeout(DOCUMENT_SECONDS):
                name, data = await file.read(self.limits.max_bytes)
                return await self._read(data, name)
        except UnreadableDocument as error:
            return problem(error, error.http_status)
        except TimeoutError:
            found = f"not read within {DOCUMENT_SECONDS} s"
            return _unavailable(OutsideSystem("document", found, "a quicker reading", "send fewer pages at once"))
        except (aiohttp.ClientError, BentoMLException):
            log.exception("a model service failed")
            return _unavailable(OutsideSystem("model service", "failed", "an answer", "try again soon"))
        except Exception:
            log.exception("a document failed")
            return problem(OutsideSystem("service", "failed", "a reading", "tell whoever runs this service"), 500)

    async def _read(self, data: bytes, name: str) -> Reading:
        """Page after page: a long document does not push the others aside, nor fill the memory."""
        images = await self.hops.aside(page_images, data, name, self.limits)
        pages: list[Page] = []
        while True:
            async with self.open_pages:
                image = await self.hops.aside(_next, images)
                if image is None:
                    return Reading(pages=tuple(pages))
                pages.append(await read_page(image, self.hops, *self.inputs, orient=ORIENT))

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        """The status of /readyz and its body: 200 once both models run the very bundles of this release."""
        models = dict(zip(TASKS, await asyncio.gather(*map(self._loaded, TASKS)), strict=True))
        ready = all(models[task].get("digest") == getattr(self.release.manifest, task) for task in TASKS)
        if ready:
            self.last_ready = time.monotonic()
        attested = all(models[task].get("attested") for task in TASKS)
        state = {
            "ready": ready,
            "release": self.release.digest,
            "attested": attested,
            "serving": SETTINGS.digest,
            "models": models,
        }
        return 200 if ready else 503, state

    async def liveness(self) -> tuple[int, dict[str, Any]]:
        """The status of /livez and its body: 503 when the models have been away for too long."""
        await self.readiness()
        away = time.monotonic() - self.last_ready
        return 200 if away < DEAD_SECONDS else 503, {"alive": away < DEAD_SECONDS}

    async def _loaded(self, task: str) -> dict[str, str | bool]:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return dict(await self.hops.models[task].loaded())
        except (TimeoutError, aiohttp.ClientError, BentoMLException) as error:
            return {"error": f"no answer: {type(error).__name__}"}


def _next(images: Iterator[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    start = time.perf_counter()
    image = next(images, None)
    if image is not None:
        telemetry.stage_took("decode", time.perf_counter() - start)
    return image


def _unavailable(error: OcrOpsError) -> Response:
    return problem(error, 503, {"Retry-After": "1"})
