"""A gateway and one service behind it, joined as ours are: as many calls as asked for, and every error counted."""

import asyncio
from collections import Counter
from typing import Any

import bentoml
import numpy as np

from bentos.edge import edged
from bentos.hop import CONNECTION, calls, one_call_a_connection


@one_call_a_connection
@bentoml.service(traffic={"timeout": 600}, runner_connection=CONNECTION)
class Inner:
    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=32, max_latency_ms=3_600_000)
    def widths(self, crops: list[np.ndarray]) -> list[int]:
        return [int(crop.shape[1]) for crop in crops]


@edged
@bentoml.service(traffic={"timeout": 600})
class Outer:
    inner = bentoml.depends(Inner)

    def __init__(self) -> None:
        self.calls = calls(self.inner)

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        return 200, {"ready": True, "release": "echo"}

    @bentoml.api
    async def many(self, count: int, concurrency: int) -> dict[str, int]:
        """What became of `count` calls: "ok", or the name of an error."""
        gate = asyncio.Semaphore(concurrency)

        async def one(number: int) -> str:
            crops = [np.zeros((32, 32 + (number + i) % 64), np.uint8) for i in range(number % 24)]
            async with gate:
                try:
                    found = await self.calls.widths(crops=crops)
                except Exception as error:  # noqa: BLE001  it is what we count
                    return type(error).__name__
            return "ok" if found == [crop.shape[1] for crop in crops] else "wrong"

        return dict(Counter(await asyncio.gather(*map(one, range(count)))))
