"""Single features, across feature groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Path, Query, Response

from grange.definitions.on_demand import offered
from grange.errors import RequestError, UnknownFeatureError, closest_names
from grange.http.answers import reply
from grange.http.bodies import REFERENCE
from grange.http.dependencies import Asking, project_store
from grange.http.pages import Cursor, Limit, Page, paged
from grange.http.routing import needs, resources
from grange.security.principals import Permission

if TYPE_CHECKING:
    from grange.definitions.catalog import Catalog
    from grange.definitions.feature_group import FeatureGroup

router = resources("/features", tag="features")


@router.get("", summary="List features", operation_id="list_features",
            dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def list_features(
    asking: Asking,
    group: Annotated[str | None, Query(max_length=128, description="Only of this feature group.")] = None,
    entity: Annotated[str | None, Query(max_length=128, description="Only of groups with this entity.")] = None,
    dtype: Annotated[str | None, Query(max_length=256, description="Only of this type.")] = None,
    owner: Annotated[str | None, Query(max_length=512, description="Only of groups that this owner owns.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The features of all feature groups, by group and name. `/search` finds them by words."""
    catalog = project_store(asking).catalog
    if group is not None:
        catalog.group(group)
    found = [
        record
        for each in catalog.groups.values()
        if asking.access.may(Permission.READ_DEFINITIONS, each.name)
        and group in (None, each.name)
        and owner in (None, each.owner)
        and (entity is None or any(entity == one.name for one in each.entities))
        for record in _records(each)
        if dtype in (None, record["dtype"])
    ]
    of = "\n".join(("features", *(str(each) for each in (group, entity, dtype, owner))))
    page = Page(limit, cursor)
    return reply(paged(found, page, key=lambda item: (item["group"], item["name"]), of=of, show=dict))


@router.get("/{id}", summary="Get a feature", operation_id="get_feature",
            dependencies=needs(Permission.READ_DEFINITIONS),
            openapi_extra={"x-examples": {"id": "spend:amount"}})  # fmt: skip
def get_feature(
    asking: Asking,
    id: Annotated[str, Path(pattern=REFERENCE, max_length=448, description="`group:feature`.")],
) -> Response:
    """One feature: its type, what it is made of, and the views that take it."""
    group_name, colon, name = id.partition(":")
    if not colon or "@" in group_name:
        raise RequestError(f"{id!r} names no feature", try_="/api/v1/features/group:feature")
    asking.access.check(Permission.READ_DEFINITIONS, group_name)
    catalog: Catalog = project_store(asking).catalog
    group = catalog.group(group_name)
    records = {record["name"]: record for record in _records(group)}
    if name not in records:
        raise UnknownFeatureError(
            f"feature group {group_name!r} has no feature {name!r}",
            found=", ".join(records),
            closest=closest_names(name, records),
        )
    return reply({**records[name], "feature_views": _takers(catalog, group, name)})


def _records(group: FeatureGroup) -> Iterator[dict[str, Any]]:
    aggregates = {item.name: item.to_data() for item in group.aggregates()} if group.aggregations else {}
    defaults, checks = dict(group.defaults), dict(group.expectations)
    for column in offered(group):
        yield {
            "id": f"{group.name}:{column.name}",
            "group": group.name,
            "name": column.name,
            "dtype": str(column.dtype),
            "description": column.description,
            "entities": [entity.name for entity in group.entities],
            "default": defaults.get(column.name),
            "expectations": [check.to_dict() for check in checks.get(column.name, ())],
            "aggregate": aggregates.get(column.name),
            "owner": group.owner,
            "tags": dict(group.tags),
        }


def _takers(catalog: Catalog, group: FeatureGroup, feature: str) -> list[str]:
    """The views that take a feature, those through other views among them."""
    stored = group.features().names
    return [
        view.name
        for view in catalog.views.values()
        if any(
            taken.selection.source == group.name and feature in taken.features_of(group, stored)
            for taken in catalog.taken_by(view)
        )
    ]


ROUTERS = (router,)
