"""A gateway and one service behind it, joined as ours are: as many calls as asked for, and every error counted."""

import asyncio
import itertools
import os
from collections import Counter
from typing import Any

import bentoml
import numpy as np
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.deadline import Deadline
from bentos.guard import Call, Packed, guarded
from bentos.hop import hop_to
from bentos.lending import LARGE
from bentos.lifecycle import check_group, check_model, drain, outlive_gateway
from bentos.packing import pack


@guarded
@bentoml.service(traffic={"timeout": 600}, logging={"access": {"enabled": False}})
class Inner:
    def __init__(self) -> None:
        self.left = 0
        self.release = "echo"
        outlive_gateway()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        check_model()

    @bentoml.api(route="/widths", input_spec=Packed, output_spec=Packed)
    async def widths(self, call: Call) -> Response:
        """The width of each picture, a byte each."""
        return await call.answered(self._widths(call), "application/octet-stream")

    async def _widths(self, call: Call) -> bytes:
        return bytes(picture.shape[1] for picture in call.pictures())

    @bentoml.api(route="/slow", input_spec=Packed, output_spec=Packed)
    async def slow(self, call: Call) -> Response:
        """As many seconds as the first picture is wide; those who do not wait for it are counted."""
        return await call.answered(self._slow(call), "application/octet-stream")

    async def _slow(self, call: Call) -> bytes:
        try:
            await asyncio.sleep(call.pictures()[0].shape[1])
        except asyncio.CancelledError:
            self.left += 1
            raise
        return b"done"

    @bentoml.api(route="/fail", input_spec=Packed, output_spec=Packed)
    async def fail(self, call: Call) -> Response:  # noqa: ARG002  BentoML calls it by name
        """What a model does with a page it cannot take."""
        msg = "no"
        raise RuntimeError(msg)

    @bentoml.api(route="/die", input_spec=Packed, output_spec=Packed)
    async def die(self, call: Call) -> Response:  # noqa: ARG002  BentoML calls it by name
        """Ends the worker, as a crash does."""
        os._exit(1)

    def loaded(self) -> dict[str, str | bool]:
        return {"digest": str(self.left)}


class Probes:
    """Tells how the gateway is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and scope["path"] == "/readyz"
        state = {"ready": True, "release": "echo", "inside": bentoml.get_current_service().inside} if asked else {}
        await (JSONResponse(state) if asked else self.app)(scope, receive, send)


@bentoml.service(traffic={"timeout": 600})
class Outer:
    inner = bentoml.depends(Inner, url=os.environ.get("ECHO_URL"))

    def __init__(self) -> None:
        self.hop = hop_to(self.inner)
        self.inside = 0
        drain(lambda: self.inside > 0, lambda: None, 0)

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        check_group()

    @bentoml.api
    async def many(self, count: int, concurrency: int) -> dict[str, int]:
        """What became of `count` calls: "ok", or the name of an error."""
        numbers = iter(range(count))

        async def user() -> list[str]:
            return [await self._call(number) for number in numbers]

        found = await asyncio.gather(*(user() for _ in range(concurrency)))
        return dict(Counter(itertools.chain.from_iterable(found)))

    async def _call(self, number: int) -> str:
        crops = [np.zeros((32, 32 + (number + i) % 64), np.uint8) for i in range(number % 24)]
        if number % 25 == 0:
            crops.append(np.zeros((LARGE // 200, 240), np.uint8))
        try:
            found = await self.hop.call("/widths", pack(crops), Deadline.after(60))
        except Exception as error:  # noqa: BLE001  it is what we count
            return type(error).__name__
        return "ok" if found == bytes(crop.shape[1] for crop in crops) else "wrong"

    @bentoml.api
    async def one(self, route: str, width: int, seconds: float) -> str:
        """What becomes of a call that has so many seconds."""
        self.inside += 1
        try:
            picture = np.zeros((1, width), np.uint8)
            for _ in range(2):
                found = await self.hop.call(route, pack([picture]), Deadline.after(seconds))
            return found.decode()
        except Exception as error:  # noqa: BLE001  as above
            return type(error).__name__
        finally:
            self.inside -= 1


outer: Any = Outer
outer.add_asgi_middleware(Probes)
