"""Gateway: the one service clients see. Documents in, readings out; the models are a hop away."""

import logging
import time
from typing import Any

import bentoml
from starlette.responses import Response

from bentos.admission import Admission
from bentos.champion import open_champion, require_attested, require_champion, require_port, serving, setting, switch
from bentos.deadline import too_late
from bentos.detection import Detection
from bentos.edge import Document, Upload, edged, problem
from bentos.engine import Deadline, Engine
from bentos.hop import calls
from bentos.recognition import Recognition
from ocr_ops.core.errors import OutsideSystem, Overloaded, UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Reading
from ocr_ops.runtime import telemetry

log = logging.getLogger("bentoml.ocr_ops")

SETTINGS = serving()
MAX_IN_FLIGHT = setting("OCR_OPS_MAX_IN_FLIGHT", 16)
"""Documents of each gateway worker. Those beyond are turned away before they are received."""
DOCUMENT_SECONDS = setting("OCR_OPS_DOCUMENT_SECONDS", 120)
"""From the first byte to the reading."""
ORIENT = switch("OCR_OPS_ORIENTATION")
"""Whether pages that lie on their sides or upside-down are read as well as upright ones, for more of the CPU."""


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
        release = open_champion()
        models = {"detection": calls(self.detection), "recognition": calls(self.recognition)}
        self.engine = Engine(release, SETTINGS, models, orient=ORIENT)
        self.admission = Admission(MAX_IN_FLIGHT)
        telemetry.release_loaded(release)

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
        answer = await self._answer(file)
        status = answer.status_code if isinstance(answer, Response) else 200
        telemetry.document_answered(status, time.perf_counter() - start)
        return answer

    async def _answer(self, file: Upload) -> Reading | Response:
        deadline = Deadline.after(DOCUMENT_SECONDS)
        try:
            with self.admission.admit():
                async with deadline.timeout():
                    name, data = await file.read(self.engine.limits.max_bytes)
                pages = self.engine.pages(data, name, ReadOptions(), deadline)
                return Reading(pages=tuple([page async for page in pages]))
        except UnreadableDocument as error:
            return problem(error, error.http_status)
        except Overloaded as error:
            return problem(error, 503, {"Retry-After": str(error.retry_after)})
        except TimeoutError:
            return problem(too_late("document"), 503, {"Retry-After": "1"})
        except OutsideSystem as error:
            return problem(error, 503, {"Retry-After": "1"})
        except Exception:
            log.exception("a document failed")
            return problem(OutsideSystem("service", "failed", "a reading", "tell whoever runs this service"), 500)

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        """As the engine's; for the edge."""
        return await self.engine.readiness()

    async def liveness(self) -> tuple[int, dict[str, Any]]:
        """As the engine's; for the edge."""
        return await self.engine.liveness()
