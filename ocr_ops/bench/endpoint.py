"""A service as a peer: whatever answers a document over HTTP."""

import json
import time

import httpx
from pydantic import ValidationError

from ocr_ops.bench import worker
from ocr_ops.bench.peers import encoded
from ocr_ops.bench.worker import Image, Sample
from ocr_ops.core.errors import OutsideSystem
from ocr_ops.core.reading import Reading


class Endpoint:
    """A service: the whole request is timed; whose CPU it used nobody here can know."""

    version = ""
    ready_ms: float | None = None

    def __init__(self, url: str) -> None:
        # Pages come round again: what is timed is reading them, not remembering them.
        headers = {"Cache-Control": "no-store"}
        self.name, self._client = url, httpx.Client(timeout=worker.TIMEOUT, headers=headers)

    def read(self, *items: Image) -> Sample:
        (page,) = items
        body = {"file": ("page.png", encoded(page, ".png"), "image/png")}
        started = time.perf_counter()
        try:
            answer = self._client.post(self.name, files=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OutsideSystem(self.name, str(error), "a service that answers", "start it, check the URL") from None
        wall_ms = (time.perf_counter() - started) * 1e3
        if answer.status_code != httpx.codes.OK:
            found = f"HTTP {answer.status_code}: {answer.text[:120]!r}"
            raise OutsideSystem(self.name, found, "200 and the page's text", "check the URL and the service's log")
        return Sample((_text(answer),), wall_ms, None)

    def close(self) -> None:
        self._client.close()


def _text(answer: httpx.Response) -> str:
    if "json" not in answer.headers.get("content-type", ""):
        return answer.text
    try:
        data = answer.json()
        # The service adds fields of its own to a reading; the pages are what is scored.
        return data if isinstance(data, str) else Reading.model_validate({"pages": data["pages"]}).text
    except (json.JSONDecodeError, ValidationError, KeyError, TypeError):
        expected = "text, or JSON as `POST /v1/ocr` answers"
        raise OutsideSystem(str(answer.url), f"{answer.text[:120]!r}", expected, "give it as cmd: instead") from None
