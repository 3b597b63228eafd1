"""Detection: prepared pages in, text boxes out. One model, batched, reached by the gateway only."""

import bentoml
import numpy as np

from bentos.champion import attested, model_threads, open_champion, serving
from bentos.hop import CONNECTION, one_call_a_connection
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.detection import Detector, prepare_page

MAX_BATCH = 4
"""Pages. They go through the network one by one: a larger batch would only make the first one wait."""

SETTINGS = serving()


@one_call_a_connection
@bentoml.service(traffic={"timeout": 600}, workers=SETTINGS.detection_workers, runner_connection=CONNECTION)
class Detection:
    def __init__(self) -> None:
        release = open_champion()
        bundle = release.detection
        self.detector = Detector(bundle, model_threads(SETTINGS, SETTINGS.detection_workers))
        blank = np.full((256, 256, 3), 255, np.uint8)
        self.detector.detect([prepare_page(blank, bundle.manifest.input).pixels])
        telemetry.model_loaded(bundle, self.detector.session.provider)
        self.attested = attested(release, "detection", self.detector.session.provider)

    # The dispatcher sheds calls that are older than max_latency_ms. Unless settings say so it never does: it is the
    # gateway that turns documents away.
    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=MAX_BATCH, max_latency_ms=SETTINGS.max_latency_ms)
    def detect(self, pages: list[np.ndarray]) -> list[np.ndarray]:
        """Boxes of each prepared page, float32 (N, 4, 2) in its pixels."""
        return self.detector.detect(pages)

    @bentoml.api
    async def loaded(self) -> dict[str, str | bool]:
        """Which bundle this worker runs, on what, and whether its release was admitted there."""
        provider = self.detector.session.provider
        return {"digest": self.detector.bundle.digest, "provider": provider, "attested": self.attested}
