"""Recognition: prepared crops in, text out. One model, batched by crops, reached by the gateway only."""

import bentoml
import numpy as np

from bentos.champion import attested, model_threads, open_champion, serving
from bentos.hop import CONNECTION, one_call_a_connection
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.recognition import Recognizer, prepare_crop

SETTINGS = serving()


@one_call_a_connection
@bentoml.service(traffic={"timeout": 600}, workers=SETTINGS.recognition_workers, runner_connection=CONNECTION)
class Recognition:
    def __init__(self) -> None:
        release = open_champion()
        bundle = self.bundle = release.recognition
        threads = model_threads(SETTINGS, SETTINGS.recognition_workers)
        self.recognizer = Recognizer(SETTINGS.tuned(release).recognition, threads)
        blank = np.full((32, 128, 3), 255, np.uint8)
        whole = np.array([[0, 0], [128, 0], [128, 32], [0, 32]], np.float32)
        self.recognizer.recognize([prepare_crop(blank, whole, bundle.manifest.input)])
        telemetry.model_loaded(bundle, self.recognizer.session.provider)
        self.attested = attested(release, "recognition", self.recognizer.session.provider)

    # As in detection: what the gateway let in is not shed here, unless settings say so.
    @bentoml.api(
        batchable=True,
        batch_dim=0,
        max_batch_size=SETTINGS.max_batch_size,
        max_latency_ms=SETTINGS.max_latency_ms,
    )
    def recognize(self, crops: list[np.ndarray]) -> list[Decoded]:
        """The text of each prepared crop, uint8 (32, W)."""
        return self.recognizer.recognize(crops)

    @bentoml.api
    async def loaded(self) -> dict[str, str | bool]:
        """Which bundle this worker runs, on what, and whether its release was admitted there."""
        provider = self.recognizer.session.provider
        return {"digest": self.bundle.digest, "provider": provider, "attested": self.attested}
