"""Exports: copies of feature groups and feature views in files, in an object store or in the project's own folder."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Path, Query, Response
from pydantic import Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from grange.http.answers import reply
from grange.http.bodies import Body, Column, Line, Name, Version
from grange.http.dependencies import Asking, Jobs, project_store
from grange.http.pages import Cursor, Limit, Page, paged
from grange.http.places import told
from grange.http.resources.working import RESPONSES, Wait, started
from grange.http.routing import needs, resources
from grange.http.rows import Upload, rows_body, take_options, upload
from grange.jobs import JobHandle, JobOutcome
from grange.security.principals import Permission

FOLDER = "exports"
"""Of the project; whoever asks over HTTP writes nowhere else on the server's disk."""
DESTINATION = (
    r"^((s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]{1,254}(/[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,254})+/?"
    r"|[A-Za-z0-9_-][A-Za-z0-9._=-]{0,127}(/[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,127}){0,8}/?)$"
)

router = resources("/exports", tag="exports")


class ExportBody(Body):
    """What to write where. With rows, a view is joined onto these (the spine)."""

    what: Line = Field(description="A feature group, `group@1.0.0`, or a feature view.")
    destination: Annotated[str, StringConstraints(pattern=DESTINATION, max_length=1024)] = Field(
        description=f"`s3://bucket/key` (`gs://`, `az://`), or a name in the folder `{FOLDER}` of the project."
    )
    format: Literal["parquet", "csv", "arrow"] | None = None
    compression: Name | None = None
    version: Version | None = None
    start: Line | None = None
    end: Line | None = None
    columns: Annotated[list[Column], Field(min_length=1, max_length=5000)] | None = None
    events: bool = False
    event_time: Column | None = None
    as_known: bool = False
    training_dataset: Annotated[int, Field(ge=1, le=999_999_999)] | None = None
    transform: bool = True
    engine: Name | None = None
    overwrite: bool = False


@router.get("", summary="List exports", operation_id="list_exports",
            dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def list_exports(
    asking: Asking,
    what: Annotated[str | None, Query(max_length=128, description="Of one group or view only.")] = None,
    status: Annotated[Literal["running", "succeeded", "failed", "interrupted"] | None, Query()] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """What is known of exports, newest first."""
    may = asking.access.may
    every = project_store(asking).exports(what, status)
    found = [item for item in every if may(Permission.READ_DEFINITIONS, item.name)]
    return reply(
        paged(found, Page(limit, cursor), key=lambda item: (len(item.id), item.id), of=f"exports {what} {status}",
              show=lambda item: told(item.to_dict()), descending=True)
    )  # fmt: skip


@router.post("", status_code=202, summary="Export", operation_id="create_export", responses=RESPONSES,
             dependencies=needs(Permission.WRITE_DATASETS), openapi_extra=rows_body(
                 [{"user_id": "u1", "shop_id": 1, "event_time": "2026-03-11T00:00:00Z"}],
                 what="shopping", destination="shopping.parquet"))  # fmt: skip
async def create(asking: Asking, jobs: Jobs, body: Annotated[Upload, Depends(upload)], wait: Wait = 0) -> Response:
    """Write a feature group, or a feature view's rows, to files: as a job.

    Credentials of object stores are the server's; none travel. Refused where a policy denies or masks any of it.
    """
    access = asking.access

    def read() -> tuple[object, ExportBody]:
        rows, options = body.given(asking)
        given: ExportBody = take_options(options, ExportBody)
        name = given.what.partition("@")[0]
        access.check(Permission.WRITE_DATASETS, name)
        catalog = project_store(asking).catalog
        if name not in catalog.views:
            catalog.group(name)
        access.check_export(given.what, version=given.version, training_dataset=given.training_dataset)
        return rows, given

    rows, given = await run_in_threadpool(read)
    options = given.model_dump(exclude={"what", "destination"}) | {"spine": rows}
    inside = "://" not in given.destination
    destination = f"{FOLDER}/{given.destination}" if inside else given.destination

    def work(job: JobHandle) -> JobOutcome:
        return JobOutcome(access.export(given.what, destination, progress=job.progress, **options).to_dict())

    asked = given.model_dump(exclude_defaults=True)
    return await started(asking, jobs, work, kind="export", what=given.what, request=asked, wait=wait)


@router.get("/{id}", summary="Get an export", operation_id="get_export",
            dependencies=needs(Permission.READ_DEFINITIONS),
            openapi_extra={"x-examples": {"id": "export-000001"}})  # fmt: skip
def info(asking: Asking, id: Annotated[str, Path(pattern=r"^export-[0-9]{1,18}$")]) -> Response:
    """What was written where, from which versions, and how it ended."""
    found = project_store(asking).export_info(id)
    asking.access.check(Permission.READ_DEFINITIONS, found.name)
    return reply(told(found.to_dict()))


ROUTERS = (router,)
