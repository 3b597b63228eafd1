"""Problems: what a service refuses with (RFC 9457), as the errors of the toolkit."""

import email.utils
import json
import ssl
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx

from ocr_ops.core.errors import (
    BadInput,
    ModelAway,
    NotAllowed,
    OcrOpsError,
    OutsideSystem,
    Overloaded,
    Refused,
    ServiceAway,
    ServiceFailed,
    TooLate,
    UnreadableDocument,
    UnwritableLanguage,
    UsageError,
)

PROBLEM = "application/problem+json"
KIND = "urn:ocr-ops:problem:"
AGAIN = frozenset({408, 409, 425, 429, 502, 503, 504})
"""Statuses that may go away by themselves."""

_KINDS: Mapping[str, type[BadInput | OutsideSystem]] = {
    "unwritable-language": UnwritableLanguage,
    "model-away": ModelAway,
    "too-late": TooLate,
}
_UNREADABLE = "unreadable-document"
_OVERLOADED = "overloaded"
_FOREIGN = "an answer that is none of an ocr_ops service"


def error_of_answer(answer: httpx.Response) -> OcrOpsError:
    """An answer that is no success, as an error. Its body has been read."""
    problem: Any = None
    if answer.headers.get("content-type", "").partition(";")[0] == PROBLEM:
        try:
            problem = json.loads(answer.content)
        except ValueError:
            problem = None
    if not isinstance(problem, dict):
        url = answer.request.url
        phrase = f"{answer.status_code} {answer.reason_phrase}".strip()
        problem = {"subject": f"{url.scheme}://{url.netloc.decode('ascii')}{url.path}", "detail": phrase}
    return error_of(problem, answer.status_code, retry_after(answer.headers))


def error_of(problem: Mapping[str, Any], status: int, told: float | None = None) -> OcrOpsError:
    """A problem as an error of its kind; `told` is after how many seconds the service would be asked again."""
    parts = (
        str(problem.get("subject", "request")),
        str(problem.get("detail", _phrase(status))),
        str(problem.get("expected", "an answer")),
        str(problem.get("remedy", "check the request, and the URL")),
    )
    kind = str(problem.get("type", "")).removeprefix(KIND)
    if kind == _UNREADABLE:
        return UnreadableDocument(*parts, status)
    if kind in _KINDS:
        return _KINDS[kind](*parts)
    away = status == HTTPStatus.SERVICE_UNAVAILABLE and told is not None
    if away or kind == _OVERLOADED or status == HTTPStatus.TOO_MANY_REQUESTS:
        return Overloaded(*parts, round(told or 1))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return NotAllowed(*parts)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Refused(*parts, status)
    request = str(problem.get("instance", "")).rpartition(":")[2]
    remedy = f"{parts[3]}: {request}" if request else parts[3]
    return ServiceFailed(*parts[:3], remedy)


def error_of_transport(url: object, error: httpx.TransportError) -> OcrOpsError:
    """A connection that could not be had, or broke."""
    if isinstance(error, httpx.LocalProtocolError):
        # What it says may hold the header that is wrong, and so the key.
        found = "a request that cannot be written as HTTP"
        return UsageError(url, found, "a URL and a key as HTTP takes them", "check both")
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout | httpx.PoolTimeout):
        return TooLate(url, "no answer in time", "a quicker answer", "send fewer pages at once, or allow more time")
    if distrusted(error):
        remedy = "check the URL; SSL_CERT_FILE names an authority of your own, and so does `verify` of a client"
        return ServiceAway(url, f"no trust in it: {error}", "a certificate by an authority known here", remedy)
    found = f"no answer: {error}" if str(error) else f"no answer: {type(error).__name__}"
    return ServiceAway(url, found, "a running service", "check the URL, and that it is up")


def distrusted(error: httpx.TransportError) -> bool:
    """Whether the service's certificate was not believed, which it would not be the next time either."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def foreign(subject: object, found: str) -> ServiceFailed:
    """An answer that makes no sense."""
    return ServiceFailed(subject, f"{_FOREIGN}: {found}", "a service of this version", "check the URL and its version")


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that the header of that name asks for, as a number or as a date; None where it says nothing."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit() and len(value) < 9:
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}".lower()
    except ValueError:
        return str(status)
