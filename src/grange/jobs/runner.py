"""The runner: a few threads that do jobs, and one that tells that they are alive.

A job's record is in the registry before it begins. While it runs, a heartbeat writes its progress; a job whose process
ends without saying how it ended is read as interrupted. Stopping is cooperative: between two steps.
"""

from __future__ import annotations

import datetime as dt
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grange.errors import ConflictError, CorruptStoreError, GrangeError, OverloadedError, StoreUnavailableError
from grange.jobs.records import Job, Process, documents_of, forget_old, new_id, save, stop_requested
from grange.jobs.results import RESULTS_KEPT, JobResults
from grange.verbs.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

    from grange.ports.registry import Documents
    from grange.store import FeatureStore

WORKERS: Final = 4
"""Jobs at once per process."""
MOST_QUEUED: Final = 100
HEARTBEAT: Final = 1.0
"""Seconds between two looks at the running jobs: what changed is written, and who is to stop is told."""
ALIVE: Final = 10.0
"""Seconds after which a job tells that it is alive though nothing changed."""
LOG: Final = logging.getLogger("grange.jobs")


class JobStoppedError(Exception):
    """Raised inside a job that was asked to stop, where it tells its progress. No error of Grange's: nothing on the way
    takes it for a failed step."""


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """What a job came to."""

    data: Mapping[str, Any]
    """JSON-able; the job's `result`."""
    rows: pa.Table | None = None
    """Rows to be fetched later."""


@dataclass(slots=True)
class JobHandle:
    """A job as the function that does it sees it."""

    _job: Job
    _documents: Documents
    _results: JobResults
    _clock: Callable[[], dt.datetime]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: str | None = None
    _dirty: bool = True
    _saved_at: float = float("-inf")
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def job(self) -> Job:
        """What is known of it at this moment."""
        return self._job

    def progress(self, step: Progress) -> None:
        """Take down a step; what verbs call `progress=` with.

        Raises:
            JobStoppedError: somebody asked the job to stop.
        """
        self.check()
        before = self._job.progress
        self._change(lambda job: job.with_(progress=asdict(step)))
        if before is None or (before["group"], before["stage"]) != (step.group, step.stage):
            rows = "" if step.rows is None else f", {step.rows} rows"
            self.log(f"{step.group}: {step.stage}{rows} ({step.position} of {step.total})")

    def log(self, text: str) -> None:
        """Add a line to its log."""
        self._change(lambda job: job.with_line(text, now=self._clock()))

    def check(self) -> None:
        """Raise JobStoppedError where somebody asked the job to stop."""
        if self._stop is not None:
            raise JobStoppedError(self._stop)

    def _change(self, make: Callable[[Job], Job]) -> None:
        with self._lock:
            if not self._job.is_over:
                self._job, self._dirty = make(self._job), True

    def _save(self, *, least_age: float = 0.0) -> bool:
        """Write the record if it changed or is due; False where it could not be written, and is still to be."""
        with self._lock:
            due = self._dirty or time.monotonic() - self._saved_at > least_age
            if not due:
                return True
            now = self._clock()
            if not self._job.is_over:
                self._job = self._job.with_(heartbeat_at=now)
            job, self._dirty = self._job, False
            try:
                save(self._documents, job, now=now)
            except (StoreUnavailableError, ConflictError, CorruptStoreError):
                self._dirty = True
                return False
            self._saved_at = time.monotonic()
            return True


Work = Callable[[JobHandle], JobOutcome]


