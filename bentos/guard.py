"""The models' side of the hop: who is answered, with what, and for how long."""

import asyncio
import hmac
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import bentoml
import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos import lending
from bentos.connections import HeardOut, watch_connections
from bentos.deadline import HEADER, Deadline
from bentos.layers import step_over_layers
from bentos.packing import MEDIA_TYPE, unpack
from bentos.terms import BUNDLE, KEY, LOADED, shown
from ocr_ops.core.errors import OutsideSystem, UsageError
from ocr_ops.runtime import telemetry

PROBES = ("/readyz", "/livez", "/healthz")
MOST_SECONDS = 600.0


class Packed(bentoml.IODescriptor):
    """Bytes of `packing`, which only a hop sends."""

    call: bytes

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Any:  # noqa: ARG003  BentoML's signature
        return cls.model_construct(call=Call(request, await request.body()))


@dataclass(frozen=True, slots=True)
class Call:
    """A call as a model's service received it."""

    request: Request
    body: bytes

    def pictures(self) -> list[NDArray[np.uint8]]:
        """What was sent, or lent. `UsageError` for anything but pictures."""
        lent = self.request.headers.get("content-type") == lending.MEDIA_TYPE
        return unpack(lending.borrowed(self.body) if lent else self.body)

    async def answered(self, work: Coroutine[Any, Any, bytes], media_type: str) -> Response:
        """What the coroutine `work` gives, unless its deadline passes or its caller leaves before: then it is
        cancelled.
        """
        doing = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self._left())
        try:
            until = Deadline.from_header(self.request.headers.get(HEADER), MOST_SECONDS)
            async with until.timeout():
                await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                return Response(status_code=499)  # nobody reads it
            return Response(doing.result(), media_type=media_type)
        except TimeoutError:
            return JSONResponse({"error": "the deadline passed"}, 504)
        except UsageError as error:
            return JSONResponse({"error": str(error)}, 400)
        except OutsideSystem as error:
            return JSONResponse({"error": str(error)}, lending.REFUSED)
        finally:
            doing.cancel()
            leaving.cancel()

    async def _left(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass


def guarded(service: Any) -> Any:
    """Decorator of a model's service: only who shows the key is answered, and pickle never."""
    step_over_layers()
    watch_connections()
    service.add_asgi_middleware(HeardOut)
    service.add_asgi_middleware(Guard)
    return service


class Guard:
    """Middleware of a model's service."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and scope["path"] == "/metrics":
            text, kind = await run_in_threadpool(telemetry.exposition)
            await Response(text, media_type=kind)(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD") and scope["path"] in PROBES:
            service = bentoml.get_current_service()
            state = {"ready": True, "release": service.release, **service.loaded()}
            await JSONResponse(state)(scope, receive, send)
        elif refusal := _refusal(Headers(scope=scope)):
            await refusal(scope, receive, send)
        elif scope["path"] == LOADED:
            await JSONResponse(bentoml.get_current_service().loaded())(scope, receive, send)
        elif (wanted := Headers(scope=scope).get(BUNDLE)) and wanted != bentoml.get_current_service().digest:
            await JSONResponse({"error": "another bundle runs here"}, 503)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _refusal(headers: Headers) -> Response | None:
    wanted = shown().get("Authorization")
    if wanted and not hmac.compare_digest(headers.get("authorization", "").encode(), wanted.encode()):
        return JSONResponse({"error": f"the key of {KEY} is wanted"}, 401)
    if headers.get("content-type", MEDIA_TYPE) not in (MEDIA_TYPE, lending.MEDIA_TYPE):
        return JSONResponse({"error": f"{MEDIA_TYPE} is wanted"}, 415)
    return None
