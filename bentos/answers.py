"""Answers: readings from the cache, from one who is just reading the same, or from the engine."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from pydantic import ValidationError

from bentos.cache import Cache, Turn
from bentos.deadline import Deadline
from bentos.engine import Engine
from ocr_ops import __version__
from ocr_ops.core.errors import UnreadableDocument
from ocr_ops.core.options import ReadOptions
from ocr_ops.core.reading import Page, Reading
from ocr_ops.runtime import telemetry

_LARGE = 2**20
"""Bytes beyond which hashing is worth a thread."""


@dataclass(frozen=True, slots=True)
class _Question:
    data: bytes
    name: str
    options: ReadOptions
    deadline: Deadline


@dataclass(slots=True, eq=False)
class _Flight:
    """A document being read, for all who ask for it. It goes on until nobody is left."""

    task: asyncio.Task[None] = field(init=False)
    pages: list[Page] = field(default_factory=list)
    whole: bool = False
    passengers: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self) -> None:
        """Wakes all who wait."""
        self.news.set()
        self.news = asyncio.Event()

    @property
    def over(self) -> bool:
        return self.whole or self.task.done()


class Answers:
    """Of one gateway process. `cache` None: every document is read, whoever else asks for the same.

    What decides an answer is its key: the document, the release, how it is served, the options, and the toolkit. An
    answer of one release is therefore never one of another's, however long Redis keeps it.
    """

    def __init__(self, engine: Engine, cache: Cache | None) -> None:
        self.engine, self.cache = engine, cache
        self._flights: dict[str, _Flight] = {}
        self._about = (engine.release.digest, engine.settings.digest, repr(engine.limits), __version__)

    async def read(
        self, data: bytes, name: str, options: ReadOptions, deadline: Deadline, *, cached: bool = True
    ) -> Reading:
        """The whole document, as `stream`."""
        async with aclosing(self.stream(data, name, options, deadline, cached=cached, patient=True)) as pages:
            return Reading(pages=tuple([page async for page in pages]))

    def stream(
        self,
        data: bytes,
        name: str,
        options: ReadOptions,
        deadline: Deadline,
        *,
        cached: bool = True,
        patient: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """Its pages as they come, errors as `Engine.pages`; close it early to leave.

        `cached` False: nothing is kept of it, and nobody shares it. `patient`: another replica that is reading the same
        is waited for, though its pages come all at once in the end.
        """
        # Half the time that is left is for the other replica to answer, the other half for ourselves.
        patience = deadline.remaining() / 2 if patient else 0.0
        return self._pages(_Question(data, name, options, deadline), patience, cached=cached)

    async def close(self) -> None:
        """Waits until what was read is kept."""
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)

    async def purge(self) -> None:
        """Forgets every answer. `StoreAway` when Redis cannot be told to."""
        if self.cache is not None:
            await self.cache.purge()

    async def _pages(self, question: _Question, patience: float, *, cached: bool) -> AsyncGenerator[Page, None]:
        if self.cache is None or not cached:
            telemetry.cache_asked("bypass")
            async with aclosing(self._computed(question)) as pages:
                async for page in pages:
                    yield page
            return
        key = await self._key(question)
        had = 0
        while True:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._start(self.cache, key, question, patience)
            else:
                telemetry.cache_asked("wait")
            async with aclosing(self._aboard(key, flight, had, question)) as pages:
                async for page in pages:
                    had += 1
                    yield page
            if flight.whole:
                return
            error = asyncio.CancelledError() if flight.task.cancelled() else flight.task.exception()
            # Why it failed may be the leader's own affair, such as a shorter deadline: whoever followed tries in turn.
            if error is not None and leads:
                raise error
            if isinstance(error, UnreadableDocument):  # by the leader's own name, which is nobody else's business
                raise UnreadableDocument(question.name, error.found, error.expected, error.remedy, error.http_status)
            self._leave(key, flight)

    def _computed(self, question: _Question) -> AsyncGenerator[Page, None]:
        return self.engine.pages(question.data, question.name, question.options, question.deadline)

    async def _key(self, question: _Question) -> str:
        data, options = question.data, question.options
        if not self.engine.orient:
            options = options.model_copy(update={"orientation": False})
        digest = await asyncio.to_thread(_digest, data) if len(data) > _LARGE else _digest(data)
        return " ".join((digest, options.digest, *self._about))

    def _start(self, cache: Cache, key: str, question: _Question, patience: float) -> _Flight:
        flight = _Flight()

        async def fly() -> None:
            async with cache.turn(key, patience) as turn:
                if await _cached(turn, flight):
                    telemetry.cache_asked("hit")
                    return
                telemetry.cache_asked("miss")
                async with aclosing(self._computed(question)) as pages:
                    async for page in pages:
                        flight.pages.append(page)
                        flight.tell()
                flight.whole = True
                flight.tell()
                turn.kept = await asyncio.to_thread(_packed, flight.pages)

        def landed(task: asyncio.Task[None]) -> None:
            self._leave(key, flight)
            flight.tell()
            if not task.cancelled():
                task.exception()  # whoever is aboard raises it; if nobody is, nobody needs to know

        flight.task = asyncio.create_task(fly())
        flight.task.add_done_callback(landed)
        self._flights[key] = flight
        return flight

    async def _aboard(self, key: str, flight: _Flight, had: int, question: _Question) -> AsyncGenerator[Page, None]:
        """Pages of a flight from number `had` on, until it is over; the last one to leave ends it."""
        flight.passengers += 1
        try:
            while True:
                news = flight.news
                while had < len(flight.pages):
                    yield flight.pages[had]
                    had += 1
                if flight.over:
                    return
                if news is not flight.news:
                    continue  # something came while the last page was on its way
                try:
                    async with question.deadline.timeout():
                        await news.wait()
                except TimeoutError:
                    raise question.deadline.too_late(question.name) from None
        finally:
            flight.passengers -= 1
            if not flight.passengers and not flight.over:
                self._leave(key, flight)
                flight.task.cancel()

    def _leave(self, key: str, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _cached(turn: Turn, flight: _Flight) -> bool:
    """Whether the turn has a value that is a reading; its pages are then the flight's."""
    if turn.value is None:
        return False
    try:
        reading = await asyncio.to_thread(Reading.model_validate_json, turn.value)
    except ValidationError:  # of a toolkit under development: those released say so in the key
        return False
    flight.pages.extend(reading.pages)
    flight.whole = True
    flight.tell()
    return True


def _packed(pages: list[Page]) -> bytes:
    return Reading(pages=tuple(pages)).model_dump_json().encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
