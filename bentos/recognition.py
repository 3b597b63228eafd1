"""Recognition: prepared crops in, text out. One model, batched by crops of one width, reached by the gateway only."""

import bentoml
import numpy as np
from starlette.responses import Response

from bentos.champion import attested, model_threads, open_champion, serving, workers
from bentos.connections import CIPHERS
from bentos.guard import Call, Packed, guarded
from bentos.lifecycle import check_model, outlive_gateway, settle
from bentos.packing import pack_texts
from ocr_ops.runtime import telemetry
from ocr_ops.runtime.batching import Batcher
from ocr_ops.runtime.recognition import Recognizer, prepare_crop

SETTINGS, WORKERS = serving(), workers("recognition")


@guarded
@bentoml.service(
    workers=WORKERS,
    metrics={"enabled": False, "namespace": "bentoml_service"},
    logging={"access": {"enabled": False}},  # the gateway tells of each document
    ssl={"ciphers": CIPHERS},
)
class Recognition:
    def __init__(self) -> None:
        release = open_champion()
        self.release = release.digest
        bundle = release.recognition
        self.digest = bundle.digest
        # Lines are too small to be spread over threads: each call of the network has one, and as many run at once.
        self.recognizer = Recognizer(SETTINGS.tuned(release).recognition, 1)
        threads = model_threads(SETTINGS, WORKERS)
        calls = self.recognizer.session.at_once(threads)
        self.batcher = Batcher(self.recognizer, calls, SETTINGS.max_batch_size, SETTINGS.max_wait_ms / 1000)
        blank = np.full((32, 128, 3), 255, np.uint8)
        whole = np.array([[0, 0], [128, 0], [128, 32], [0, 32]], np.float32)
        self.recognizer.recognize([prepare_crop(blank, whole, bundle.manifest.input)])
        telemetry.model_loaded(bundle, self.recognizer.session.provider)
        self.attested = attested(release, "recognition", self.recognizer.session.provider)
        outlive_gateway()
        settle()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts."""
        check_model()

    @bentoml.api(route="/recognize", input_spec=Packed, output_spec=Packed)
    async def recognize(self, call: Call) -> Response:
        """The text of each prepared crop, uint8 (32, W)."""
        return await call.answered(self._texts(call), "application/octet-stream")

    async def _texts(self, call: Call) -> bytes:
        return pack_texts(await self.batcher.recognize(call.pictures()))

    def loaded(self) -> dict[str, str | bool]:
        """Which bundle this worker runs, on what, and whether its release was admitted there."""
        provider = self.recognizer.session.provider
        return {"digest": self.digest, "provider": provider, "attested": self.attested}
