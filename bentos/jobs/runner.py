"""Runner: takes jobs, reads them behind everybody's back, and tells who wants to know when they are over."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

from bentos.api.problems import KIND, Refusal, problem_of
from bentos.deadline import Deadline
from bentos.engine import Engine
from bentos.jobs.desk import Desk, given_up
from bentos.jobs.job import MOST_TRIES, Ask, Claim, Entry, Failure, ReadPage, State
from bentos.jobs.webhook import BACK_OFF
from bentos.usage import Allowance
from ocr_ops.core.errors import ModelFailed, OcrOpsError, OutsideSystem, StoreAway, TooLate, UnreadableDocument
from ocr_ops.core.options import LAST_PAGE, ReadOptions, merged, page_spans, written
from ocr_ops.core.reading import Page
from ocr_ops.runtime import telemetry

LEASE, HEARTBEAT = 15.0, 3.0
"""Seconds: how long a job waits for a reader that died, and how often one that lives says so."""
POLL = 1.0
SWEEP = 60.0
GIVE_WAY = 2.0
"""Seconds that a page waits, at most, for documents that somebody waits for: jobs get on, however busy it is."""
TOLD_AT_ONCE, TOLD_EACH = 32, 4
"""Webhooks that are delivered at a time: by a process, and of one caller, by all of them. A receiver that never
answers takes one until the try is given up.
"""
_AGAIN = 5.0
"""Seconds until a job is tried again."""

T = TypeVar("T")
log = logging.getLogger("bentoml.ocr_ops")


class Runner:
    """Of one gateway process: reads `at_once` jobs at a time, each a page at a time when `busy` has nothing better."""

    def __init__(
        self,
        engine: Engine,
        desk: Desk,
        *,
        at_once: int,
        busy: Callable[[], bool],
        allowance: Callable[[Ask], Allowance | None],
        over: Callable[[Ask, str, State, int], None] | None = None,
    ) -> None:
        """`allowance`: where the pages of what was asked are charged; None: nowhere. `over` hears of each job that is:
        what was asked, its id, how it ended, and how many pages were read.
        """
        self.over = over
        self.engine, self.desk, self.at_once, self.busy, self.allowance = engine, desk, at_once, busy, allowance
        self.reader = f"{engine.release.digest} {engine.settings.digest}"
        self._tasks: list[asyncio.Task[None]] = []
        self._deliveries: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins; call it in a running event loop."""
        work = [*[self._done_one] * self.at_once, self._told_one]
        self._tasks = [asyncio.create_task(self._forever(one, POLL)) for one in work]
        self._tasks.append(asyncio.create_task(self._forever(self._swept, SWEEP)))

    def stop(self) -> None:
        """Begins to leave what is half done to the others."""
        for task in self._all:
            task.cancel()

    @property
    def going(self) -> bool:
        """Whether it has not ended yet."""
        return not all(task.done() for task in self._all)

    async def close(self) -> None:
        """Stops, and waits until it has ended."""
        self.stop()
        await asyncio.gather(*self._all, return_exceptions=True)

    @property
    def _all(self) -> list[asyncio.Task[None]]:
        return [*self._tasks, *self._deliveries]

    async def _forever(self, work: Callable[[], Awaitable[bool]], pause: float) -> None:
        while True:
            try:
                more = await work()
            except StoreAway:
                more = False
            except Exception:
                log.exception("the runner of jobs failed, and goes on")
                more = False
            if not more:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _swept(self) -> bool:
        await self.desk.store.sweep()
        return False

    async def _done_one(self) -> bool:
        claim = await self.desk.store.claim(LEASE)
        if claim is None:
            return False
        job = asyncio.create_task(self._do(claim))
        beat = asyncio.create_task(self._beat(claim))
        try:
            await asyncio.wait((job, beat), return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                job.result()
        except asyncio.CancelledError:
            with suppress(StoreAway):
                await self.desk.store.hold(claim, 0)  # it is another's from now on
            raise
        finally:
            for task in (job, beat):
                task.cancel()
            await asyncio.gather(job, beat, return_exceptions=True)
        return True

    async def _beat(self, claim: Claim) -> None:
        """Returns when the job is ours no more: it was cancelled, or another has it."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            with suppress(StoreAway):
                if not await self.desk.store.hold(claim, LEASE):
                    return

    async def _do(self, claim: Claim) -> None:
        entry, counted = claim.entry, _Count(0)
        allowance = None
        try:
            ask = self.desk.ask(entry)
            allowance = self.allowance(ask)
            # A document is read by one release: what another has begun, this one begins anew.
            if entry.done and await self.desk.reader(entry) == self.reader:
                counted = _Count(entry.done)
            if not await self._read(claim, ask, counted, allowance):
                return
        except (UnreadableDocument, TooLate, Refusal) as error:
            await self._finish(claim, "failed", failure_of(error), counted.done)
        except ModelFailed as error:
            await self._failed(claim, counted, error)
        except OutsideSystem as error:
            log.warning("job %s: %s; it is tried again", entry.id, error)
            await asyncio.sleep(_AGAIN)
            with suppress(StoreAway):
                await self.desk.store.hold(claim, 0)
        else:
            await self._finish(claim, "done", None, counted.done)
        finally:
            if allowance is not None:
                await allowance.settle(counted.done - counted.before)

    async def _read(self, claim: Claim, ask: Ask, counted: "_Count", allowance: Allowance | None) -> bool:
        """Reads what is left of a job. False: it is not ours any more."""
        if counted.before and counted.before == claim.entry.total:
            return True  # only that it is done had not been said yet
        await self._give_way()
        document = await self.desk.document(claim.entry)
        options, limits = _rest(ask.options, counted.before), self.desk.settings.limits
        deadline = Deadline.after(self.desk.settings.seconds)
        async with aclosing(self.engine.pages(document, ask.name, options, deadline, limits=limits)) as pages:
            async for page in pages:
                if allowance is not None:
                    await allowance.cover(counted.done - counted.before + 1)
                if not await self._keep(claim, counted, counted.counting(page)):
                    return False
                await self._give_way()
        return True

    async def _keep(self, claim: Claim, counted: "_Count", page: Page) -> bool:
        read = ReadPage(reader=self.reader, page=page)
        sealed = await asyncio.to_thread(self.desk.sealed_page, claim.entry.id, counted.done, read)
        return await _insisted(lambda: self.desk.store.page(claim, counted.done, sealed, counted.total))

    async def _finish(self, claim: Claim, state: State, failure: Failure | None, pages: int) -> None:
        sealed = b"" if failure is None else self.desk.sealed_failure(claim.entry.id, failure)
        expires = time.time() + self.desk.settings.kept_seconds
        if await _insisted(lambda: self.desk.store.finish(claim, state, sealed, expires)):
            telemetry.job_over(state)
            with suppress(UnreadableDocument):  # the key is another by now
                if self.over is not None:
                    self.over(self.desk.ask(claim.entry), claim.entry.id, state, pages)

    async def _failed(self, claim: Claim, counted: "_Count", error: ModelFailed) -> None:
        """A page had a model fail. That may be its doing: as of one that fells its reader, the tries are counted."""
        entry = claim.entry
        tries = entry.tries if counted.done == counted.before else 0  # of this very page
        if tries >= MOST_TRIES:
            log.warning("job %s: %s; it is given up", entry.id, error)
            failure = given_up(entry.id, f"page {counted.done + 1} had a model fail {tries} times")
            await self._finish(claim, "failed", failure, counted.done)
            return
        log.warning("job %s: %s; it is tried again, but not for ever", entry.id, error)
        with suppress(StoreAway):  # its lease runs out by itself
            await self.desk.store.leave(claim, _AGAIN)

    async def _give_way(self) -> None:
        end = time.monotonic() + GIVE_WAY
        while self.busy() and time.monotonic() < end:  # noqa: ASYNC110  what is busy sets no event
            await asyncio.sleep(0.05)

    async def _told_one(self) -> bool:
        if len(self._deliveries) >= TOLD_AT_ONCE:
            await asyncio.wait(self._deliveries, return_when=asyncio.FIRST_COMPLETED)
        claim = await self.desk.store.claim_notice(LEASE, TOLD_EACH)
        if claim is None:
            return False
        delivery = asyncio.create_task(self._tell(claim))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        return True

    async def _tell(self, claim: Claim) -> None:
        entry = claim.entry
        sent = await self._sent(entry)
        telemetry.webhook_tried("sent" if sent else "failed")
        with suppress(StoreAway):  # its lease runs out by itself
            if sent or entry.notices > len(BACK_OFF):
                await self.desk.store.noticed(claim, "sent" if sent else "given-up", 0)
            else:
                pause = BACK_OFF[entry.notices - 1] * random.uniform(0.8, 1.2)
                await self.desk.store.noticed(claim, "due", pause)

    async def _sent(self, entry: Entry) -> bool:
        """Whether a job's webhook was. Whatever goes wrong is a delivery that failed: of those there is a last one."""
        told = {"type": f"job.{entry.state}", "job": entry.id, "pages": entry.done, "tries": entry.notices}
        try:
            url = self.desk.ask(entry).webhook
            return url is not None and await self.desk.webhooks.send(url, self.desk.secret(entry), entry.id, told)
        except Exception as error:  # noqa: BLE001  what it says may have the URL in it, which is told nobody
            log.warning("webhook of job %s: %s", entry.id, type(error).__name__)
            return False


class _Count:
    """Pages of a job, of which the first `done` were read before."""

    def __init__(self, done: int) -> None:
        self.before = self.done = done
        self.total: int | None = None

    def counting(self, page: Page) -> Page:
        """One page more; it tells how many there are with those that were read before."""
        self.done += 1
        self.total = None if page.of is None else self.before + page.of
        return page.model_copy(update={"of": self.total})


def failure_of(error: OcrOpsError) -> Failure:
    """An error as it is told of a job, when somebody asks."""
    problem = problem_of(error)
    return Failure(
        kind=problem.type.removeprefix(KIND),
        status=problem.status,
        subject=error.subject,
        found=error.found,
        expected=error.expected,
        remedy=error.remedy,
    )


def _rest(options: ReadOptions, done: int) -> ReadOptions:
    """The options that read what is left when the first `done` of the pages wanted are read."""
    if not done:
        return options
    left = []
    for first, last in merged(page_spans(options.pages or f"1-{LAST_PAGE}")):
        skipped = min(done, last - first + 1)
        done -= skipped
        if first + skipped <= last:
            left.append((first + skipped, last))
    return options.model_copy(update={"pages": written(left)})


async def _insisted(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives, once the store is there: what was read is not thrown away because it is not."""
    while True:
        with suppress(StoreAway):
            return await work()
        await asyncio.sleep(POLL)
