"""The resources: feature sets and features, created, looked at, changed, materialized."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from grange.http.answers import reply
from grange.http.compat.feature_store_2.changing import FeatureSets, Found
from grange.http.compat.feature_store_2.sets import Feature, FeatureSet
from grange.http.compat.feature_store_2.shapes import (
    ID,
    FeatureChange,
    FeatureSetChange,
    FeatureSetShape,
    FeatureShape,
    MaterializeShape,
    inclusive_end,
    shown_feature,
    shown_set,
)
from grange.http.dependencies import Asking, Jobs, Now
from grange.http.pages import USUAL, Cursor, Limit, Page, paged
from grange.http.resources.working import RESPONSES, Wait, started
from grange.http.routing import needs, resources
from grange.jobs import JobHandle, JobOutcome
from grange.security.principals import Permission
from grange.types.time import to_utc

sets = resources("/feature-sets", tag="feature sets")
features = resources("/features", tag="feature sets")

SetId = Annotated[str, Path(pattern=ID, description="The set's name, or the id that an answer had.")]
FeatureId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]{0,256}$", description="The feature's id, or `set:name`.")
]


@sets.post("", status_code=201, summary="Begin a feature set", dependencies=needs(Permission.WRITE_DEFINITIONS))
def create(caller: Asking, now: Now, body: FeatureSetShape) -> Response:
    """It is a draft until it has a source and a feature; then it is a feature group of its name."""
    there = FeatureSets(caller, now)
    found = there.create(FeatureSet.of(body.said()))
    return reply(_shown(there, found), 201, {"Location": f"/api/v1/feature-sets/{found.name}"})


@sets.get("", summary="List feature sets", dependencies=needs(Permission.READ_DEFINITIONS))
def list_all(caller: Asking, now: Now, limit: Limit = USUAL, cursor: Cursor = None) -> Response:
    """By name: every feature group, and drafts."""
    there = FeatureSets(caller, now)
    page = paged(
        there.all(),
        Page(limit, cursor),
        key=lambda found: found.name,
        of="feature-sets",
        show=lambda found: _shown(there, found),
    )
    return reply(page)


@sets.get("/{id}", summary="Look at a feature set", dependencies=needs(Permission.READ_DEFINITIONS))
def get(caller: Asking, now: Now, id: SetId) -> Response:
    """What it is, what it waits for, and its latest version."""
    there = FeatureSets(caller, now)
    found = there.find(id)
    caller.access.check(Permission.READ_DEFINITIONS, found.name)
    version = None
    if found.group is not None:
        with caller.access.reading(Permission.READ_DEFINITIONS, found.name) as store:
            version = next((meta.version for meta in reversed(store.versions(found.name))), None)
    return reply(shown_set(found.group, found.kept, there.kept, version=version))


@sets.patch("/{id}", summary="Change a feature set", dependencies=needs(Permission.WRITE_DEFINITIONS))
def change(caller: Asking, now: Now, id: SetId, body: FeatureSetChange) -> Response:
    """Only what is said changes: a source, for one."""
    there = FeatureSets(caller, now)
    return reply(_shown(there, there.change(id, body.said())))


@sets.delete("/{id}", summary="Delete a feature set", dependencies=needs(Permission.DELETE_DEFINITIONS))
def delete(caller: Asking, now: Now, id: SetId) -> Response:
    """With its features, its history and its online values."""
    return reply({"removed": list(FeatureSets(caller, now).remove(id))})


@sets.post("/{id}/materialize", status_code=202, summary="Materialize a feature set",
           responses=RESPONSES, dependencies=needs(Permission.MATERIALIZE))  # fmt: skip
async def materialize(
    caller: Asking, now: Now, jobs: Jobs, id: SetId, body: MaterializeShape | None = None, wait: Wait = 0
) -> Response:
    """As a job: computes the rows of a range, publishes them as a version, loads the online store."""
    given = body or MaterializeShape()
    start = None if given.start_date is None else to_utc(given.start_date, what="start_date")
    end = None if given.end_date is None else inclusive_end(given.end_date)

    def checked() -> str:
        name = FeatureSets(caller, now).whole(id)
        caller.access.check_change(Permission.MATERIALIZE, *caller.access.materialized(name), action="materialize")
        return name

    name = await run_in_threadpool(checked)

    def work(handle: JobHandle) -> JobOutcome:
        done = caller.access.materialize(name, start=start, end=end, progress=handle.progress)
        return JobOutcome({"materialized": [each.to_dict() for each in done]})

    read = await run_in_threadpool(caller.access.reading_of_groups, caller.access.materialized(name))
    what = f"feature_group:{name}"
    return await started(caller, jobs, work, kind="materialize", what=what, request=given.said(), wait=wait, read=read)


@features.post("", status_code=201, summary="Define a feature", dependencies=needs(Permission.WRITE_DEFINITIONS))
def define(caller: Asking, now: Now, body: FeatureShape) -> Response:
    """A raw column, an expression over raw columns, a window, or an expression over other features of the set."""
    there = FeatureSets(caller, now)
    kept = there.add_feature(body.feature_set_id, Feature.of(body.said()))
    return reply(shown_feature(kept, there.kept, missing=there.missing(kept)), 201)


@features.patch("/{id}", summary="Change a feature, or put it into a set",
                dependencies=needs(Permission.WRITE_DEFINITIONS))  # fmt: skip
def change_feature(caller: Asking, now: Now, id: FeatureId, body: FeatureChange) -> Response:
    """Only what is said changes."""
    there = FeatureSets(caller, now)
    said = body.said()
    into = said.pop("feature_set_id", None)
    kept = there.change_feature(id, said, into=into)
    return reply(shown_feature(kept, there.kept, missing=there.missing(kept)))


@features.delete("/{id}", summary="Take a feature out of its set",
                 dependencies=needs(Permission.DELETE_DEFINITIONS))  # fmt: skip
def remove_feature(caller: Asking, now: Now, id: FeatureId) -> Response:
    """The set is applied without it: a new MAJOR version when it is materialized next."""
    FeatureSets(caller, now).remove_feature(id)
    return reply({"removed": [id]})


def _shown(there: FeatureSets, found: Found) -> dict[str, Any]:
    return shown_set(found.group, found.kept, there.kept)


ROUTERS: Final = (sets, features)
