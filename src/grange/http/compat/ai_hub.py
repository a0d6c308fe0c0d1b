"""The AI Hub's feature routes: predefined feature sets by name, for inference and as Parquet files.

    POST /ai/features/sets      make a predefined set over a source (the one call that is new)
    GET  /ai/features/sets      the predefined sets, and which of them are there
    POST /ai/features/get       features of entities, as of now or of a time
    POST /ai/features/export    a set's history as Parquet, as a job
    GET  /ai/features/exports   what was exported

A predefined set is a recipe (`grange.recipes`), and becomes a feature view of its name with the feature group that it
takes from. Any other feature view is a feature set of these routes too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from grange.definitions.entity import Entity
from grange.errors import (
    RefusedError,
    RequestError,
    TooLargeError,
    UnknownFeatureError,
    UnknownFeatureViewError,
    closest_names,
)
from grange.http.answers import reply
from grange.http.bodies import FileSourceBody, Line, Name
from grange.http.compat.entity_keys import as_key, key_types
from grange.http.compat.places import check_data_path
from grange.http.dependencies import Asking, Jobs, Now
from grange.http.limits import MAX_FEATURES
from grange.http.pages import USUAL, Cursor, Limit, Page, paged
from grange.http.places import told
from grange.http.resources.exports import DESTINATION, FOLDER
from grange.http.resources.working import RESPONSES, Wait, started
from grange.http.routing import needs, resources
from grange.jobs import JobHandle, JobOutcome
from grange.recipes import RECIPES, named
from grange.security.principals import Permission

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grange.definitions.catalog import Catalog
    from grange.definitions.feature_group import FeatureGroup
    from grange.definitions.feature_view import FeatureView

PREDEFINED: Final = tuple(name for name in RECIPES if name != "rollups")
"""The recipes that make a view; tables of whole intervals are nothing to serve."""
TIME: Final = "event_timestamp"

router = resources("/ai/features", tag="AI Hub features", prefix="")

Key = bool | int | float | str | None


class Shape(BaseModel):
    """A body: nothing in it that is not asked for."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EntityShape(Shape):
    """Whose readings they are."""

    name: Name
    join_keys: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(min_length=1, max_length=16)


class SetShape(Shape):
    """A predefined set, and where its readings are."""

    name: Annotated[str, Field(max_length=128, description=f"One of {', '.join(PREDEFINED)}.")]
    source: FileSourceBody
    entity: Name | EntityShape
    value: Annotated[str, Field(min_length=1, max_length=128)] = "load"
    view: Name | None = Field(None, description="What the feature view is called; as the set without.")
    timezone: Line | None = None
    country: Line | None = Field(None, description="Whose holidays.")


class GetShape(Shape):
    """Whose features, of which set."""

    feature_set: Name
    entity_ids: list[Key] | None = Field(None, description="Of a set with one join key.")
    entities: list[dict[str, Key]] | None = Field(
        None, description="Of any set: join keys and request columns by name."
    )
    features: list[Annotated[str, Field(max_length=256)]] | None = Field(
        None, max_length=MAX_FEATURES, description="Only these."
    )
    timestamp: Line | None = Field(None, description="As of this time, from history; as of now, online, without.")


class ExportShape(Shape):
    """What to write, and from when to when."""

    feature_set: Name
    start_time: Line | None = Field(None, description="Inclusive.")
    end_time: Line | None = Field(None, description="Exclusive.")
    format: Literal["parquet"] = "parquet"
    destination: Annotated[str, Field(pattern=DESTINATION, max_length=1024)] | None = Field(
        None, description=f"An object store's URL, or a name in the project's folder `{FOLDER}`; made up without."
    )


