"""What a feature view has besides its definition, and explaining what reading features would do."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from grange.definitions.references import as_selection
from grange.http.answers import reply, table_reply, wants_arrow
from grange.http.bodies import Body, Name, SelectionBody, Selections
from grange.http.dependencies import Asking, project_store
from grange.http.places import relative
from grange.http.resources.definitions import DefinitionName
from grange.http.resources.feature_groups import Moment
from grange.http.routing import needs, resources
from grange.security.principals import Permission

router = resources("/feature-views", tag="feature views")
explaining = resources("/explain", tag="serving")


@router.get("/{name}/inputs", summary="What a request brings", operation_id="get_feature_view_inputs",
            dependencies=needs(Permission.READ_DEFINITIONS, "name"),
            openapi_extra={"x-examples": {"name": "shopping"}})  # fmt: skip
def inputs(asking: Asking, name: DefinitionName) -> Response:
    """The columns that every row of a request brings: entity keys, then request columns, with their types."""
    catalog = project_store(asking).catalog
    view = catalog.view(name)
    columns: dict[str, str] = {}
    for selection in catalog.expand(view.features, asked_by=f"feature view {name!r}"):
        group, on = catalog.group(selection.source), dict(selection.on)
        columns |= {
            on.get(key, key): str(group.schema[key]) for key in group.join_keys if on.get(key, key) not in columns
        }
    requests = {column.name: str(column.dtype) for column in catalog.requests(view)}
    return reply({"name": name, "join_keys": columns, "requests": requests, "labels": list(view.labels)})


@router.get("/{name}/served", summary="Vectors that were served", operation_id="read_served",
            dependencies=needs(Permission.READ_HISTORY, "name"),
            openapi_extra={"x-examples": {"name": "shopping"}})  # fmt: skip
def served(
    request: Request,
    asking: Asking,
    name: DefinitionName,
    start: Moment = None,
    end: Moment = None,
    limit: Annotated[int, Query(ge=0, le=10_000, description="Of JSON; an Arrow stream has all.")] = 100,
) -> Response:
    """The vectors that the server logged (`serving.log_share`), in the order of their time: as JSON, or as an Arrow
    stream when `Accept` says so. Refused where a policy denies or masks anything of the view.

    Those that it served under an older definition are left out where anything of their groups is denied or masked.
    """
    table = asking.access.served(name, start=start, end=end).arrow
    return table_reply(request, table if wants_arrow(request) else table.slice(0, limit), {"view": name})


class ExplainBody(Body):
    """What is to be read."""

    features: Name | Selections = Field(examples=["shopping"])
    full_feature_names: bool = False


@explaining.post("/online", summary="Explain an online read", operation_id="explain_online",
                 dependencies=needs(Permission.READ_DEFINITIONS))  # fmt: skip
def explain_online(asking: Asking, body: ExplainBody) -> Response:
    """What an online read would do, as an indented tree."""
    features: Annotated[object, "as verbs take them"] = body.features
    if isinstance(body.features, list):
        features = [_selection(item) for item in body.features]
    with asking.access.reading(Permission.READ_DEFINITIONS) as store:
        return reply({"text": relative(store.explain_online(features, full_feature_names=body.full_feature_names))})


def _selection(item: str | SelectionBody) -> object:
    if isinstance(item, str):
        return as_selection(item)
    from grange.definitions.references import select

    fields = item.model_dump(exclude={"source", "features"})
    return select(item.source, *item.features, **fields)


ROUTERS = (router, explaining)
