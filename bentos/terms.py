"""Terms: what both ends of a hop know, the key that is shown among it."""

import os

KEY = "OCR_OPS_HOP_KEY"
"""What the gateway shows the models. `bentoml serve .` makes one up; separate deployments are given one."""
BUNDLE = "x-ocr-ops-bundle"
"""Header: the digest of the bundle that is to read. Another reads nothing."""
LOADED = "/loaded"
"""Tells what a model's service runs, as its /readyz does, to who shows the key: a gateway without it is not ready."""


def shown() -> dict[str, str]:
    """The header that shows the key; nothing without one."""
    key = os.environ.get(KEY, "")
    return {"Authorization": f"Bearer {key}"} if key else {}