@router.get("/sets", summary="List feature sets", operation_id="ai_list_feature_sets",
            dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def list_sets(asking: Asking) -> Response:
    """The predefined ones, made or not, then every other feature view."""
    catalog = asking.access.catalog
    predefined = [_shown_predefined(catalog, name) for name in PREDEFINED]
    used = {item["feature_view"] for item in predefined}
    others = [_shown(view, catalog) for name, view in catalog.views.items() if name not in used]
    return reply({"feature_sets": predefined + others, "count": len(predefined) + len(others)})


@router.post("/sets", status_code=201, summary="Make a predefined feature set", operation_id="ai_create_feature_set",
             dependencies=needs(Permission.WRITE_DEFINITIONS))  # fmt: skip
def create_set(asking: Asking, body: SetShape) -> Response:
    """A feature group of the readings and a feature view over it. Materialize the group next."""
    recipe = named(body.name)
    if body.name not in PREDEFINED:
        raise RequestError(f"{body.name!r} makes tables, and no feature set", found=", ".join(PREDEFINED))
    catalog: Catalog = asking.access.catalog
    view = body.view or body.name
    for name in (view, f"{view}_features"):
        if name in catalog.views or name in catalog.groups:
            raise RefusedError(f"{name!r} is there already", try_='"view": "another_name"')
    check_data_path(body.source.path, what=f"feature set {body.name!r}", project=asking.project.store.project)
    options = {"timezone": body.timezone, "country": body.country}
    made = recipe.make(
        _source(body.source),
        _entity(body.entity, catalog),
        body.value,
        name=view,
        **{key: value for key, value in options.items() if value is not None},
    )
    asking.access.apply(made.definitions)
    groups = [group.name for group in made.groups]
    shown = _shown(made.view, asking.access.catalog) if made.view is not None else {}
    return reply({**shown, "feature_groups": groups}, 201)


@router.post("/get", summary="Get features", operation_id="ai_get_features",
             dependencies=needs(Permission.READ_FEATURES))  # fmt: skip
def get(asking: Asking, body: GetShape) -> Response:
    """By entity: as of now from the online store, or as of a time from history."""
    began = time.perf_counter()
    catalog: Catalog = asking.project.store.catalog
    view = _view(catalog, body.feature_set)
    groups = _groups(view, catalog)
    rows, ids = _rows(body, groups, most=asking.project.store.config.server.max_rows)
    if body.timestamp is None:
        vectors = asking.access.vectors(view.name)(rows)
        roles, found, degraded = vectors.found.roles, vectors.to_dicts(), vectors.degraded
    else:
        spine = [{**row, TIME: body.timestamp} for row in rows]
        history = asking.access.get_historical_features(view.name, spine, event_time=TIME)
        roles, found, degraded = history.roles, history.to_arrow().to_pylist(), False
    names = _chosen([name for name, role in roles.items() if role == "feature"], body)
    return reply(
        {
            "feature_set": body.feature_set,
            "features": {id_: {name: row.get(name) for name in names} for id_, row in zip(ids, found, strict=True)},
            "metadata": {
                "count": len(ids),
                "source": "online" if body.timestamp is None else "offline",
                "timestamp": body.timestamp,
                "latency_ms": round((time.perf_counter() - began) * 1e3, 3),
                "cache_hit": False,
                "degraded": degraded,
                "request_id": asking.request_id,
            },
        }
    )


@router.post("/export", status_code=202, summary="Export features to Parquet", operation_id="ai_export_features",
             responses=RESPONSES, dependencies=needs(Permission.WRITE_DATASETS))  # fmt: skip
async def export(asking: Asking, jobs: Jobs, now: Now, body: ExportShape, wait: Wait = 0) -> Response:
    """Every row of a range with its features, as a job; `/ai/features/exports` lists what came of it."""

    def checked() -> str:
        view = _view(asking.access.catalog, body.feature_set)
        asking.access.check(Permission.WRITE_DATASETS, view.name)
        asking.access.check_view(view.name, "export")
        return view.name

    view = await run_in_threadpool(checked)
    place = body.destination or f"{view}-{now:%Y%m%dT%H%M%S%f}Z.parquet"
    destination = place if "://" in place else f"{FOLDER}/{place}"

    def work(job: JobHandle) -> JobOutcome:
        done = asking.access.export(
            view, destination, format=body.format, start=body.start_time, end=body.end_time, progress=job.progress
        )
        return JobOutcome(done.to_dict())

    return await started(
        asking, jobs, work, kind="export", what=view, request=body.model_dump(exclude_unset=True), wait=wait
    )


@router.get("/exports", summary="List exports of features", operation_id="ai_list_exports",
            dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def list_exports(
    asking: Asking,
    feature_set: Annotated[str | None, Query(max_length=128, description="Of one feature set only.")] = None,
    status: Annotated[Literal["running", "succeeded", "failed", "interrupted"] | None, Query()] = None,
    limit: Limit = USUAL,
    cursor: Cursor = None,
) -> Response:
    """What was written where, newest first."""
    name = None if feature_set is None else _view(asking.access.catalog, feature_set).name
    with asking.access.reading(Permission.READ_DEFINITIONS) as store:
        found = [export for export in store.exports(name, status) if export.what == "view"]
    page = paged(
        found,
        Page(limit, cursor),
        key=lambda item: (len(item.id), item.id),
        of=f"ai exports {name} {status}",
        show=lambda item: {"export_id": item.id, "feature_set": item.name, **told(item.to_dict())},
        descending=True,
    )
    return reply({"exports": page["items"], "next": page["next"]})


def _view(catalog: Catalog, name: str) -> FeatureView:
    """The feature view of a set: of its name, or the only one that is named after it, such as `load_forecast_basic`.

    Raises:
        UnknownFeatureViewError: there is none.
    """
    if name in catalog.views:
        return catalog.views[name]
    after = [view for each, view in catalog.views.items() if each.endswith(f"_{name}")]
    if len(after) == 1:
        return after[0]
    raise UnknownFeatureViewError(
        f"no feature set {name!r}" + (" is there yet" if name in PREDEFINED else ""),
        found=", ".join(view.name for view in after) or None,
        closest=closest_names(name, catalog.views),
        try_="POST /ai/features/sets makes it over a source" if name in PREDEFINED else "GET /ai/features/sets",
    )


def _groups(view: FeatureView, catalog: Catalog) -> list[FeatureGroup]:
    return [catalog.groups[item.source] for item in view.features if item.source in catalog.groups]


def _rows(body: GetShape, groups: Sequence[FeatureGroup], *, most: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows that are asked for, and what each is called in the answer.

    Raises:
        RequestError: no entities, or both forms of them; ids of a set with several join keys.
        TooLargeError: more than one request may ask for.
    """
    keys = list(dict.fromkeys(key for group in groups for key in group.join_keys))
    types = key_types(groups)
    if (body.entity_ids is None) == (body.entities is None):
        raise RequestError("a request has entity_ids or entities", try_='"entity_ids": ["meter_1"]')
    given = body.entities if body.entities is not None else [{keys[0]: id_} for id_ in body.entity_ids or ()]
    if body.entity_ids is not None and len(keys) != 1:
        raise RequestError(
            f"feature set {body.feature_set!r} has several join keys", found=", ".join(keys),
            try_=f'"entities": [{{{", ".join(f"{key!r}: ..." for key in keys)}}}]'.replace("'", '"'),
        )  # fmt: skip
    if most and len(given) > most:
        raise TooLargeError(f"one request may ask for {most:,} vectors", found=f"{len(given):,}")
    rows = [{name: as_key(value, types.get(name)) for name, value in row.items()} for row in given]
    return rows, [",".join(str(row.get(key)) for key in keys) for row in rows]


def _chosen(known: list[str], body: GetShape) -> list[str]:
    if body.features is None:
        return known
    there = frozenset(known)
    for name in body.features:
        if name not in there:
            raise UnknownFeatureError(
                f"no feature {name!r} in feature set {body.feature_set!r}",
                found=f"{len(known)} features",
                closest=closest_names(name, known),
            )
    return body.features


def _source(body: FileSourceBody) -> Any:
    from grange.definitions.sources import FileSource
    from grange.types import Schema

    said = body.data()
    schema = Schema.from_list(said.pop("schema"))
    return FileSource(
        said.pop("path"), schema=schema, **{k: v for k, v in said.items() if k != "type" and v is not None}
    )


def _entity(given: str | EntityShape, catalog: Catalog) -> Entity:
    if isinstance(given, str):
        return catalog.entities.get(given) or Entity(given, join_keys=[f"{given}_id"])
    known = catalog.entities.get(given.name)
    return (
        known if known is not None and list(known.join_keys) == given.join_keys else Entity(given.name, given.join_keys)
    )


def _shown_predefined(catalog: Catalog, name: str) -> dict[str, Any]:
    about = {"name": name, "description": RECIPES[name].description, "predefined": True}
    try:
        view = _view(catalog, name)
    except UnknownFeatureViewError:
        return {**about, "status": "not created", "feature_view": None, "features": [], "entities": []}
    return {**_shown(view, catalog), **about}


def _shown(view: FeatureView, catalog: Catalog) -> dict[str, Any]:
    groups = _groups(view, catalog)
    return {
        "name": view.name,
        "description": view.description,
        "predefined": False,
        "status": "available",
        "feature_view": view.name,
        "features": _features(view, catalog),
        "entities": list(dict.fromkeys(entity.name for group in groups for entity in group.entities)),
    }


def _features(view: FeatureView, catalog: Catalog) -> list[str]:
    """What the view's features are called."""
    from grange.definitions.on_demand import offered

    names: list[str] = []
    for item in view.features:
        group = catalog.groups.get(item.source)
        chosen = item.features or (() if group is None else offered(group).names)
        names += [item.output_name(name) for name in chosen]
    names += [output for step in view.on_demand for output in step.output_names]
    return [*(name for name in names if name not in view.labels), *(name for name, _ in view.derived)]


ROUTERS: Final = (router,)
