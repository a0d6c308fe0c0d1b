"""Reads of stores that are far away: by a few threads, one read for all requests that wait.

Requests of one shape that come while others are read, or in the same turn of the event loop, go into one read; equal
keys in it are read once. So under load the reads grow, not their number, and a store that is slow is asked less often.
A request waits for its store `timeout` seconds at most; then it is answered as in an outage, though the thread may
still wait. Only the store's time counts: that a view's own functions take long, or that all threads are taken, says
nothing of the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from grange.errors import GrangeError, OverloadedError, StoreUnavailableError
from grange.serving.guarding import GuardedOnlineStore, Waiting, left_alone, watched

if TYPE_CHECKING:
    from grange.http.hot import Work
    from grange.http.messages import Reply
    from grange.http.plans import Plan

T = TypeVar("T")

THREADS: Final = 4
"""Reads at once. More do not help: between two answers there is Python's own work, one thread at a time."""
PATIENCE_S: Final = 2.0
"""What working out a new shape may take beyond a read, and waiting for a thread."""
LONG_S: Final = 0.2
"""A thread that computes for longer is not counted among those that read: others go on without it."""
MOST_ROWS: Final = 2_000
"""Vectors in one read at most; a larger request is a read of its own."""

Answering = Callable[["Plan", list["Work"]], list["Reply"]]
Results = list["Reply | BaseException"]
"""Per request its answer or its error."""


@dataclass(slots=True)
class _Job:
    """One read and what is made of it, by a thread."""

    work: Callable[[], Results]
    pool: ThreadPoolExecutor
    waiting: Waiting = field(default_factory=lambda: Waiting(time.monotonic))
    began: float = 0.0
    """When its thread had time for it."""
    is_lost: bool = False
    """Whether its thread is not counted on any more."""
    thread: Future[Results] = field(init=False)
    results: asyncio.Future[Results] = field(init=False)
    """The same, for the event loop."""

    def __post_init__(self) -> None:
        self.thread = self.pool.submit(self._run)
        self.results = asyncio.wrap_future(self.thread)

    def _run(self) -> Results:
        self.began = time.monotonic()
        with watched(self.waiting):
            return self.work()

    @property
    def computed(self) -> float:
        """Seconds that it has run, save for those of the store."""
        return time.monotonic() - self.began - self.waiting.seconds


@dataclass(slots=True)
class _Queue:
    """Requests of one shape that wait for their read."""

    waiting: list[tuple[Work, asyncio.Future[Reply]]] = field(default_factory=list)
    reading: int = 0
    is_due: bool = False


