"""Jobs: work that outlives a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from grange.access.vectors import masked_batches
from grange.errors import ForbiddenError, RefusedError
from grange.http.answers import arrow_reply, reply, wants_arrow
from grange.http.dependencies import Asking, Now, project_store
from grange.http.pages import Cursor, Limit, Page, paged
from grange.http.places import told
from grange.http.resources.working import Wait, owns_job, patience, read_of, sees_job, shown_job
from grange.http.routing import needs, resources
from grange.jobs import JobResults, documents_of, job_info, jobs, request_stop
from grange.security.principals import Permission

if TYPE_CHECKING:
    from grange.jobs import Job

router = resources("/jobs", tag="jobs")

JobId = Annotated[str, Path(pattern=r"^job-[0-9]{1,18}$", description="Its id.")]
ONE: dict[str, Any] = {"x-examples": {"id": "job-00000001"}}
USUAL_ROWS = 100


@router.get("", summary="List jobs", operation_id="list_jobs",
            dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def list_jobs(
    asking: Asking,
    now: Now,
    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"] | None, Query()
    ] = None,
    kind: Annotated[str | None, Query(max_length=64, description="Only of this sort.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """What is known of jobs, newest first. Of somebody else's, errors and results are for operators."""
    found = jobs(documents_of(project_store(asking)), now=now, status=status, kind=kind)
    return reply(
        paged(found, Page(limit, cursor), key=lambda job: job.id, of=f"jobs {status} {kind}",
              show=lambda job: shown_job(asking, job), descending=True)
    )  # fmt: skip


@router.get("/{id}", summary="Get a job", operation_id="get_job",
            dependencies=needs(Permission.READ_DEFINITIONS), openapi_extra=ONE)  # fmt: skip
async def get_job(asking: Asking, now: Now, id: JobId, wait: Wait = 0) -> Response:
    """What is known of a job: status, progress, and how it ended."""
    documents = documents_of(project_store(asking))
    job = await run_in_threadpool(job_info, documents, id, now=now)
    if wait and not job.is_over:
        job = await _waited(documents, id, patience(asking, wait))
    return reply(await run_in_threadpool(shown_job, asking, job))


async def _waited(documents: Any, id: str, wait: float) -> Job:
    """The job once it is over, or after so many seconds; it may run on another server."""
    import asyncio
    import datetime as dt

    end = asyncio.get_running_loop().time() + wait
    pause = 0.05
    while True:
        job = await run_in_threadpool(job_info, documents, id, now=dt.datetime.now(dt.UTC))
        if job.is_over or asyncio.get_running_loop().time() >= end:
            return job
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.5)


@router.get("/{id}/logs", summary="Logs of a job", operation_id="get_job_logs",
            dependencies=needs(Permission.READ_DEFINITIONS), openapi_extra=ONE)  # fmt: skip
def logs(asking: Asking, now: Now, id: JobId) -> Response:
    """The lines that it wrote, oldest first."""
    job = job_info(documents_of(project_store(asking)), id, now=now)
    if not sees_job(asking, job):
        raise ForbiddenError(f"the log of {id} is for who started it, and for operators")
    return reply({"id": id, "items": told([line.to_dict() for line in job.lines])})


@router.get("/{id}/rows", summary="Rows that a job left behind", operation_id="get_job_rows",
            dependencies=needs(Permission.READ_HISTORY),
            openapi_extra={"x-examples": {"id": "job-00000002"}})  # fmt: skip
def rows(
    request: Request,
    asking: Asking,
    now: Now,
    id: JobId,
    limit: Annotated[int, Query(ge=0, le=10_000, description="Of JSON; an Arrow stream has all rows.")] = USUAL_ROWS,
) -> Response:
    """Its rows, for who started it: as JSON, or as an Arrow stream when `Accept` says so. They expire after a week.

    What a policy masks by now is null; rows with anything that it denies by now are refused.
    """
    store = project_store(asking)
    job = job_info(documents_of(store), id, now=now)
    if not owns_job(asking, job):
        raise ForbiddenError(f"the rows of {id} are for who started it", try_="ask for them yourself")
    if not job.has_rows:
        raise RefusedError(f"job {id} left no rows behind", found=f"it is {job.status}")
    read = read_of(job)
    hidden = asking.access.hidden_of(read) if read is not None else frozenset()
    schema, batches = JobResults.of(store.project).open(id)
    if hidden:
        schema, batches = masked_batches(schema, batches, hidden)
    if wants_arrow(request):
        return arrow_reply(lambda: batches, schema)
    import pyarrow as pa

    table = pa.Table.from_batches(_first(batches, limit), schema).slice(0, limit)
    return reply({"id": id, "columns": table.column_names, "rows": table.to_pylist()})


def _first(batches: Any, limit: int) -> list[Any]:
    """Batches enough for so many rows."""
    taken: list[Any] = []
    count = 0
    for batch in batches:
        if count >= limit:
            break
        taken.append(batch)
        count += batch.num_rows
    return taken


@router.post("/{id}/stop", status_code=202, summary="Stop a job", operation_id="stop_job",
             dependencies=needs(Permission.MANAGE_JOBS), openapi_extra=ONE,
             responses={200: {"description": "The job is over: there is nothing to stop."}})  # fmt: skip
def stop(asking: Asking, now: Now, id: JobId) -> Response:
    """Ask a job to stop. It does between two of its steps; what it did until then stays. One that is over stays so."""
    documents = documents_of(project_store(asking))
    job = job_info(documents, id, now=now)
    if job.is_over:
        return reply(shown_job(asking, job))
    with asking.access.writing(Permission.MANAGE_JOBS, "stop job", details={"job": id}):
        job = request_stop(documents, id, by=asking.principal.name, now=now)
    return reply(shown_job(asking, job), 202)


ROUTERS = (router,)
