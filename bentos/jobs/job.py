"""Jobs: what one is, where it is kept, and what every place that keeps them promises."""

from dataclasses import dataclass
from typing import Literal, Protocol

from ocr_ops.core.keys import Limits
from ocr_ops.core.options import OutputFormat, ReadOptions
from ocr_ops.core.reading import Page
from ocr_ops.core.record import Value

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Notice = Literal["none", "due", "sent", "given-up"]
"""Of the webhook: none is wanted, or not yet; to be sent; sent; no more tries."""

OVER: tuple[State, ...] = ("done", "failed", "cancelled")
MOST_TRIES = 3
"""Readers that a page may fell before it is believed to be its doing."""


class Ask(Value):
    """What a caller asks for. It is kept sealed."""

    name: str
    options: ReadOptions
    output: OutputFormat = "json"
    webhook: str | None = None
    caller: str = ""
    """Whose quota the pages are of, and what it is."""
    limits: Limits = Limits()


class ReadPage(Value):
    """A page of a job, and what read it. It is kept sealed."""

    reader: str
    page: Page


class Failure(Value):
    """Why a job failed. It is kept sealed: the subject is the document's name."""

    kind: str
    status: int
    subject: str
    found: str
    expected: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A job as it is kept: nothing of its document stands here unsealed."""

    id: str
    owner: str
    """A keyed hash of who submitted it."""
    asked: str
    """A keyed hash of all that was submitted: what the same id may be submitted with again."""
    ask: bytes
    size: int
    """Bytes of the document, and of the pages that are kept."""
    created: float
    """Seconds of the epoch, as are all times here."""
    expires: float
    """When it, its document and its pages are erased."""
    state: State = "waiting"
    finished: float | None = None
    done: int = 0
    """Pages read."""
    total: int | None = None
    """Pages there are; None: not known yet."""
    failure: bytes = b""
    tries: int = 0
    """Claims since its last page."""
    webhook: bool = False
    notice: Notice = "none"
    notices: int = 0
    """Deliveries tried."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is ours to do, or to tell of, as long as the token is the one that is kept."""

    entry: Entry
    token: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be kept."""

    unfinished: int
    """Jobs that wait or run, of everybody."""
    each: int
    """The same, of one owner."""
    size: int
    """Bytes of documents and their pages, of jobs that are over too. One owner's may take as many as are left free: who
    comes next finds room, however much others keep.
    """


Refused = Literal["unfinished", "each", "size", "share", "asked"]
"""Why a job is not taken: a bound of this name, the owner's share of `size`, or the id is known and what was asked
another.
"""


class JobStore(Protocol):
    """Keeps jobs for all processes that do them. `StoreAway` when it cannot be reached.

    A job is done by one at a time: whoever claims it has a lease, and once the lease has run out and another has
    claimed it, nothing the first one says is heard any more.
    """

    async def add(self, entry: Entry, document: bytes, bounds: Bounds) -> Entry | Refused:
        """Keeps a job with its sealed document. One of the same id that is there already is the answer instead."""

    async def get(self, job: str) -> Entry | None:
        """None also for one that has expired."""

    async def mine(self, owner: str) -> list[Entry]:
        """All of an owner, the newest first."""

    async def document(self, job: str) -> bytes | None:
        """As it was added."""

    async def pages(self, job: str) -> list[bytes]:
        """The sealed pages there are, in their order."""

    async def claim(self, lease: float) -> Claim | None:
        """A job to do for `lease` seconds; None when there is none. Owners take turns; of one's, the oldest is first.

        One that was claimed `MOST_TRIES` times without getting a page further is not claimed, but failed.
        """

    async def hold(self, claim: Claim, lease: float) -> bool:
        """Whether it is still ours; if so, for another `lease` seconds. With 0 it is given back: it waits, is free at
        once, and the claim does not count as one that felled its reader.
        """

    async def leave(self, claim: Claim, pause: float) -> bool:
        """Gives it back after a claim that counts: it waits, and is free in `pause` seconds. False: it is not ours any
        more.
        """

    async def page(self, claim: Claim, number: int, page: bytes, total: int | None) -> bool:
        """Keeps page `number`, counted from 1. With the first the document is begun anew, and those kept before are
        dropped. False: it is not ours any more.
        """

    async def finish(self, claim: Claim, state: State, failure: bytes, expires: float) -> bool:
        """It is over. False: it is not ours any more."""

    async def cancel(self, job: str, expires: float) -> Entry | None:
        """Ends it, unless it is over; erases its document and pages. What it is then; None: it is not there."""

    async def erase(self, job: str) -> None:
        """Leaves nothing of it."""

    async def claim_notice(self, lease: float, each: int) -> Claim | None:
        """A job whose webhook is due, of an owner fewer than `each` of whose are just being delivered."""

    async def noticed(self, claim: Claim, notice: Notice, again: float) -> bool:
        """What became of a delivery; when it is still `due`, the next is in `again` seconds."""

    async def sweep(self) -> None:
        """Erases what has expired."""

    async def close(self) -> None:
        """Lets go of files and connections."""
