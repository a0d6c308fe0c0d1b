"""Feast's routes besides the hot one: writing, materializing, and its probe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from grange.errors import GrangeError, RequestError, StoreUnavailableError, UnknownFeatureGroupError
from grange.http.answers import reply
from grange.http.compat.feast.errors import UnknownPushSourceError, error_reply
from grange.http.compat.feast.online import get_online_features
from grange.http.compat.feast.writing import columns_of, rows_for
from grange.http.dependencies import Asking, Jobs, Now
from grange.http.idempotency import HEADER, once
from grange.http.messages import Call, Reply
from grange.http.resources.working import owner_of
from grange.http.routing import READS, needs, permission_of
from grange.jobs import JobHandle, JobOutcome
from grange.security.principals import Permission
from grange.types.time import to_utc

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog
    from grange.http.context import Caller, Projects

Text = Annotated[str, Field(max_length=256)]


class FeastRoute(APIRoute):
    """A route whose errors are as Feast's clients read them, and whose writes may be repeated with a key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler."""
        handle = super().get_route_handler()
        permission = permission_of(self)
        writes = permission is not None and permission not in READS

        async def answered(request: Request) -> Response:
            try:
                return await handle(request)
            except GrangeError as error:
                return _failure(error)

        async def handler(request: Request) -> Response:
            try:
                if not writes or HEADER not in request.headers:
                    return await answered(request)
                return await once(request, request.scope["state"]["caller"], lambda: answered(request))
            except GrangeError as error:
                return _failure(error)
            except RequestValidationError as error:
                problems = [{key: each[key] for key in ("type", "loc", "msg")} for each in error.errors()]
                return reply({"detail": problems}, 422)

        return handler


def _failure(error: GrangeError) -> Response:
    said = error_reply(error)
    return Response(said.body, said.status, dict(said.headers), said.content_type)


router = APIRouter(tags=["Feast"], route_class=FeastRoute)


class PushShape(BaseModel):
    """Rows for a push source."""

    push_source_name: Text
    df: dict[str, Any]
    to: Literal["online", "offline", "online_and_offline"] = Field(
        "online", description="History and the online store are written together, whatever is said here."
    )


class WriteShape(BaseModel):
    """Rows for a feature view, which is a feature group here."""

    feature_view_name: Text
    df: dict[str, Any]


class MaterializeShape(BaseModel):
    """From when to when, both included."""

    start_ts: Text | None = None
    end_ts: Text | None = None
    feature_views: list[Text] | None = Field(None, max_length=10_000)
    disable_event_timestamp: bool = False


class IncrementalShape(BaseModel):
    """Up to when, included."""

    end_ts: Text
    feature_views: list[Text] | None = Field(None, max_length=10_000)