class JobRunner:
    """The jobs of one process. Safe to use from several threads.

    Args:
        workers: how many run at once; others wait their turn.
        clock: the time.
        heartbeat: seconds between two looks at the running jobs.
    """

    def __init__(
        self,
        *,
        workers: int = WORKERS,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._heartbeat = heartbeat
        self._waiting: queue.SimpleQueue[tuple[JobHandle, Work] | None] = queue.SimpleQueue()
        self._live: dict[tuple[int, str], JobHandle] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._cleared: set[int] = set()

    def submit(
        self,
        store: FeatureStore,
        work: Work,
        *,
        kind: str,
        what: str,
        created_by: str,
        owner: str,
        request: Mapping[str, Any] | None = None,
        request_id: str = "",
        read: Mapping[str, Any] | None = None,
    ) -> JobHandle:
        """Take on a job; its record is in the registry when this returns.

        Args:
            store: whose job it is: its registry has the record, its folder the rows.
            work: does it. It tells its progress, and is stopped there.
            kind: what sort of work.
            what: what it works on.
            created_by: the name of who asks.
            owner: their id.
            request: what was asked for, JSON-able.
            request_id: of the request that asks.
            read: what it reads, as `Job.read`.

        Raises:
            OverloadedError: too many are waiting, or the server is stopping.
            StoreUnavailableError: the registry cannot be reached; there is no job.
        """
        documents, now = documents_of(store), self._clock()
        with self._lock:
            if self._closed.is_set() or len(self._live) >= MOST_QUEUED:
                raise OverloadedError(
                    "no more jobs are taken on", found=f"{len(self._live)} waiting or running here",
                    try_="the same again later", details={"retry_after": 5},
                )  # fmt: skip
        job = Job(
            new_id(documents), kind, what, "queued", now, created_by, owner, Process.current(), now,
            dict(request or {}), request_id, read=read,
        )  # fmt: skip
        save(documents, job, now=now)
        handle = JobHandle(job, documents, JobResults.of(store.project), self._clock)
        with self._lock:
            self._live[id(documents), job.id] = handle
            self._start()
        self._clear_once(documents, handle._results)
        self._waiting.put((handle, work))
        return handle

    def wait(self, handle: JobHandle, seconds: float) -> Job:
        """Wait for a job to be over, at most so long; what is known of it then."""
        handle._over.wait(seconds)
        return handle.job

    def running(self) -> int:
        """How many jobs wait or run here."""
        with self._lock:
            return len(self._live)

    def close(self, grace: float = 0.0) -> None:
        """Take on no more, let those that run go on for a while, and say of the others that they were interrupted.

        Args:
            grace: seconds.
        """
        self._closed.set()
        for handle in self._handles():
            if handle.job.status == "queued":
                self._interrupt(handle, "the server stopped before it began")
        end = time.monotonic() + grace
        for handle in self._handles():
            handle._over.wait(max(0.0, end - time.monotonic()))
        for handle in self._handles():
            self._interrupt(handle, "the server stopped")
        for _ in self._threads:
            self._waiting.put(None)
        self._beat()

    def _handles(self) -> list[JobHandle]:
        with self._lock:
            return list(self._live.values())

    def _start(self) -> None:
        """Start the threads, the first time. They are daemons: a server that is told to stop does not wait for a job
        that goes on for longer than its grace."""
        if self._threads:
            return
        names = [f"grange-job-{number}" for number in range(self._workers)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        beat = threading.Thread(target=self._beats, name="grange-job-heartbeat", daemon=True)
        for thread in (*self._threads, beat):
            thread.start()

    def _work(self) -> None:
        while (taken := self._waiting.get()) is not None:
            handle, work = taken
            if handle.job.status == "queued":
                self._run(handle, work)

    def _run(self, handle: JobHandle, work: Work) -> None:
        """Do one job and take down how it ended. Where a thread of its own ends, nothing is passed on: it is told."""
        handle._change(lambda job: job.with_(status="running", started_at=self._clock()))
        try:
            handle.check()
            outcome = work(handle)
            if outcome.rows is not None:
                handle._results.write(handle.job.id, outcome.rows)
        except JobStoppedError as stopped:
            self._end(handle, "cancelled", line=f"stopped by {stopped}")
        except GrangeError as error:
            LOG.warning("job %s failed: %s", handle.job.id, error)
            self._end(handle, "failed", error=error.to_dict(), line=error.message)
        except Exception as error:
            LOG.exception("job %s failed", handle.job.id)
            told = {"code": GrangeError.code, "type": type(error).__name__, "message": str(error), "details": {}}
            self._end(handle, "failed", error={**told, "retry": False}, line=f"{type(error).__name__}: {error}")
        else:
            kept = outcome.rows is not None
            expires = self._clock() + RESULTS_KEPT if kept else None
            self._end(handle, "succeeded", result=dict(outcome.data), has_rows=kept, expires_at=expires)

    def _end(self, handle: JobHandle, status: str, *, line: str = "", **changes: Any) -> None:
        now = self._clock()
        if line:
            handle.log(line)
        handle._change(lambda job: job.with_(status=status, ended_at=now, **changes))
        self._settle(handle)

    def _interrupt(self, handle: JobHandle, reason: str) -> None:
        handle._stop = reason
        self._end(handle, "interrupted", line=reason)

    def _settle(self, handle: JobHandle) -> None:
        """Write how a job ended; where the registry cannot be reached, the heartbeat tries again."""
        if handle._save():
            self._forget(handle)
        handle._over.set()

    def _forget(self, handle: JobHandle) -> None:
        with self._lock:
            self._live.pop((id(handle._documents), handle.job.id), None)

    def _beats(self) -> None:
        while not self._closed.wait(self._heartbeat) or self.running():
            self._beat()
            if self._closed.is_set():
                time.sleep(self._heartbeat)

    def _beat(self) -> None:
        """Write what changed; let jobs know that they are to stop."""
        for handle in self._handles():
            saved = handle._save(least_age=ALIVE)
            if handle.job.is_over:
                if saved:
                    self._forget(handle)
                continue
            try:
                handle._stop = stop_requested(handle._documents, handle.job.id)
            except StoreUnavailableError:
                continue  # it is asked again at the next beat
            if handle._stop is not None and handle.job.status == "queued":
                self._end(handle, "cancelled", line=f"stopped by {handle._stop} before it began")

    def _clear_once(self, documents: Documents, results: JobResults) -> None:
        """Remove what is too old, once per project and process."""
        if id(documents) in self._cleared:
            return
        self._cleared.add(id(documents))
        now = self._clock()
        results.clear(now=now)
        forget_old(documents, now=now)


__all__ = ["JobHandle", "JobOutcome", "JobRunner", "JobStoppedError", "Work"]
