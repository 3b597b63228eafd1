"""Answers: what a service says when all is well, checked, as values."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import ValidationError

from ocr_ops.client.problems import error_of, foreign
from ocr_ops.core.errors import OcrOpsError
from ocr_ops.core.options import OutputFormat
from ocr_ops.core.reading import Page, Reading

Content = str | bytes
"""A document in an output other than JSON: bytes for a PDF, text for any other."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document of several: a reading, content in another output, or an error."""

    name: str
    reading: Reading | None = None
    content: Content | None = None
    error: OcrOpsError | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A document that is read in the background, as it was when the service was asked."""

    id: str
    state: str
    """waiting, running, done, failed or cancelled."""
    name: str
    """Of the document."""
    done: int
    """Pages read so far."""
    total: int | None
    """Pages to read, once the service knows."""
    error: OcrOpsError | None = None
    """Why it failed."""
    webhook_secret: str | None = None
    """What its webhook is signed with; told when it is submitted."""

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


def job(url: httpx.URL, told: Mapping[str, Any]) -> Job:
    try:
        problem = told.get("problem")
        pages = told["pages"]
        return Job(
            id=str(told["id"]),
            state=str(told["state"]),
            name=str(told["name"]),
            done=int(pages["done"]),
            total=pages.get("total"),
            error=None if problem is None else error_of(problem, int(problem.get("status", 500))),
            webhook_secret=told.get("webhook_secret"),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise foreign(url, "no job") from None


def jobs(answer: httpx.Response) -> list[Job]:
    found = of_json(answer).get("jobs")
    if not isinstance(found, list):
        raise foreign(answer.url, "no jobs")
    return [job(answer.url, told) for told in found]


def result(answer: httpx.Response) -> Reading | Content:
    """A job's result, of the kind its media type says."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    return answered(answer, "json" if kind == "application/json" else "pdf" if kind == "application/pdf" else "text")


def of_json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise foreign(answer.url, "no JSON object")
    return found


def of_line(url: httpx.URL, line: str) -> dict[str, Any]:
    """One event of a stream."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        raise foreign(url, "a line that is no event")
    return found


def reading(url: httpx.URL, data: bytes) -> Reading:
    try:
        return Reading.model_validate_json(data)
    except ValidationError as error:
        raise foreign(url, _first(error)) from None


def page(url: httpx.URL, event: Mapping[str, Any]) -> Page:
    try:
        return Page.model_validate(event.get("page"))
    except ValidationError as error:
        raise foreign(url, _first(error)) from None


def answered(answer: httpx.Response, output: OutputFormat) -> Reading | Content:
    """The whole answer of one document."""
    if output == "json":
        return reading(answer.url, answer.content)
    return answer.content if output == "pdf" else answer.content.decode("utf-8", "replace")


def content(url: httpx.URL, told: Any) -> Content:
    """A document that came inside JSON."""
    try:
        if told["encoding"] == "base64":
            return base64.b64decode(told["data"], validate=True)
        return str(told["data"])
    except (KeyError, TypeError, binascii.Error):
        raise foreign(url, "no content where it should be") from None


def place(url: httpx.URL, item: Any, count: int) -> int:
    """Which document of a batch of so many an item is about."""
    index = item.get("index") if isinstance(item, dict) else None
    if not isinstance(index, int) or not 0 <= index < count:
        raise foreign(url, "no document of this batch")
    return index


def outcome(url: httpx.URL, name: str, item: Mapping[str, Any]) -> Outcome:
    """One document of a batch."""
    if item.get("problem") is not None:
        return Outcome(name, error=error_of(item["problem"], int(item.get("status", 500))))
    if item.get("content") is not None:
        return Outcome(name, content=content(url, item["content"]))
    try:
        return Outcome(name, reading=Reading.model_validate(item.get("reading")))
    except ValidationError as error:
        raise foreign(url, _first(error)) from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
