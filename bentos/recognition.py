"""Recognition: prepared crops in, text out. One model, batched by crops, reached by the gateway only."""

import bentoml
import numpy as np

from bentos.champion import model_threads, open_champion
from bentos.hop import CONNECTION, one_call_a_connection
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.recognition import Recognizer, prepare_crop

MAX_BATCH = 32
"""Crops, also the most the gateway sends in one call."""


@one_call_a_connection
@bentoml.service(traffic={"timeout": 600}, runner_connection=CONNECTION)
class Recognition:
    def __init__(self) -> None:
        bundle = open_champion().recognition
        self.recognizer = Recognizer(bundle, model_threads())
        blank = np.full((32, 128, 3), 255, np.uint8)
        whole = np.array([[0, 0], [128, 0], [128, 32], [0, 32]], np.float32)
        self.recognizer.recognize([prepare_crop(blank, whole, bundle.manifest.input)])
        telemetry.model_loaded(bundle, self.recognizer.session.provider)

    # As in detection: never shed here what the gateway let in.
    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=MAX_BATCH, max_latency_ms=3_600_000)
    def recognize(self, crops: list[np.ndarray]) -> list[Decoded]:
        """The text of each prepared crop, uint8 (32, W)."""
        return self.recognizer.recognize(crops)

    @bentoml.api
    async def loaded(self) -> dict[str, str]:
        """Which bundle this worker runs, and on what."""
        return {"digest": self.recognizer.bundle.digest, "provider": self.recognizer.session.provider}
