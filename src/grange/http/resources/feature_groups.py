"""What a feature group has besides its definition: versions, rows, statistics, materializing, rolling back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from grange.errors import RequestError
from grange.http.answers import reply, table_reply, wants_arrow
from grange.http.bodies import Body, Column, Line, Name, Version
from grange.http.dependencies import Asking, Jobs, project_store
from grange.http.pages import Cursor, Limit, Page, paged
from grange.http.places import inspected, relative
from grange.http.resources.working import RESPONSES, Wait, started
from grange.http.routing import needs, resources
from grange.http.rows import Upload, rows_body, upload
from grange.jobs import JobHandle, JobOutcome
from grange.security.principals import Permission
from grange.types.names import parse_version

PINNED = r"^[A-Za-z][A-Za-z0-9_]{0,127}(@[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})?$"
USUAL_ROWS = 100
MOST_JSON_ROWS = 10_000

GroupName = Annotated[
    str, Path(pattern=PINNED, max_length=158, description="The feature group; `group@1.0.0` names a version too.")
]
VersionQuery = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$", description="The latest when left out.")
]
Moment = Annotated[str | None, Query(max_length=64, description="ISO 8601; UTC when it does not say.")]
ColumnsQuery = Annotated[list[Column] | None, Query(max_length=5000, description="Only these columns.")]
ONE = {"x-examples": {"name": "spend"}}

router = resources("/feature-groups", tag="feature groups")


class MaterializeBody(Body):
    """What to compute, and how."""

    version: Version | None = Field(default=None, description="Its number; numbered by what changed when left out.")
    start: Line | None = Field(
        default=None, description="Only source rows from here on, inclusive.", examples=["2026-03-01"]
    )
    end: Line | None = Field(default=None, description="Only source rows up to here, exclusive.")
    engine: Name | None = None
    online: bool | None = Field(
        default=None, description="Whether the online store is loaded; as the group says without."
    )
    downstream: bool = Field(default=True, description="Whether groups that are derived of it follow.")


class MaterializeManyBody(MaterializeBody):
    """Which groups to compute, and how."""

    groups: Annotated[list[Name], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="All without.", examples=[["spend"]]
    )


class RollbackBody(Body):
    """The version to go back to."""

    version: Version | None = None
    previous: bool = Field(
        default=False, description="The one below the latest, instead of a version.", examples=[True]
    )


@router.get("/{name}/state", summary="Everything known of a feature group", operation_id="get_feature_group_state",
            dependencies=needs(Permission.READ_DEFINITIONS, "name"), openapi_extra=ONE)  # fmt: skip
def state(asking: Asking, name: GroupName, version: VersionQuery = None) -> Response:
    """Its definition, versions, stored rows, online state, runs and uses."""
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        store.catalog.group(name.partition("@")[0])
        return reply(inspected(store.inspect(name, version=version)))


@router.get("/{name}/versions", summary="List versions", operation_id="list_versions",
            dependencies=needs(Permission.READ_DEFINITIONS, "name"), openapi_extra=ONE)  # fmt: skip
def versions(asking: Asking, name: GroupName, limit: Limit = 1000, cursor: Cursor = None) -> Response:
    """Its versions, oldest first."""
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        found = store.versions(name)
    return reply(
        paged(
            found,
            Page(limit, cursor),
            key=lambda meta: parse_version(meta.version) or (),
            of=f"versions {name}",
            show=lambda meta: meta.to_dict(),
        )
    )


@router.get("/{name}/versions/{version}", summary="Get a version", operation_id="get_version",
            dependencies=needs(Permission.READ_DEFINITIONS, "name"),
            openapi_extra={"x-examples": {"name": "spend", "version": "latest"}})  # fmt: skip
def version(
    asking: Asking,
    name: GroupName,
    version: Annotated[str, Path(pattern=r"^(latest|[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})$", description="Or `latest`.")],
) -> Response:
    """What is known of one version."""
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        return reply(store.version(name, None if version == "latest" else version).to_dict())


@router.delete("/{name}/versions/{version}", summary="Delete a version", operation_id="delete_version",
               dependencies=needs(Permission.DELETE, "name"),
               openapi_extra={"x-examples": {"name": "spend", "version": "1.0.0"}})  # fmt: skip
def delete_version(
    asking: Asking,
    name: GroupName,
    version: Annotated[str, Path(pattern=r"^[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}$")],
    cascade: Annotated[bool, Query(description="Also delete the feature views that pin it.")] = False,
) -> Response:
    """Remove one version. One that is pinned, or the latest with rows pushed since, is a 409."""
    project_store(asking).catalog.group(name.partition("@")[0])
    return reply({"removed": list(asking.access.delete(name, version=version, cascade=cascade))})


@router.get("/{name}/diff", summary="Compare two versions", operation_id="diff_versions",
            dependencies=needs(Permission.READ_DEFINITIONS, "name"),
            openapi_extra={"x-examples": {"name": "spend", "before": "1.0.0", "after": "1.0.0"}})  # fmt: skip
def diff(
    asking: Asking,
    name: GroupName,
    before: VersionQuery = None,
    after: VersionQuery = None,
    statistics: Annotated[bool, Query(description="Read the rows of both, and compare their statistics.")] = False,
) -> Response:
    """What differs between two versions: columns, configuration, code, data."""
    if statistics:
        asking.access.check_compared(name, before, after)
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        return reply(store.diff(name, before, after, statistics=statistics).to_dict())


@router.get("/{name}/rows", summary="Read rows", operation_id="read_rows",
            dependencies=needs(Permission.READ_HISTORY, "name"), openapi_extra=ONE)  # fmt: skip
def rows(
    request: Request,
    asking: Asking,
    name: GroupName,
    version: VersionQuery = None,
    columns: ColumnsQuery = None,
    start: Moment = None,
    end: Moment = None,
    limit: Annotated[
        int | None,
        Query(ge=0, le=1 << 31, description=f"{USUAL_ROWS} rows of JSON when left out, and all rows of Arrow."),
    ] = None,
    events: Annotated[bool, Query(description="Of a group with aggregations: its events.")] = False,
) -> Response:
    """Its stored rows, in order of event time: as JSON, or as an Arrow stream when `Accept` says so.

    What a policy masks is null; what it denies is left out.
    """
    if not wants_arrow(request):
        limit = min(USUAL_ROWS if limit is None else limit, MOST_JSON_ROWS)
    found = asking.access.read(name, version=version, columns=columns, start=start, end=end, limit=limit, events=events)
    return table_reply(request, found.arrow, {"group": name.partition("@")[0]})


@router.post("/{name}/rows", status_code=201, summary="Push rows", operation_id="push_rows",
             dependencies=needs(Permission.WRITE_FEATURES), openapi_extra={
                 **rows_body([{"user_id": "u9", "at": "2026-03-10T00:00:00Z", "page": "home", "n": 1}]),
                 "x-examples": {"name": "click_events"}})  # fmt: skip
def push(asking: Asking, name: GroupName, body: Annotated[Upload, Depends(upload)]) -> Response:
    """Store raw rows in history and in the online store. The name is a feature group's, or a push source's.

    Rows are JSON, MessagePack, Arrow or Parquet. Nothing is written unless all rows fit.
    """
    given, options = body.given(asking)
    if given is None or options:
        raise RequestError(
            "a push is rows and nothing else", found=", ".join(options) or "no rows", try_='{"rows": [{...}]}'
        )
    return reply(asking.access.push(name, given).to_dict(), 201)


@router.get("/{name}/quarantine", summary="Read quarantined rows", operation_id="read_quarantine",
            dependencies=needs(Permission.READ_HISTORY, "name"), openapi_extra=ONE)  # fmt: skip
def quarantine(
    request: Request,
    asking: Asking,
    name: GroupName,
    limit: Annotated[int, Query(ge=1, le=MOST_JSON_ROWS, description="The newest.")] = USUAL_ROWS,
) -> Response:
    """Rows that expectations kept out, and pushed events that were none, with their reasons; the newest last.

    Refused where a policy hides anything of the group: these rows may have any columns.
    """
    with asking.access.reading(Permission.READ_HISTORY, name) as store:
        kept = store.quarantined(name.partition("@")[0])
    asking.access.check_values(name, "preview", versions=(), columns=kept.column_names)
    table = kept.arrow.slice(max(len(kept) - limit, 0))
    return table_reply(request, table, {"group": name.partition("@")[0]})


@router.post("/{name}/materialize", status_code=202, summary="Materialize", operation_id="materialize_feature_group",
             dependencies=needs(Permission.MATERIALIZE, "name"), responses=RESPONSES, openapi_extra=ONE)  # fmt: skip
async def materialize(
    asking: Asking, jobs: Jobs, name: GroupName, body: MaterializeBody | None = None, wait: Wait = 0
) -> Response:
    """Compute the group from its source, publish a version, load the online store: as a job."""
    return await _materialize(asking, jobs, [name], body or MaterializeBody(), wait)


@router.post("/{name}/materialize:plan", summary="Forecast a version", operation_id="plan_materialize_feature_group",
             dependencies=needs(Permission.READ_DEFINITIONS, "name"), openapi_extra=ONE)  # fmt: skip
def plan_materialize(asking: Asking, name: GroupName, version: VersionQuery = None) -> Response:
    """What number materializing would give the next version, and why. Reads no source and changes nothing."""
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        return reply({"items": [each.to_dict() for each in store.plan_materialize([name], version=version)]})


@router.get("/{name}/explain", summary="Explain materializing", operation_id="explain_materialize",
            dependencies=needs(Permission.READ_DEFINITIONS, "name"), openapi_extra=ONE)  # fmt: skip
def explain(asking: Asking, name: GroupName, start: Moment = None, end: Moment = None) -> Response:
    """What materializing would do, as an indented tree."""
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        return reply({"text": relative(store.explain_materialize(name, start=start, end=end))})


@router.post("/{name}/rollback", summary="Roll back", operation_id="rollback_feature_group",
             dependencies=needs(Permission.MATERIALIZE, "name"), openapi_extra=ONE)  # fmt: skip
def rollback(asking: Asking, name: GroupName, body: RollbackBody) -> Response:
    """Make an older version the latest, in history and online. Later versions stay."""
    return reply(asking.access.rollback(name, body.version, previous=body.previous).to_dict())


@router.post("/{name}/rollback:plan", summary="Plan a rollback", operation_id="plan_rollback_feature_group",
             dependencies=needs(Permission.READ_DEFINITIONS, "name"), openapi_extra=ONE)  # fmt: skip
def plan_rollback(asking: Asking, name: GroupName, body: RollbackBody) -> Response:
    """What a rollback would do. Changes nothing."""
    with asking.access.reading(Permission.READ_DEFINITIONS, name) as store:
        return reply(store.plan_rollback(name, body.version, previous=body.previous).to_dict())


@router.get("/{name}/statistics", summary="Statistics", operation_id="get_statistics",
            dependencies=needs(Permission.READ_HISTORY, "name"), openapi_extra=ONE)  # fmt: skip
def statistics(
    asking: Asking,
    name: GroupName,
    version: VersionQuery = None,
    columns: ColumnsQuery = None,
    compute: Annotated[bool, Query(description="Compute them anew, whatever is kept.")] = False,
    correlations: Annotated[bool, Query(description="Also correlate columns of numbers.")] = False,
    form: Annotated[
        Literal["summary", "exact"], Query(description="`exact` can be read back without loss.")
    ] = "summary",
) -> Response:
    """Statistics of its stored columns, less those that a policy denies or masks."""
    found = asking.access.statistics(name, version=version, columns=columns, compute=compute, correlations=correlations)
    if form == "summary":
        return reply(found.to_dict())
    about: dict[str, Any] = {name: value for name, value in found.to_dict().items() if name in _OF_STATISTICS}
    return reply({**about, "kept": found.kept, "profile": found.profile.to_data()})


_OF_STATISTICS = ("group", "version", "pending", "computed_at")


@router.get("/{name}/statistics:compare", summary="Compare statistics", operation_id="compare_statistics",
            dependencies=needs(Permission.READ_HISTORY, "name"),
            openapi_extra={"x-examples": {"name": "spend", "before": "1.0.0", "after": "1.0.0"}})  # fmt: skip
def compare(asking: Asking, name: GroupName, before: VersionQuery = None, after: VersionQuery = None) -> Response:
    """What changed between the values of two versions. Refused where a policy denies or masks any of them."""
    asking.access.check_compared(name, before, after)
    with asking.access.reading(Permission.READ_HISTORY, name) as store:
        return reply(store.compare_statistics(name, before, after).to_dict())


async def _materialize(
    asking: Any, jobs: Any, groups: list[str] | None, body: MaterializeBody, wait: float
) -> Response:
    """Materialize some groups, or all, as a job. What can be told to be wrong is told at once."""
    store, access = project_store(asking), asking.access
    options = body.model_dump(exclude={"groups"})
    named = access.materialized(groups, downstream=body.downstream)

    def check() -> None:
        access.check_change(Permission.MATERIALIZE, *named, action="materialize")
        store.plan_materialize(groups, version=body.version)

    def work(job: JobHandle) -> JobOutcome:
        done = access.materialize(groups, progress=job.progress, **options)
        return JobOutcome({"groups": [each.to_dict() for each in done]})

    await run_in_threadpool(check)
    what = ", ".join(named) if len(named) <= 10 else f"{len(named)} feature groups"
    request = {name: value for name, value in options.items() if value is not None} | {"groups": groups}
    read = access.reading_of_groups(named)
    return await started(asking, jobs, work, kind="materialize", what=what, request=request, wait=wait, read=read)


everything = resources("/materialize", tag="feature groups")


@everything.post("", status_code=202, summary="Materialize many", operation_id="materialize",
                 dependencies=needs(Permission.MATERIALIZE), responses=RESPONSES)  # fmt: skip
async def materialize_many(
    asking: Asking, jobs: Jobs, body: MaterializeManyBody | None = None, wait: Wait = 0
) -> Response:
    """Materialize several feature groups, or all, parents first: as one job."""
    given = body or MaterializeManyBody()
    return await _materialize(asking, jobs, given.groups, given, wait)


class ForecastBody(Body):
    """Which groups to forecast."""

    groups: Annotated[list[Name], Field(min_length=1, max_length=1000)] | None = Field(
        default=None, examples=[["spend"]]
    )
    version: Version | None = None


@everything.post(":plan", summary="Forecast versions", operation_id="plan_materialize",
                 dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def plan_materialize_many(asking: Asking, body: ForecastBody | None = None) -> Response:
    """What number materializing would give the next version of each group, and why."""
    given = body or ForecastBody()
    with asking.access.reading(Permission.READ_DEFINITIONS) as store:
        found = store.plan_materialize(given.groups, version=given.version)
    return reply({"items": [each.to_dict() for each in found]})


ROUTERS = (router, everything)
