"""The engine of one gateway process: what it says of models that are away."""

import asyncio
from types import SimpleNamespace

import pytest

from bentos.engine import DEAD_SECONDS, Engine
from bentos.hop import Hop
from ocr_ops.core.release import Release
from ocr_ops.core.serving import ServingSettings
from ocr_ops.core.spec import TASKS


def test_models_are_away_since_somebody_saw_it(tiny_release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that nobody has asked for long, because others were, does not call them dead at the first look."""
    now = 1000.0
    monkeypatch.setattr("bentos.engine.time", SimpleNamespace(monotonic=lambda: now))

    async def work() -> None:
        nonlocal now
        models: dict[str, Hop] = {task: Hop("http://127.0.0.1:9") for task in TASKS}
        engine = Engine(tiny_release, ServingSettings(), models)
        try:
            now += 2 * DEAD_SECONDS
            assert await engine.liveness() == (200, {"alive": True})
            now += DEAD_SECONDS - 1
            assert await engine.liveness() == (200, {"alive": True})
            now += 1
            assert await engine.liveness() == (503, {"alive": False})
        finally:
            engine.decoders.close()
            await asyncio.gather(*(hop.close() for hop in models.values()))

    asyncio.run(work())
