"""Admission: which documents are let in. What could not be answered in time is turned away at once, unreceived."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ocr_ops.core.errors import Overloaded
from ocr_ops.runtime import telemetry

ALWAYS = 2
"""Documents that are let in however slow the last ones were: of nobody nothing could be learnt."""
_MEMORY = 0.1
"""What a page counts in the mean pace: it follows the last ten or twenty."""
_OUTLIER = 3.0
"""Times the mean pace: what a page counts for at most."""
_LATE = 0.02
"""Of the pages that wait for others, those that may take longer than they were expected to: a promise is of the 95th
percentile, and kept with something to spare."""
_LESSON = 0.05
"""What one page counts in the caution."""
_MOST_CAUTION = 4.0


@dataclass(slots=True)
class Admission:
    limit: int
    """Documents at once."""
    promised: float = math.inf
    """Seconds within which what is let in should be answered."""
    expected: Callable[[int], float] = lambda _: 0.0
    """Seconds that an answer would take, beside so many documents."""
    inside: int = 0
    closed: bool = False
    """Whether the service is about to end, and lets in no more."""

    def close(self) -> None:
        """Lets in no more documents."""
        self.closed = True

    @contextmanager
    def admit(self) -> Iterator["Places"]:
        """Holds a place for one document while the block runs, and those it takes for others that came with it.
        `Overloaded` when it could not be answered in time.
        """
        if self.closed:
            raise Overloaded("service", "about to end", "one that goes on", "try again at once: another takes over")
        if self.inside >= self.limit:
            raise Overloaded("service", f"{self.inside} documents in flight", "fewer", "try again soon")
        expected = self.expected(self.inside)
        if self.inside >= ALWAYS and expected > self.promised:
            found, wanted = f"an answer would take {expected:.1f} s", f"at most {self.promised:g}"
            later = max(1, math.ceil(expected - self.promised))
            raise Overloaded("service", found, wanted, f"try again in {later} s", later)
        places = Places(self)
        places.hold(1)
        try:
            yield places
        finally:
            places.hold(0)


@dataclass(slots=True)
class Places:
    """What one request holds."""

    admission: Admission
    held: int = 0

    def take(self, documents: int) -> None:
        """Holds as many as the request turned out to bring. `Overloaded` when others leave no room for them; alone, a
        request may bring more than there are places.
        """
        others = self.admission.inside - self.held
        if others and others + documents > self.admission.limit:
            found = f"{others} documents in flight, and {documents} more"
            raise Overloaded("service", found, f"at most {self.admission.limit}", "try again soon, or send fewer")
        self.hold(documents)

    def hold(self, documents: int) -> None:
        """From now on, so many."""
        telemetry.documents_in_flight(documents - self.held)
        self.admission.inside += documents - self.held
        self.held = documents


@dataclass(slots=True)
class Pace:
    """How fast pages get done, all of them together."""

    seconds: float = 0.0
    """A page, the mean of the last ones; 0 before any."""
    working: int = 0
    """Pages that are worked on."""
    since: float = 0.0
    caution: float = 1.2
    """Times the time that the mean pace would have a page wait for: so long is expected. At first, of nobody nothing
    was learnt."""

    def expected(self, before: int) -> float:
        """Seconds until a page is read that comes after so many; it takes longer once in fifty times."""
        return (before + 1) * self.seconds * self.caution

    def learn(self, expected: float, took: float) -> None:
        """Of a page that had to wait: how far what was expected is to be trusted."""
        lesson = _LESSON * ((took > expected) - _LATE)
        self.caution = min(max(1.0, self.caution + lesson), _MOST_CAUTION)

    @contextmanager
    def page(self) -> Iterator[None]:
        """Counts a page as worked on while the block runs."""
        if not self.working:
            self.since = time.monotonic()
        self.working += 1
        try:
            yield
            now = time.monotonic()
            took, self.since = now - self.since, now
            # A model that was started anew, or one page like no other, is no pace.
            took = min(took, _OUTLIER * self.seconds) if self.seconds else took
            self.seconds += (took - self.seconds) * (_MEMORY if self.seconds else 1)
        finally:
            self.working -= 1
