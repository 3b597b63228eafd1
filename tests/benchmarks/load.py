"""Load on a service that reads documents, by a client that takes little of the cores it shares with it."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import httpx

LEAD = 3.0
"""Seconds before anything is counted: by then all users wait for an answer."""
MOST_WAITING = 200
"""Documents on their way at once where they come by the clock."""


@dataclass(frozen=True, slots=True)
class Request:
    """A document as it is sent, made up once."""

    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Answered:
    """What came back while it was counted."""

    lines: int = 0
    times: list[float] = field(default_factory=list)
    """Seconds of each document."""
    seconds: float = 0.0
    """For how long it was counted."""


def requests_of(documents: Sequence[Path]) -> list[Request]:
    """Each document in a form."""
    made = (httpx.Request("POST", "http://one", files={"file": (one.name, one.read_bytes())}) for one in documents)
    return [Request({"Content-Type": one.headers["content-type"]}, one.read()) for one in made]


@contextmanager
def users(url: str, requests: Sequence[Request], count: int) -> Iterator[Callable[[float], Answered]]:
    """So many users, each sending a document as soon as the last one is answered, all the while the block runs.

    Called with a time in seconds, it counts what is answered within it.
    """
    over, answered, lock = threading.Event(), Answered(), threading.Lock()

    def user(number: int) -> None:
        start = number * len(requests) // count
        with _connected(url) as send:
            for request in cycle([*requests[start:], *requests[:start]]):
                if over.is_set():
                    return
                begun = time.perf_counter()
                lines = send(request)
                with lock:
                    answered.lines += lines
                    answered.times.append(time.perf_counter() - begun)

    def counted(seconds: float) -> Answered:
        nonlocal answered
        begun = time.perf_counter()
        with lock:
            answered = Answered()
        time.sleep(seconds)
        with lock:
            found, answered = answered, Answered()
        found.seconds = time.perf_counter() - begun
        return found

    with ThreadPoolExecutor(count) as pool:
        working = [pool.submit(user, number) for number in range(count)]
        try:
            time.sleep(LEAD)
            yield counted
        finally:
            over.set()
        for one in working:
            one.result()


def arrivals(url: str, requests: Sequence[Request], rate: float, seconds: float) -> Answered:
    """So many documents a second, each whenever it comes, as from strangers: none waits for another's answer. Times
    count from when a document should have been sent.
    """
    clock, chosen = random.Random(0), cycle(requests)
    answered = Answered()

    def one(request: Request, due: float) -> tuple[int, float]:
        with _connected(url) as send:
            return send(request), time.perf_counter() - due

    with ThreadPoolExecutor(MOST_WAITING) as pool:
        begun, sent = time.perf_counter(), []
        # A Poisson process of which the number is known: what is compared has as many to read as it was said to have.
        for at in sorted(clock.uniform(0, seconds) for _ in range(round(rate * seconds))):
            time.sleep(max(0.0, begun + at - time.perf_counter()))
            sent.append(pool.submit(one, next(chosen), begun + at))
        for call in sent:
            lines, took = call.result()
            answered.lines += lines
            answered.times.append(took)
    answered.seconds = seconds
    return answered


@contextmanager
def _connected(url: str) -> Iterator[Callable[[Request], int]]:
    """Sends documents over one connection: how many lines each has. `RuntimeError` for any answer but a reading."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=600)

    def send(request: Request) -> int:
        connection.request("POST", "/v1/ocr", request.body, request.headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            msg = f"{answer.status} {body[:300]!r}"
            raise RuntimeError(msg)
        return sum(len(page["lines"]) for page in json.loads(body)["pages"])

    try:
        yield send
    finally:
        connection.close()