class OnlineShape(BaseModel):
    """Which features of which entities, by column."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"features": ["driver_hourly_stats:conv_rate"], "entities": {"driver_id": [1001, 1002]}}]
        }
    )

    entities: dict[str, list[Any]] = Field(description="Values by join key; all of equal length.")
    feature_service: Text | None = Field(None, description="A feature view, instead of `features`.")
    features: list[Text] = Field(default_factory=list, description="`group:feature`.")
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


@router.post("/get-online-features", summary="Get online features", dependencies=needs(Permission.READ_FEATURES))
async def online(request: Request, caller: Asking, body: OnlineShape) -> Response:
    """Values, statuses and event times by feature. The server answers it as a hot route, before it comes here."""
    answered = get_online_features(Call(await request.body(), {}, caller))
    said = answered if isinstance(answered, Reply) else await answered
    return Response(said.body, said.status, dict(said.headers), said.content_type)


@router.post("/push", summary="Push rows", dependencies=needs(Permission.WRITE_FEATURES))
def push(caller: Asking, now: Now, body: PushShape) -> Response:
    """To every group that reads the push source."""
    catalog: Catalog = caller.project.store.catalog
    name = body.push_source_name
    groups = catalog.readers(name) or ((catalog.groups[name],) if name in catalog.groups else ())
    if not groups:
        raise UnknownPushSourceError(f"no push source {name!r}", try_="grange fg list")
    columns = columns_of(body.df)
    caller.access.push(name, rows_for(groups[0], columns, now=now))
    return Response(status_code=200)


@router.post("/write-to-online-store", summary="Write rows", dependencies=needs(Permission.WRITE_FEATURES))
def write_to_online_store(caller: Asking, now: Now, body: WriteShape) -> Response:
    """To history and to the online store; what is online is always in history too."""
    group = caller.project.store.catalog.group(body.feature_view_name)
    columns = columns_of(body.df)
    if next(iter(columns.values()), []):
        caller.access.push(group.name, rows_for(group, columns, now=now))
    return reply(None)


@router.post("/materialize", summary="Materialize", dependencies=needs(Permission.MATERIALIZE),
             responses={202: {"description": "It runs as a job."}})  # fmt: skip
def materialize(
    caller: Asking, jobs: Jobs, body: MaterializeShape, as_job: Annotated[bool, Query(alias="async")] = False
) -> Response:
    """The rows of a range, into history and the online store."""
    start = end = None
    if not body.disable_event_timestamp:
        if body.start_ts is None or body.end_ts is None:
            raise RequestError("start_ts and end_ts are needed, unless disable_event_timestamp is set")
        start, end = to_utc(body.start_ts, what="start_ts"), _after(body.end_ts)
    return _materialized(caller, jobs, body.feature_views, start, end, as_job=as_job)


@router.post("/materialize-incremental", summary="Materialize up to a time",
             dependencies=needs(Permission.MATERIALIZE),
             responses={202: {"description": "It runs as a job."}})  # fmt: skip
def materialize_incremental(
    caller: Asking, jobs: Jobs, body: IncrementalShape, as_job: Annotated[bool, Query(alias="async")] = False
) -> Response:
    """All rows up to a time: those that came late are among them."""
    return _materialized(caller, jobs, body.feature_views, None, _after(body.end_ts), as_job=as_job)


@router.get("/health", summary="Whether the registry can be reached", include_in_schema=True)
def health(request: Request) -> Response:
    """200, or 503. Nobody needs a key for it. `/health/ready` says more."""
    projects: Projects = request.app.state.projects
    try:
        _ = projects.of(None).store.catalog
    except StoreUnavailableError:
        return Response(status_code=503)
    return Response(status_code=200)


def _materialized(
    caller: Caller, jobs: Any, names: list[str] | None, start: dt.datetime | None, end: dt.datetime | None, *,
    as_job: bool,
) -> Response:  # fmt: skip
    groups = _groups(caller, names)

    def work(handle: JobHandle) -> JobOutcome:
        done = caller.access.materialize(groups, start=start, end=end, progress=handle.progress)
        return JobOutcome({"materialized": [each.to_dict() for each in done]})

    named = caller.access.materialized(groups)
    caller.access.check_change(Permission.MATERIALIZE, *named, action="materialize")
    if not as_job:
        caller.access.materialize(groups, start=start, end=end)
        return reply(None)
    jobs.submit(
        caller.project.store,
        work,
        kind="materialize",
        what=", ".join(f"feature_group:{group}" for group in groups)[:500],
        created_by=caller.principal.name,
        owner=owner_of(caller.principal),
        request={"groups": groups},
        request_id=caller.request_id,
        read=caller.access.reading_of_groups(named).to_dict(),
    )
    return reply({"status": "accepted", "feature_views": groups}, 202)


def _groups(caller: Caller, names: list[str] | None) -> list[str]:
    """The groups that are meant; all without.

    Raises:
        UnknownFeatureGroupError: there is no such one, or none at all.
    """
    catalog = caller.project.store.catalog
    groups = [catalog.group(name).name for name in (names or catalog.groups)]
    if not groups:
        raise UnknownFeatureGroupError("there is no feature group to materialize", try_="grange apply")
    return groups


def _after(text: str) -> dt.datetime:
    """The moment after a time that is included.

    Raises:
        RequestError: no time, or the last of all.
    """
    try:
        return to_utc(text, what="end_ts") + dt.timedelta(microseconds=1)
    except OverflowError as error:
        raise RequestError(f"end_ts {text!r} is the end of time") from error


ROUTERS: Final = (router,)
