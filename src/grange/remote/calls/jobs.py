"""Work that outlives a request: beginning it, and waiting for its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from grange.errors import RefusedError, StoreUnavailableError
from grange.remote import bodies
from grange.remote.calls.session import Session, as_error, changed, changed_by_rows, fetched
from grange.remote.messages import LONG, Call, Pause, Response
from grange.verbs.progress import Progress, Report, silent

if TYPE_CHECKING:
    from grange.frames import Rows

WAIT: Final = 20.0
"""Seconds that the server holds a request back for a job to be over, where nobody wants to see its steps."""
FIRST: Final = 0.05
"""Seconds until a job is looked at again whose steps somebody wants to see; each time half as long again."""
LONGEST: Final = 1.0

Job = Mapping[str, Any]


def done_by_job(session: Session, path: str, options: Mapping[str, Any], report: Report = silent) -> Call[Job]:
    """The finished job that a write begins.

    Args:
        session: of the client.
        path: what is written to.
        options: what to do.
        report: is told each step that was seen.

    Raises:
        GrangeError: what the job failed with.
        RefusedError: somebody stopped it.
        StoreUnavailableError: its server ended before it did; what it had done stays.
    """
    response = yield from changed(session, "POST", path, options, query=_wait(session, report), patience=LONG)
    return (yield from finished(session, response, report))


def done_by_job_of_rows(
    session: Session, path: str, options: Mapping[str, Any], rows: Rows | None, report: Report = silent
) -> Call[Job]:
    """The same, where rows may go with the options: these are in a header then. Raises as `done_by_job`."""
    response = yield from changed_by_rows(session, path, rows, options, query=_wait(session, report))
    return (yield from finished(session, response, report))


def finished(session: Session, response: Response, report: Report = silent) -> Call[Job]:
    """A job once it is over, of the answer that told of it. Raises as `done_by_job`."""
    job: Job = bodies.from_json(response)
    steps, pause = _Steps(report), FIRST
    while job["status"] in ("queued", "running"):
        steps.tell(job)
        if report is not silent:
            yield Pause(pause)
            pause = min(1.5 * pause, LONGEST)
        job = yield from fetched(f"/jobs/{bodies.quoted(job['id'])}", **_wait(session, report))
    steps.tell(job)
    return _succeeded(job)


def _wait(session: Session, report: Report) -> dict[str, Any]:
    """How long the server may hold a request back: well below the time that it may take."""
    if report is not silent:
        return {}
    return {"wait": WAIT if session.timeout is None else min(WAIT, session.timeout / 2)}


def _succeeded(job: Job) -> Job:
    match job["status"]:
        case "succeeded":
            return job
        case "failed":
            error = as_error(job["error"])
            error.add_note(f"job {job['id']}")
            raise error
        case "cancelled":
            raise RefusedError(f"job {job['id']} was stopped", try_=f"grange job logs {job['id']}")
        case _:
            raise StoreUnavailableError(
                f"job {job['id']} was interrupted: its server ended before it did",
                found=f"status {job['status']}",
                try_="the same again: what was published before stays",
                details={"job": job["id"]},
            )


class _Steps:
    """Tells each step once."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last: Progress | None = None

    def tell(self, job: Job) -> None:
        said = job.get("progress")
        if not said:
            return
        step = Progress(said["group"], said["stage"], said["rows"], said["position"], said["total"])
        if step != self._last:
            self._last = step
            self._report(step)
