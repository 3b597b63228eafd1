"""Gateway: the one service clients see. Documents in, readings out; the models are a hop away."""

from pathlib import Path
from typing import Any

import bentoml
from starlette.requests import Request

from bentos.admission import Admission
from bentos.champion import apart, default_host, open_champion, serving, setting, switch, workers
from bentos.connections import CIPHERS
from bentos.detection import Detection
from bentos.edge import edged
from bentos.jobs.job import Ask, State
from bentos.lifecycle import DRAIN, check_group, drain, settle
from bentos.recognition import Recognition
from ocr_ops.core.audit import Event, Outcome
from ocr_ops.core.reading import Reading
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.cpu import thread_count
from ocr_ops.runtime.sheet import Caps

SETTINGS, WORKERS = serving(), workers("gateway")
MAX_IN_FLIGHT = setting("OCR_OPS_MAX_IN_FLIGHT", 16)
"""Documents of each gateway worker. Those beyond are turned away before they are received."""
DOCUMENT_SECONDS = setting("OCR_OPS_DOCUMENT_SECONDS", 120)
"""From the first byte to the reading."""
JOBS_AT_ONCE = setting("OCR_OPS_JOBS_AT_ONCE", 1, least=0)
"""Jobs that each gateway worker reads at a time, behind the documents somebody waits for; 0: others do them."""
PROMISED_SECONDS = setting("OCR_OPS_PROMISED_SECONDS", 5)
"""Within which a page should be read: documents that would wait for longer are turned away too. As the SLO says."""
DRAIN_SECONDS = setting(DRAIN, 0, least=0)
DECODER_DOCUMENTS = setting("OCR_OPS_DECODER_DOCUMENTS", Caps().documents)
"""Scans that are opened one after the other in a process; 1: each in one of its own."""
ORIENT = switch("OCR_OPS_ORIENTATION")
"""Whether pages that lie on their sides or upside-down are read as well as upright ones, for more of the CPU."""


class Document(bentoml.IODescriptor):
    """A multipart form with one document in `file`."""

    file: Path

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:
        """Never called, as `Gateway.ocr`: BentoML would write any body to disk, and fetch a URL it finds there."""
        raise NotImplementedError


# BentoML's own request metrics have a label for the path: on the entry port, any client could fill the memory.
@edged
@bentoml.service(
    workers=WORKERS,
    metrics={"enabled": False, "namespace": "bentoml_service"},
    logging={"access": {"enabled": False}},  # the API has a log of its own
    http={"host": default_host()},
    ssl={"ciphers": CIPHERS},
)
class Gateway:
    detection = bentoml.depends(Detection, url=apart("OCR_OPS_DETECTION_URL"))
    recognition = bentoml.depends(Recognition, url=apart("OCR_OPS_RECOGNITION_URL"))

    def __init__(self) -> None:
        # Here, and not above: BentoML and the models' workers load this file too, and have no use for these.
        from bentos.answers import Answers
        from bentos.api.idempotency import Idempotency
        from bentos.audit import Auditor
        from bentos.auth import Access, Caller
        from bentos.cache import cache_from_environment
        from bentos.engine import Engine
        from bentos.hop import hop_to
        from bentos.jobs.desk import Desk
        from bentos.jobs.runner import Runner
        from bentos.limits import Meter
        from bentos.store import Store

        release = open_champion()
        models = {
            "detection": hop_to(self.detection, release.detection.digest),
            "recognition": hop_to(self.recognition, release.recognition.digest),
        }
        caps = Caps(documents=DECODER_DOCUMENTS)
        threads = max(1, thread_count() // WORKERS)
        self.engine = Engine(release, SETTINGS, models, threads=threads, orient=ORIENT, caps=caps)
        self.store = Store.from_environment()
        self.answers = Answers(self.engine, cache_from_environment(self.store))
        self.admission = Admission(MAX_IN_FLIGHT, PROMISED_SECONDS, self.engine.expected)
        self.document_seconds = DOCUMENT_SECONDS
        self.access = Access.from_environment()
        self.idempotency = Idempotency.over(self.store, WORKERS)
        self.meter = Meter.from_environment(self.store)
        self.auditor = Auditor.from_environment()
        self.desk = Desk.from_environment()
        self.runner = Runner(
            self.engine,
            self.desk,
            at_once=JOBS_AT_ONCE,
            busy=self._busy,
            allowance=lambda ask: self.meter.allowance(Caller(ask.caller, frozenset(), ask.limits)),
            over=self._audit,
        )
        self.runner.start()
        drain(lambda: self.admission.inside > 0 or self.runner.going, self._close, DRAIN_SECONDS)
        telemetry.release_loaded(release)
        settle()

    def _busy(self) -> bool:
        """Whether somebody waits for a document, at this worker of the gateway or another."""
        return self.admission.inside > 0 or telemetry.documents_being_read() > 0

    def _close(self) -> None:
        self.admission.close()
        self.runner.stop()

    def _audit(self, ask: Ask, job: str, state: State, pages: int) -> None:
        if self.auditor is not None:
            outcome: Outcome = "done" if state == "done" else "failed"
            self.auditor.record(
                Event(caller=ask.caller, action="job", outcome=outcome, pages=pages, output=ask.output, subject=job)
            )

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts."""
        from bentos.auth import require_access
        from bentos.settings import require_settings

        require_access()
        check_group()
        require_settings()

    @bentoml.api(route="/v1/ocr", input_spec=Document, output_spec=Reading)
    async def ocr(self, file: Path) -> Reading:
        """Reads the document in the multipart field `file`: what BentoML's clients know the service by.

        `bentos.api` answers it, and leaves no request to this.
        """
        raise NotImplementedError

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        """As the engine's, for the edge; 503 also once the service is about to end."""
        status, state = await self.engine.readiness()
        return (503, {**state, "ready": False, "draining": True}) if self.admission.closed else (status, state)

    async def liveness(self) -> tuple[int, dict[str, Any]]:
        """As the engine's; for the edge."""
        return await self.engine.liveness()
