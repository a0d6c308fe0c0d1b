"""Starting jobs, and answering with them: 202 and where to look, or what came of it when it is over in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from grange.errors import CorruptStoreError
from grange.http.answers import reply
from grange.http.dependencies import project_store
from grange.http.places import job_as_told
from grange.http.routing import PREFIX
from grange.security.principals import Permission

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from grange.access.reading import Reading
    from grange.http.context import Caller
    from grange.jobs import Job, JobHandle, JobOutcome, JobRunner
    from grange.security.principals import Principal

MOST_WAIT: Final = 60
SHARE: Final = 0.8
"""Of the time that a request may take, the longest that it waits for a job."""
LOOKS: Final = 0.05
"""Seconds between two looks at a job that somebody waits for."""

Wait = Annotated[
    float, Query(ge=0, le=MOST_WAIT, description="Seconds to wait for the job to be over, before answering.")
]
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The job is over: what came of it."},
    202: {
        "description": "The job is taken on; `Location` says where to look.",
        "headers": {"Location": {"schema": {"type": "string"}, "description": "The job."}},
    },
}


async def started(
    asking: Caller,
    runner: JobRunner,
    work: Callable[[JobHandle], JobOutcome],
    *,
    kind: str,
    what: str,
    request: Mapping[str, Any],
    wait: float,
    read: Reading | None = None,
) -> Response:
    """Take on a job and answer with it.

    Args:
        asking: whose job it is.
        runner: the server's.
        work: does it.
        kind: what sort of work.
        what: what it works on.
        request: what was asked for, JSON-able, without rows.
        wait: seconds to wait for its end.
        read: what it reads, where what comes of it tells of values.
    """

    def submit() -> JobHandle:
        return runner.submit(
            project_store(asking),
            work,
            kind=kind,
            what=what,
            created_by=asking.principal.name,
            owner=owner_of(asking.principal),
            request=request,
            request_id=asking.request_id,
            read=None if read is None else read.to_dict(),
        )

    handle = await run_in_threadpool(submit)
    taken = job_record(handle.job)
    job = await over(lambda: handle.job, patience(asking, wait))
    return job_reply(job, await run_in_threadpool(shown_job, asking, job), taken)


def patience(asking: Caller, wait: float) -> float:
    """How long a request waits for a job: as asked, and less than it may take at all."""
    limit = project_store(asking).config.server.request_timeout.total_seconds()
    return min(wait, limit * SHARE) if limit else wait


async def over(look: Callable[[], Job], wait: float) -> Job:
    """A job once it is over, or after so many seconds."""
    end = asyncio.get_running_loop().time() + wait
    while not (job := look()).is_over and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(LOOKS)
    return job


class JobReply(Response):
    """A job that is over, as the answer to what started it.

    Its `body`, which is what is kept for a repeated request, is the job as it was taken on: what came of it is told
    once, and after that by the job itself, to who may see it then. What is sent is `told`.
    """

    def __init__(self, record: Mapping[str, Any], taken: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        sent = reply(record, 200, headers)
        super().__init__(bytes(reply(taken).body), 200, media_type=sent.media_type)
        self.raw_headers = sent.raw_headers
        self.told = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self.told.raw_headers = self.raw_headers
        await self.told(scope, receive, send)


def job_reply(job: Job, record: Mapping[str, Any], taken: Mapping[str, Any]) -> Response:
    """A job as the answer to what started it.

    Args:
        job: the job.
        record: what its caller may see of it.
        taken: what was known of it when it began.
    """
    headers = {"Location": f"{PREFIX}/jobs/{job.id}"}
    if job.is_over:
        return JobReply(record, taken, headers)
    return reply(record, 202, {**headers, "Retry-After": "1"})


def job_record(job: Job, *, lines: bool = False) -> dict[str, Any]:
    """A job as answers have it; where it runs, and where the server's files lie, is nobody's business."""
    data: dict[str, Any] = job_as_told(job.to_dict(lines=lines))
    del data["process"], data["owner"], data["read"]
    rows = f"{PREFIX}/jobs/{job.id}/rows" if job.has_rows else None
    return data | {"rows_url": rows, "logs_url": f"{PREFIX}/jobs/{job.id}/logs"}


def shown_job(asking: Caller, job: Job) -> dict[str, Any]:
    """A job as somebody may see it: what came of it tells of values, and is shown to who may see them now."""
    record = job_record(job)
    if not sees_job(asking, job):
        return record | dict.fromkeys(("error", "result", "request"))
    read = read_of(job)
    if job.has_rows or read is None or asking.access.shows(read):
        return record
    told = None if job.error is None else {**job.error, "details": {}}
    return record | {"result": None, "error": told}


def read_of(job: Job) -> Reading | None:
    """What a job read.

    Raises:
        CorruptStoreError: what the registry has of it cannot be read.
    """
    from grange.access.reading import Reading

    if job.read is None:
        return None
    try:
        return Reading.from_dict(job.read)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptStoreError(f"what job {job.id} read cannot be told", found=repr(error)) from error


def sees_job(asking: Caller, job: Job) -> bool:
    """Whether they may see more of a job than that it is there."""
    may: bool = owns_job(asking, job) or asking.access.may(Permission.MANAGE_JOBS)
    return may


def owns_job(asking: Caller, job: Job) -> bool:
    """Whether they started it."""
    return job.owner == owner_of(asking.principal)


def owner_of(principal: Principal) -> str:
    """Who a principal is, in the record of a job: keys and tokens have ids of their own."""
    return f"{principal.kind}:{principal.id}"