class Batches:
    """The reads of one project's store.

    Args:
        guard: the store; None where it cannot be left alone.
        timeout: seconds that a read may take.
        threads: reads at once.
    """

    def __init__(
        self, guard: Callable[[], GuardedOnlineStore | None], *, timeout: float, threads: int = THREADS
    ) -> None:
        self._guard = guard
        self._timeout = timeout
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grange-online")
        self._queues: dict[tuple[int, Any], _Queue] = {}
        self._lost = 0
        """Threads that still wait for a read that was given up, or compute for long."""

    async def answer(self, plan: Plan, work: Work, answering: Answering) -> Reply:
        """One request's answer, from a read that it shares with others.

        Raises:
            StoreUnavailableError: an outage, or no answer in time, where the view's policy is to say so.
            and whatever the read raises of this request alone.
        """
        loop = asyncio.get_running_loop()
        key = id(plan), work.request.now
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        future: asyncio.Future[Reply] = loop.create_future()
        queue.waiting.append((work, future))
        if not queue.is_due and queue.reading < self._threads:
            queue.is_due = True
            loop.call_soon(self._read, key, queue, plan, answering)
        return await future

    async def within_time(self, work: Callable[[], T]) -> T:
        """What `work` gives, done by a thread; done once more without the store when that takes too long. It is more
        than a read, so that it is slow says nothing of the store."""
        working = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.wait_for(asyncio.shield(working), self._timeout + PATIENCE_S)
        except TimeoutError:
            working.add_done_callback(_forget_result)
            return await asyncio.to_thread(_without_store, work)

    def close(self) -> None:
        """Stop the threads; those that are stuck end with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, key: tuple[int, Any], queue: _Queue, plan: Plan, answering: Answering) -> None:
        """Hand what waits to a thread."""
        queue.is_due = False
        taken = _taken(queue)
        if not taken:
            if not queue.reading:
                self._queues.pop(key, None)
            return
        queue.reading += 1
        task = asyncio.ensure_future(self._read_in_thread(plan, taken, answering))
        task.add_done_callback(lambda _: self._was_read(key, queue, plan, answering))

    def _was_read(self, key: tuple[int, Any], queue: _Queue, plan: Plan, answering: Answering) -> None:
        queue.reading -= 1
        self._read(key, queue, plan, answering)

    async def _read_in_thread(
        self, plan: Plan, taken: list[tuple[Work, asyncio.Future[Reply]]], answering: Answering
    ) -> None:
        results = await self._results(plan, [work for work, _ in taken], answering)
        for (_, future), result in zip(taken, results, strict=True):
            if future.done():  # whoever asked is gone
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _results(self, plan: Plan, works: list[Work], answering: Answering) -> Results:
        """What a thread makes of a read; without the store when that does not answer in time.

        It is looked at whenever the store's time may be up, so long after the last look as is left of it then; and
        more often until its thread is done or not counted on any more.
        """
        asked_at = time.monotonic()
        job = _Job(lambda: _each(answering, plan, works), self._pool)
        while True:
            left = self._timeout - job.waiting.seconds
            if left <= 0 and job.waiting.is_under_way:
                return self._given_up(job)
            pause = left if left > 0 else self._timeout
            await asyncio.wait({job.results}, timeout=pause if job.is_lost else min(pause, LONG_S))
            if job.results.done():
                return job.results.result()
            if job.thread.running():
                self._note_long(job)
            elif time.monotonic() - asked_at > self._timeout + PATIENCE_S and job.thread.cancel():
                return [_no_thread()] * len(works)
            elif job.pool is not self._pool and job.thread.cancel():
                job = _Job(job.work, self._pool)

    def _given_up(self, job: _Job) -> Results:
        """Answers without the store, by each view's policy. How many threads hang is bounded by the breaker."""
        guard = self._guard()
        if guard is not None:
            guard.timed_out()
        job.results.add_done_callback(_forget_result)
        self._lose(job)
        return _without_store(job.work)

    def _note_long(self, job: _Job) -> None:
        """Do not count on a thread that computes for long: a view whose functions are slow takes none from others. How
        many there are is bounded by the requests that a server takes at once."""
        if job.computed > LONG_S:
            self._lose(job)

    def _lose(self, job: _Job) -> None:
        """Go on without a job's thread. When all are lost there are new ones, and who waits for an old one gets one."""
        if job.is_lost or job.pool is not self._pool:
            return
        job.is_lost = True
        self._lost += 1
        if self._lost == self._threads:
            self._lost = 0
            self._pool.shutdown(wait=False)
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="grange-online")
        else:
            job.results.add_done_callback(lambda _: self._found(job))

    def _found(self, job: _Job) -> None:
        """A lost thread is done: its pool, if it is still in use, has it back."""
        if job.pool is self._pool:
            self._lost -= 1


def _taken(queue: _Queue) -> list[tuple[Work, asyncio.Future[Reply]]]:
    """The next requests of a queue, up to the size of a read."""
    count = rows = 0
    for work, _ in queue.waiting:
        rows += len(work.rows)
        if count and rows > MOST_ROWS:
            break
        count += 1
    taken, queue.waiting = queue.waiting[:count], queue.waiting[count:]
    return taken


def _each(answering: Answering, plan: Plan, works: list[Work]) -> list[Reply | BaseException]:
    """Per request its answer or its error. When one of several is wrong, each is read by itself: nobody's mistake is
    another's error. An outage is everybody's; of a group that is lost in part, others may ask for what is there."""
    try:
        return list(answering(plan, works))
    except GrangeError as error:
        if isinstance(error, StoreUnavailableError) and not error.details.get("partly"):
            return [error] * len(works)
        if len(works) == 1:
            return [error]
        return [result for work in works for result in _each(answering, plan, [work])]
    except Exception as error:  # noqa: BLE001 - carried to the loop, where the boundary of each request handles it
        return [error] * len(works)


def _no_thread() -> OverloadedError:
    return OverloadedError(
        "all threads that answer are taken by views whose functions take long",
        try_="come again in a second",
        details={"retry_after": 1.0},
    )


def _without_store(work: Callable[[], T]) -> T:
    with left_alone():
        return work()


def _forget_result(reading: asyncio.Future[Any]) -> None:
    """Nobody asks any more for what a read that was given up came to."""
    if not reading.cancelled():
        reading.exception()
