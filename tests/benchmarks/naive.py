"""The service one would write in ten lines: BentoML's and ONNX Runtime's defaults, float models, each line a call."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ocr_ops.core.reading import Reading
from ocr_ops.core.release import Release
from ocr_ops.runtime.ctc import Decoded
from ocr_ops.runtime.pipeline import Reader
from ocr_ops.runtime.recognition import Recognizer

RELEASE = "NAIVE_RELEASE"


class LineByLine(Recognizer):
    def recognize(self, crops: Sequence[NDArray[np.uint8]]) -> list[Decoded]:
        return [super(LineByLine, self).recognize([crop])[0] for crop in crops]


class Ready:
    """Says so as our services do, for `serve` to see."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ready = scope["type"] == "http" and scope["path"] == "/readyz"
        await (JSONResponse({"ready": True, "release": "naive"}) if ready else self.app)(scope, receive, send)


@bentoml.service
class Naive:
    def __init__(self) -> None:
        release = Release.open(Path(os.environ[RELEASE]))
        self.reader = Reader(release)
        self.reader.recognizer = LineByLine(release.recognition)
        for model in (self.reader.detector, self.reader.recognizer):
            model.session._session = onnxruntime.InferenceSession(model.bundle.graph)

    @bentoml.api(route="/v1/ocr")
    def ocr(self, file: Path) -> Reading:
        return self.reader.read(file.read_bytes(), file.name)


service: Any = Naive
service.add_asgi_middleware(Ready)
