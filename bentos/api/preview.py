"""What a page looks like: its picture as the reading has it, so that polygons stand where they belong."""

from contextlib import aclosing

import cv2
import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from bentos.api.form import Asked, receive
from bentos.api.serving import deadline_of, gateway_of, unless_left
from bentos.deadline import Deadline
from bentos.engine import Engine
from bentos.usage import Usage
from ocr_ops.core.record import digest_bytes

MAX_SIDE = 2000
"""Of the picture, pixels: more than screens show, and a page of it is a few hundred KB."""
_QUALITY = 85


async def preview(request: Request) -> Response:
    gateway, deadline = gateway_of(request), deadline_of(request)
    with gateway.admission.admit():
        try:
            async with deadline.timeout():
                # What `Accept` names is a picture, and no output.
                asked = await receive(request, limit=gateway.engine.limits.max_bytes, otherwise="json")
        except TimeoutError:
            raise deadline.too_late("document") from None
        usage: Usage = request.state.usage
        usage.documents += await run_in_threadpool(lambda: [digest_bytes(one.data) for one in asked.documents])
        image = await unless_left(request, _first(gateway.engine, asked, deadline))
        if image is None:
            return Response(status_code=204)
        return Response(await run_in_threadpool(_jpeg, image), media_type="image/jpeg")


async def _first(engine: Engine, asked: Asked, deadline: Deadline) -> NDArray[np.uint8] | None:
    """The first page that is wanted, uint8 (H, W, 3) RGB; None where there is none, or it has no pixels."""
    (document,) = asked.documents
    options = asked.options.model_copy(update={"text_layer": "ignore"})
    try:
        async with (
            deadline.timeout(),
            aclosing(engine.decoders.sheets(document.data, document.name, options, engine.limits)) as sheets,
        ):
            async for sheet in sheets:
                return sheet.image
    except TimeoutError:
        raise deadline.too_late(document.name) from None
    return None


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    """A JPEG of at most `MAX_SIDE` of an image, uint8 (H, W, 3) RGB."""
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data)
